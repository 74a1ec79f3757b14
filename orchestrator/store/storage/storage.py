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
    """A storage backend: the operations that a store needs. A name is `folder/file` or `file`."""

    @property
    def locks(self) -> bool:
        """Whether acquiring the lock proves that no owner on this machine is alive."""

    @property
    def remote(self) -> bool:
        """Whether each read of a file is a request to a server."""

    @property
    def readers(self) -> int:
        """Number of files to read at once for the best speed."""

    @property
    def location(self) -> str:
        """Absolute path or address, the same for a process in another folder."""

    def exists(self) -> bool:
        """Whether the storage has any files."""

    def check_writable(self) -> None:
        """Raise InputError if nothing can be written; writes nothing itself."""

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Create folders, if the storage has them."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a file durably and in one step; return False if the name is taken."""

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite a file in one step, but not durably; for heartbeats."""

    def exchange(self, name: str, old: bytes, new: bytes) -> bool:
        """Overwrite a file durably and in one step if it still holds `old`; return False if it holds anything else."""

    def read(self, name: str) -> bytes | None:
        """Read a file; None if it does not exist."""

    def names(self, folder: str) -> list[str]:
        """Sorted names in a folder; an empty list if it does not exist."""

    def size(self, name: str) -> int:
        """Size of a file in bytes; FileNotFoundError if it does not exist."""

    def delete(self, name: str) -> None:
        """Remove a file, if it exists."""

    def delete_folder(self, name: str) -> None:
        """Remove a folder and the files in it, if it exists."""

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for pyarrow, with random access; FileNotFoundError if it does not exist."""

    def locate(self, name: str) -> str:
        """Path or address of a file for polars."""

    @property
    def reading(self) -> dict[str, Any] | None:
        """The `storage_options` for polars."""

    def sweep_temporary(self) -> None:
        """Remove temporary files of killed writers; only the owner may."""

    def try_lock(self) -> Lock | None:
        """Acquire the host-wide lock; None while another living process has it."""


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
    """Whether a file exists.

    Raises:
        StoreDamaged: it is not a regular file.
    """
    try:
        storage.size(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_at_most(storage: Storage, name: str, most: int) -> bytes | None:
    """Read a file of at most `most` bytes; None if it does not exist.

    Raises:
        StoreDamaged: the file is larger, and therefore foreign.
    """
    try:
        size = storage.size(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if size > most:
        raise StoreDamaged(f"{name}: foreign: {size:,} bytes instead of at most {most:,}; move it elsewhere")
    return storage.read(name)
