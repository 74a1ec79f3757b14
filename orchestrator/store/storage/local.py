"""Storage on a local or network disk. A new file never overwrites another one, and is durable at once."""

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
    """Return a file name that no other writer uses, on any machine that shares the disk."""
    return f"{_process[0]}-{next(_counter)}"


_process = [secrets.token_hex(8)]


class LocalStorage:
    """A store's files under one folder.

    Args:
        path: the store's folder, created by the first write. Messages repeat it unchanged.

    Raises:
        InputError: the path is invalid.
    """

    locks = True
    remote = False
    readers = 1

    def __init__(self, path: str) -> None:
        self._path_text = path
        if not encodable(path):
            raise InputError(f"store {path!r}: is not UTF-8, which readers of Parquet require")
        try:
            self.root = Path(path).expanduser().absolute()  # a cell may change the current folder
            self.root.exists()
        except (RuntimeError, OSError) as error:  # no such user's home, a name too long
            raise InputError(f"store {path}: invalid path: {getattr(error, 'strerror', None) or error}") from None

    def __str__(self) -> str:
        return self._path_text

    @property
    def location(self) -> str:
        """The absolute path of the store's folder."""
        return str(self.root)

    def _path(self, name: str) -> Path:
        """Return the path of a file. Links are refused, since the store may come from a stranger.

        Raises:
            StoreDamaged: a part of the path is a link.
        """
        path = self.root
        for part in Path(name).parts:
            path = path / part
            if path.is_symlink():
                raise StoreDamaged(f"{name}: is a link, but a store's files must lie in its own folder; remove it")
        return path

    def exists(self) -> bool:
        """Tell whether the store's folder exists and is not empty.

        Raises:
            InputError: the path is not a readable folder.
        """
        if self.root.is_symlink() and not self.root.exists():
            raise InputError(f"store {self}: is a link to a path that does not exist")
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"store {self}: is a file; give a folder")
        try:
            return self.root.is_dir() and any(self.root.iterdir())
        except PermissionError:
            raise InputError(f"store {self}: is not readable by this user") from None

    def check_writable(self) -> None:
        """Raise InputError if the folder is not writable. Writes nothing itself."""
        existing = self.root
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(f"store {self}: {existing} is not a folder this user may write to")

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Create the store's folders."""
        try:
            for folder in folders:
                path = self._path(folder)
                if not path.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    _sync_folder(path.parent)
        except OSError as error:
            raise InputError(f"store {self}: cannot be created: {error.strerror}") from None

    def create(self, name: str, data: bytes) -> bool:
        """Create a file durably and in one step; return False if the name is taken.

        Raises:
            StoreWriteFailed: the file was not created, for example because the disk is full.
        """
        final = self._path(name)
        try:
            try:
                self._link(final, data)
            except FileNotFoundError:  # a cleaner of temporary files came between
                self._restore_temporary(final.parent)
                self._link(final, data)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise StoreWriteFailed(
                f"store {self}: cannot write {name}: the store was removed or renamed while this process wrote to it"
            ) from error
        except OSError as error:
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.strerror or error}") from error
        return True

    def _link(self, final: Path, data: bytes) -> None:
        # Not named .parquet, since readers' globs match hidden files, too.
        temporary = self.root / "_tmp" / _temporary()
        try:
            _write_synced(temporary, data)
            os.link(temporary, final)  # create-if-absent; a rename would overwrite
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)

    def _restore_temporary(self, folder: Path) -> None:
        """Create `_tmp` again if it was deleted, unless `folder`, the folder of the file to write, is also gone."""
        if folder.is_dir():
            (self.root / "_tmp").mkdir(exist_ok=True)

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite a file in one step, but not durably; for heartbeats."""
        final, temporary = self._path(name), self.root / "_tmp" / _temporary()
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                self._restore_temporary(final.parent)
                temporary.write_bytes(data)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)

    def exchange(self, name: str, old: bytes, new: bytes) -> bool:
        """Overwrite a file durably and in one step if it still contains `old`; otherwise return False.

        Another process could write between the check and the step, but the owner's lock excludes this.

        Raises:
            StoreWriteFailed: the file was not overwritten, for example because the disk is full.
        """
        final, temporary = self._path(name), self.root / "_tmp" / _temporary()
        if self.read(name) != old:
            return False
        try:
            try:
                _write_synced(temporary, new)
                temporary.replace(final)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(final.parent)
        except OSError as error:
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.strerror or error}") from error
        return True

    def read(self, name: str) -> bytes | None:
        """Read a file. Returns None if it does not exist.

        Raises:
            StoreDamaged: the name is not that of a regular file, or the file cannot be read.
        """
        try:
            # Non-blocking, since opening a pipe, which a stranger may have put there, would wait for its writer.
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise StoreDamaged(f"{name}: is not a file; move it elsewhere")
            with open(descriptor, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreDamaged(f"{name}: cannot be read: {error.strerror}") from None

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; an empty list if it does not exist.

        Raises:
            StoreDamaged: the path is not a folder.
        """
        try:
            return sorted(os.listdir(self._path(folder)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreDamaged(f"{folder or self}: cannot be read: {error.strerror}") from None

    def size(self, name: str) -> int:
        """Return the size of a file in bytes.

        Raises:
            FileNotFoundError: it does not exist.
            StoreDamaged: it is not a regular file.
        """
        status = self._path(name).lstat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreDamaged(f"{name}: is not a file; move it elsewhere")
        return status.st_size

    def delete(self, name: str) -> None:
        """Remove a file, if it exists."""
        self._path(name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """Remove a folder and the files in it, if it exists."""
        shutil.rmtree(self._path(name), ignore_errors=True)  # a late writer may add a file meanwhile

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for pyarrow.

        Raises:
            FileNotFoundError: it does not exist.
            StoreDamaged: it is not a regular file.
        """
        self.size(name)
        return pa.OSFile(str(self.root / name))

    def locate(self, name: str) -> str:
        """Return the path of a file, in the form that polars reads."""
        return str(self.root / name)

    @property
    def reading(self) -> None:
        """Polars' `storage_options`; None, since a local disk needs no options."""
        return None

    def sweep_temporary(self) -> None:
        """Remove temporary files of killed writers. Only the store's owner may do this."""
        for name in self.names("_tmp"):
            if not (self.root / "_tmp" / name).is_dir():  # a foreign folder, which `store check` reports
                self.delete(f"_tmp/{name}")

    def try_lock(self) -> Lock | None:
        """Acquire the host-wide lock. Returns None if another living process holds it."""
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
    """An acquired lock. The system frees it when the process dies, even if forked children live on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _acquired.add(self)

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_acquired: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_parent() -> None:
    """Close a forked child's copies of lock descriptors, so that only the parent holds the locks."""
    for lock in list(_acquired):
        lock.release()
    _process[0] = secrets.token_hex(8)


os.register_at_fork(after_in_child=_forget_parent)


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
