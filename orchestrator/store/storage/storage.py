"""Where a store's files lie: what every such place offers, and which one a path or address names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from raysweep.orchestrator.errors import InputError, StoreDamaged

if TYPE_CHECKING:
    import pyarrow as pa


class Lock(Protocol):
    """A held lock."""

    def release(self) -> None:
        """Give the lock back."""


class Storage(Protocol):
    """The only operations that the store needs. A name is `folder/file` or `file`."""

    @property
    def locks(self) -> bool:
        """Whether a lock tells that an owner on this machine is dead."""

    @property
    def readers(self) -> int:
        """How many files are best read at once."""

    @property
    def location(self) -> str:
        """The same place, for another process in another folder."""

    def exists(self) -> bool:
        """Whether anything is there."""

    def check_writable(self) -> None:
        """Raise InputError if nothing can be written here; writes nothing."""

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Make folders, where there is such a thing."""

    def create(self, name: str, data: bytes) -> bool:
        """Make a file appear, durably, in one step; False if the name is taken."""

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite a file in one step; for what may be lost (a heartbeat)."""

    def read(self, name: str) -> bytes | None:
        """The file's content; None if it is not there."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if there is no such folder."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    def delete_folder(self, name: str) -> None:
        """Remove a folder and the files in it, if it is there."""

    def open(self, name: str) -> pa.NativeFile:
        """The file for pyarrow, to read here and there; FileNotFoundError if it is not there."""

    def locate(self, name: str) -> str:
        """Where polars finds the file."""

    @property
    def reading(self) -> dict[str, Any] | None:
        """The `storage_options` with which polars reads it."""

    def sweep_temporary(self) -> None:
        """Remove what killed writers left; only the owner may."""

    def try_lock(self) -> Lock | None:
        """The host-wide lock, or None while a living process holds it."""


SCHEMES = ("s3", "gs", "az")
SETTINGS = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ALLOW_HTTP")
"""Variables that say where an object store is, and are no secrets."""
_PLACES = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"


def open_storage(location: str) -> Storage:
    """The place that a store's path or address names.

    Raises:
        InputError: there is no such kind of place.
    """
    scheme, is_url, _ = location.partition("://")
    if is_url:
        if scheme.lower() not in SCHEMES:
            raise InputError(f"store {scheme}://...: no such kind of place; give a folder, {_PLACES}")
        from raysweep.orchestrator.store.storage.object import ObjectStorage

        return ObjectStorage(location)
    if slip := re.match(r"(s3a?|gcs|abfss?|" + "|".join(SCHEMES) + r"):", location, re.IGNORECASE):
        named = location.rpartition("@")[2]  # without a secret that was put before it
        raise InputError(f"store {named!r}: {slip[1]}: is no folder; for an object store write {_PLACES}")
    from raysweep.orchestrator.store.storage.local import LocalStorage

    return LocalStorage(location)


def exists(storage: Storage, name: str) -> bool:
    """Whether a file of this name is there, whatever it holds.

    Raises:
        StoreDamaged: something else than a file has its name.
    """
    try:
        storage.size(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_at_most(storage: Storage, name: str, most: int) -> bytes | None:
    """A file's content; None if it is not there.

    Raises:
        StoreDamaged: it is of more than `most` bytes, as no file of its kind is.
    """
    try:
        size = storage.size(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if size > most:
        raise StoreDamaged(f"{name}: foreign: {size:,} bytes, where {most:,} are plenty; move it elsewhere")
    return storage.read(name)
