"""The errors that raysweep reports to users, each with its exit code."""

from __future__ import annotations

from collections.abc import Sequence


class RaysweepError(Exception):
    """Base class of raysweep's own errors, which are printed without a traceback.

    Args:
        problems: the problems, one per line. A line names the place, the fault, the value, what is valid and the likely
            fix.
    """

    exit_code = 1

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class InputError(RaysweepError):
    """The input is wrong; nothing was written."""

    exit_code = 2


class StoreDamaged(InputError):
    """A file of the store (named in the message) is incomplete, not raysweep's, or of another schema."""


class StoreBusy(RaysweepError):
    """Another launch owns the store."""

    exit_code = 3


class Fenced(RaysweepError):
    """A later launch took over the store while this launch was paused. This launch can no longer commit results."""

    exit_code = 3


class StoreWriteFailed(RaysweepError):
    """The store cannot be written to, for example because the disk is full. Results committed before are safe."""


class StoreDenied(InputError):
    """The storage refuses access: the bucket does not exist, or credentials or a permission are missing."""

    def __init__(self, store: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"store {store}: {reason}")


class StoreUnreachable(RaysweepError):
    """The store's storage did not answer in time.

    Args:
        store: the store's address.
        reason: the reason, on one line.
        first: whether the storage has never answered this process. Then the address may be wrong, and the exit code
            is 2 instead of 1.
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
"""Optional module -> the extra of raysweep that installs it."""


def missing_extra(error: ModuleNotFoundError) -> InputError | None:
    """Return an error with the install command if an optional extra installs the missing module; otherwise None."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    return InputError(f"needs {module}, which is not installed: pip install 'raysweep[{extra}]'") if extra else None
