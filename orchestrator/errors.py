"""Every error that a user may meet, with its exit code."""

from __future__ import annotations

from collections.abc import Sequence


class RaysweepError(Exception):
    """Base class of our errors, which are printed without a traceback.

    Args:
        problems: one line each: where, what is wrong, the value, what is valid, the likely fix.
    """

    exit_code = 1

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class InputError(RaysweepError):
    """The input is wrong; nothing was written."""

    exit_code = 2


class StoreDamaged(InputError):
    """A file of the store is torn, foreign or of another schema; the message names the file."""


class StoreBusy(RaysweepError):
    """Another launch owns the store."""

    exit_code = 3


class Fenced(RaysweepError):
    """A later launch took over the store while this one was paused; this one can no longer commit."""

    exit_code = 3


class StoreWriteFailed(RaysweepError):
    """The store could not be written (a full disk, a lost mount); acknowledged results are safe."""


class StoreDenied(InputError):
    """The store's storage refuses access: no such bucket, no credentials, no permission."""

    def __init__(self, store: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"store {store}: {reason}")


class StoreUnreachable(RaysweepError):
    """The store's storage did not answer in time.

    Args:
        store: its address.
        reason: one line.
        first: it has never answered this process, so that the address is probably wrong.
    """

    def __init__(self, store: str, reason: str, *, first: bool) -> None:
        self.reason, self.exit_code = reason, 2 if first else 1
        super().__init__(f"store {store}: {reason}")


class ClusterUnavailable(RaysweepError):
    """Ray could not be started or reached."""


EXTRAS = {
    "aiohttp": "cluster",
    "h5py": "paper",
    "matplotlib": "paper",
    "numba": "paper",
    "obstore": "objects",
    "pooch": "paper",
    "sklearn": "paper",
    "torch": "torch",
}
"""Modules that a plain `pip install raysweep` leaves out, and the extra that brings each."""


def missing_extra(error: ModuleNotFoundError) -> InputError | None:
    """What to install, where the missing module belongs to an extra; None for any other module."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    return InputError(f"needs {module}, which is not installed: pip install 'raysweep[{extra}]'") if extra else None
