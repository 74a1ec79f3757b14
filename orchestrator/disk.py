"""Where a store's files lie: what every such place offers, and which one a path or address names."""

from __future__ import annotations

from typing import Protocol

from orchestrator.errors import InputError


class Lock(Protocol):
    """A held lock."""

    def release(self) -> None:
        """Give the lock back."""


class Disk(Protocol):
    """The only operations that the store needs. A name is `folder/file` or `file`."""

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

    def locate(self, name: str) -> str:
        """Where Parquet readers find the file."""

    def sweep_temporary(self) -> None:
        """Remove what killed writers left; only the owner may."""

    def try_lock(self) -> Lock | None:
        """The host-wide lock, or None while a living process holds it."""


def open_disk(location: str) -> Disk:
    """The place that a store's path or address names.

    Raises:
        InputError: there is no such kind of place.
    """
    if "://" in location:
        raise InputError(f"store {location!r}: object stores are not supported yet; give a folder")
    from orchestrator.local_disk import LocalDisk

    return LocalDisk(location)
