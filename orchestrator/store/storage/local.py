"""The store's files on a local or network disk: create-if-absent, durable at once.

One kind of `storage.Storage`. A name is `folder/file` or `file`.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import shutil
import stat
import weakref
from pathlib import Path

import pyarrow as pa

from raysweep.orchestrator.errors import InputError, StoreDamaged, StoreWriteFailed
from raysweep.orchestrator.text import encodable

_counter = itertools.count()


def _temporary() -> str:
    """A name that no other writer has, on any machine that shares the disk."""
    return f"{_process[0]}-{next(_counter)}"


_process = [secrets.token_hex(8)]


class LocalStorage:
    """Files under one folder.

    Args:
        path: the store's folder; made at the first write. Messages name it as given.

    Raises:
        InputError: no folder can have this path.
    """

    locks = True
    readers = 1

    def __init__(self, path: str) -> None:
        self._given = path
        if not encodable(path):
            raise InputError(f"store {path!r}: is not UTF-8, which readers of Parquet need")
        try:
            self.root = Path(path).expanduser().absolute()  # a cell may change the current folder
            self.root.exists()
        except (RuntimeError, OSError) as error:  # no such user's home, a name too long
            raise InputError(f"store {path}: no path: {getattr(error, 'strerror', None) or error}") from None

    def __str__(self) -> str:
        return self._given

    @property
    def location(self) -> str:
        """Its absolute path."""
        return str(self.root)

    def _path(self, name: str) -> Path:
        """The file's path; links within a store, which may come from a stranger, are not followed.

        Raises:
            StoreDamaged: it is a link, or lies behind one.
        """
        path = self.root
        for part in Path(name).parts:
            path = path / part
            if path.is_symlink():
                raise StoreDamaged(f"{name}: a link; what is in a store lies in its own folder: remove it")
        return path

    def exists(self) -> bool:
        """Whether the store's folder is there and holds anything.

        Raises:
            InputError: the path is something else than a readable folder.
        """
        if self.root.is_symlink() and not self.root.exists():
            raise InputError(f"store {self}: a link to nothing")
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"store {self}: is a file; give a folder")
        try:
            return self.root.is_dir() and any(self.root.iterdir())
        except PermissionError:
            raise InputError(f"store {self}: not readable by this user") from None

    def check_writable(self) -> None:
        """Raise InputError if nothing can be written here; writes nothing."""
        at = self.root
        while not at.exists() and at != at.parent:
            at = at.parent
        if not at.is_dir() or not os.access(at, os.W_OK | os.X_OK):
            raise InputError(f"store {self}: {at} is not a folder this user may write to")

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Make the store's folders."""
        try:
            for folder in folders:
                path = self._path(folder)
                if not path.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    _sync_folder(path.parent)
        except OSError as error:
            raise InputError(f"store {self}: cannot be made: {error.strerror}") from None

    def create(self, name: str, data: bytes) -> bool:
        """Make a file with this content appear, durably, in one step; False if the name is taken.

        Raises:
            StoreWriteFailed: nothing appeared (the disk is full, say).
        """
        final = self._path(name)
        # Not named .parquet: readers' globs match hidden and half-written files.
        temporary = self.root / "_tmp" / _temporary()
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
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.strerror or error}") from error
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite a file in one step; for what may be lost (a heartbeat)."""
        temporary = self.root / "_tmp" / _temporary()
        try:
            temporary.write_bytes(data)
            temporary.replace(self._path(name))
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """The file's content; None if it is not there.

        Raises:
            StoreDamaged: something else than a file has its name, or it can't be read.
        """
        try:
            # Not blocking: of a pipe that somebody put there, opening would wait for a writer.
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise StoreDamaged(f"{name}: is no file; move it elsewhere")
            with open(descriptor, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreDamaged(f"{name}: cannot be read: {error.strerror}") from None

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if there is no such folder.

        Raises:
            StoreDamaged: it is no folder.
        """
        try:
            return sorted(os.listdir(self._path(folder)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreDamaged(f"{folder or self}: cannot be read: {error.strerror}") from None

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: it is not there.
            StoreDamaged: something else than a file has its name.
        """
        found = self._path(name).lstat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreDamaged(f"{name}: is no file; move it elsewhere")
        return found.st_size

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._path(name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """Remove a folder and what is in it, if it is there."""
        shutil.rmtree(self._path(name), ignore_errors=True)  # a late writer may put a file there meanwhile

    def open(self, name: str) -> pa.NativeFile:
        """The file for pyarrow.

        Raises:
            FileNotFoundError: it is not there.
            StoreDamaged: something else than a file has its name.
        """
        self.size(name)
        return pa.OSFile(str(self.root / name))

    def locate(self, name: str) -> str:
        """Where polars finds the file."""
        return str(self.root / name)

    @property
    def reading(self) -> None:
        """Polars needs to know nothing more."""
        return None

    def sweep_temporary(self) -> None:
        """Remove what killed writers left; only the owner may."""
        for name in self.names("_tmp"):
            if not (self.root / "_tmp" / name).is_dir():  # not ours, then; `store check` names it
                self.delete(f"_tmp/{name}")

    def try_lock(self) -> Lock | None:
        """The host-wide lock, or None while a living process holds it."""
        try:
            descriptor = os.open(self._path("_lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise StoreDamaged(f"store {self}: its _lock cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return Lock(descriptor)


class Lock:
    """A held lock; the system frees it when the process dies, however it dies, though forked children live on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _held.add(self)

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _let_go() -> None:
    for lock in list(_held):
        lock.release()  # closes this process's copy of the descriptor; the parent's still holds


def _rename() -> None:
    _process[0] = secrets.token_hex(8)


os.register_at_fork(after_in_child=_let_go)
os.register_at_fork(after_in_child=_rename)


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
