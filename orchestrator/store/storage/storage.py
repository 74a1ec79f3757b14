"""The interface of storage backends, and the choice of a backend by a path or address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from raysweep.orchestrator.errors import InputError, StoreDamaged
from raysweep.orchestrator.store.storage.address import parse

if TYPE_CHECKING:
    import pyarrow as pa


class Lock(Protocol):
    """A lock that this process has acquired."""

    def release(self) -> None:
        """Release the lock."""


class Storage(Protocol):
    """A storage backend: the operations that a store needs. The name of a file is `folder/file` or `file`."""

    @property
    def locks(self) -> bool:
        """Whether acquiring the lock proves that no owner on this machine is alive."""

    @property
    def remote(self) -> bool:
        """Whether each read of a file is a request to a server."""

    @property
    def readers(self) -> int:
        """The number of files to read at the same time for the best speed."""

    @property
    def location(self) -> str:
        """The absolute path or address, which is valid whatever a process's current folder is."""

    def exists(self) -> bool:
        """Tell whether the storage has any files."""

    def check_writable(self) -> None:
        """Raise InputError if nothing can be written. Writes nothing itself."""

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Create folders, if the backend has them."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a file durably and in one step. Returns False if the name is taken."""

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite a file in one step, but not durably. Used for heartbeats."""

    def exchange(self, name: str, old: bytes, new: bytes) -> bool:
        """Overwrite a file durably and in one step if it still contains `old`; otherwise return False."""

    def read(self, name: str) -> bytes | None:
        """Read a file. Returns None if it does not exist."""

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; an empty list if it does not exist."""

    def size(self, name: str) -> int:
        """Return the size of a file in bytes. Raises FileNotFoundError if it does not exist."""

    def delete(self, name: str) -> None:
        """Remove a file, if it exists."""

    def delete_folder(self, name: str) -> None:
        """Remove a folder and the files in it, if it exists."""

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for pyarrow, with random access. Raises FileNotFoundError if it does not exist."""

    def locate(self, name: str) -> str:
        """Return the path or address of a file, in the form that polars reads."""

    @property
    def reading(self) -> dict[str, Any] | None:
        """Polars' `storage_options`, such as credentials; None if the backend needs none."""

    def sweep_temporary(self) -> None:
        """Remove temporary files of killed writers. Only the store's owner may do this."""

    def try_lock(self) -> Lock | None:
        """Acquire the host-wide lock. Returns None if another living process holds it."""


SCHEMES = ("s3", "gs", "az")
SETTINGS = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ALLOW_HTTP")
"""Environment variables that locate an object store and are not secret."""
_EXAMPLES = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"


def open_storage(location: str) -> Storage:
    """Open the storage that a path or address names.

    Raises:
        InputError: the path or address is invalid.
    """
    scheme, is_url, _ = location.partition("://")
    if is_url:
        if scheme.lower() not in SCHEMES:
            raise InputError(f"store {scheme}://...: unknown kind of storage; give a folder, {_EXAMPLES}")
        parse(location)  # refuses an invalid one, which may hold a secret
        try:
            from raysweep.orchestrator.store.storage.object import ObjectStorage
        except ImportError as error:
            raise InputError(
                f"store {location}: requires obstore, which is not installed: pip install 'raysweep[objects]' ({error})"
            ) from None
        return ObjectStorage(location)
    if slip := re.match(r"(s3a?|gcs|abfss?|" + "|".join(SCHEMES) + r"):", location, re.IGNORECASE):
        named = location.rpartition("@")[2]  # without a secret that may stand before it
        raise InputError(f"store {named!r}: {slip[1]}: is not a folder; for an object store write {_EXAMPLES}")
    from raysweep.orchestrator.store.storage.local import LocalStorage

    return LocalStorage(location)


def exists(storage: Storage, name: str) -> bool:
    """Tell whether a file exists.

    Raises:
        StoreDamaged: it is not a regular file.
    """
    try:
        storage.size(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_at_most(storage: Storage, name: str, most: int) -> bytes | None:
    """Read a file, but refuse one of more than `most` bytes. Returns None if it does not exist.

    Raises:
        StoreDamaged: the file is larger, so raysweep did not write it.
    """
    try:
        size = storage.size(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if size > most:
        raise StoreDamaged(f"{name}: foreign: {size:,} bytes instead of at most {most:,}; move it elsewhere")
    return storage.read(name)
