"""A cell's own folder on the worker's disk (`context.folder`)."""

from __future__ import annotations

import shutil
from pathlib import Path


class CellFolder:
    """A folder that one attempt may fill, made at its first use.

    Args:
        path: its path, which does not exist yet or was left by a killed worker.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.is_used = path, False

    @property
    def path(self) -> Path:
        """The folder's path; the folder is made, empty, if this is the first use."""
        if not self.is_used:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path.mkdir(parents=True, mode=0o700)
            self.is_used = True
        return self._path

    def remove(self) -> None:
        """Remove the folder."""
        if self.is_used:
            shutil.rmtree(self._path, ignore_errors=True)
