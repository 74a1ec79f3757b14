"""A cell's own folder on the worker's disk (`context.folder`)."""

from __future__ import annotations

import shutil
from pathlib import Path


class CellFolder:
    """A folder that one attempt may fill. It is created at its first use.

    Args:
        parent: the folder that contains it.
        name: its name in `parent`. An old folder of this name, which a killed worker left, is removed.
    """

    def __init__(self, parent: Path, name: str) -> None:
        self._parent, self._name = parent, name
        self._path: Path | None = None

    def beside(self, name: str) -> CellFolder:
        """Return another folder of the attempt, whose name is this folder's name, a dot and `name`."""
        return CellFolder(self._parent, f"{self._name}.{name}")

    @property
    def is_used(self) -> bool:
        """Whether the folder has been created."""
        return self._path is not None

    @property
    def path(self) -> Path:
        """The folder's path. The first use creates the folder, empty."""
        if self._path is None:
            path = self._parent / self._name
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True, mode=0o700)
            self._path = path
        return self._path

    def remove(self) -> None:
        """Remove the folder."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
