"""Every error a user may meet, with the exit code it ends in."""

from __future__ import annotations

from collections.abc import Sequence


class RaysweepError(Exception):
    """Base of our errors: shown as one message, without a traceback."""

    exit_code = 1


class InputError(RaysweepError):
    """What was given is wrong; nothing was written.

    Args:
        problems: one line each: where, what was wrong, the value, what is valid, the likely fix.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class StoreDamaged(InputError):
    """A file of the store is torn, foreign or of another schema; the message names it."""


class StoreBusy(RaysweepError):
    """Another launch owns the store."""

    exit_code = 3


class Fenced(RaysweepError):
    """A later launch took the store over while this one was paused; it can commit nothing more."""

    exit_code = 3


class StoreWriteFailed(RaysweepError):
    """The store could not be written (a full disk, a lost mount); what was acknowledged is safe."""


class StoreDenied(InputError):
    """The place of a store refuses: no such bucket, no credentials, no access."""

    def __init__(self, store: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"store {store}: {reason}")


class StoreUnreachable(RaysweepError):
    """No answer came from a store's place in time.

    Args:
        store: its address.
        reason: in short.
        first: none ever came to this process: the address is wrong, as likely as not.
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
