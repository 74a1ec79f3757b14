"""The store's files on a local or network disk: create-if-absent, durable at once.

The only operations the store needs, so that an object store can offer the same by conditional put:
`create`, `replace`, `read`, `names`, `delete`, `locate`, `try_lock`. A name is `folder/file` or `file`.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from pathlib import Path

from orchestrator.errors import InputError, StoreWriteFailed

_counter = itertools.count()


class LocalDisk:
    """Files under one folder.

    Args:
        root: the store's folder; made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def exists(self) -> bool:
        """Whether the store's folder is there and holds anything.

        Raises:
            InputError: the path is something else than a readable folder.
        """
        if self.root.is_symlink() and not self.root.exists():
            raise InputError(f"store {self.root}: a link to nothing")
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"store {self.root}: is a file; give a folder")
        try:
            return self.root.is_dir() and any(self.root.iterdir())
        except PermissionError:
            raise InputError(f"store {self.root}: not readable by this user") from None

    def check_writable(self) -> None:
        """Raise InputError if nothing can be written here; writes nothing."""
        at = self.root
        while not at.exists() and at != at.parent:
            at = at.parent
        if not at.is_dir() or not os.access(at, os.W_OK | os.X_OK):
            raise InputError(f"store {self.root}: {at} is not a folder this user may write to")

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Make the store's folders."""
        try:
            for folder in folders:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"store {self.root}: cannot be made: {error.strerror}") from None

    def create(self, name: str, data: bytes) -> bool:
        """Make a file with this content appear, durably, in one step; False if the name is taken.

        Raises:
            StoreWriteFailed: nothing appeared (the disk is full, say).
        """
        final = self.root / name
        # Not named .parquet: readers' globs match hidden and half-written files.
        temporary = self.root / "_tmp" / f"{os.getpid()}-{next(_counter)}"
        try:
            try:
                _write_synced(temporary, data)
                os.link(temporary, final)  # create-if-absent; a rename would overwrite
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(final.parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise StoreWriteFailed(f"store {self.root}: cannot write {name}: {error.strerror or error}") from error
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite a file in one step; for what may be lost (a heartbeat)."""
        temporary = self.root / "_tmp" / f"{os.getpid()}-{next(_counter)}"
        try:
            temporary.write_bytes(data)
            temporary.replace(self.root / name)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """The file's content; None if it is not there."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if there is no such folder."""
        try:
            return sorted(os.listdir(self.root / folder))
        except FileNotFoundError:
            return []

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: it is not there.
        """
        return (self.root / name).stat().st_size

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def locate(self, name: str) -> str:
        """Where Parquet readers find the file."""
        return str(self.root / name)

    def sweep_temporary(self) -> None:
        """Remove what killed writers left; only the owner may."""
        for name in self.names("_tmp"):
            self.delete(f"_tmp/{name}")

    def try_lock(self) -> Lock | None:
        """The host-wide lock, or None while a living process holds it."""
        descriptor = os.open(self.root / "_lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return Lock(descriptor)


class Lock:
    """A held lock; the system frees it when the process dies, however it dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
