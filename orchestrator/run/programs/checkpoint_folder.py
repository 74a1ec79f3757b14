"""The folder for a program's placeholder `{checkpoint}`: saved to the store, and restored in the next attempt."""

from __future__ import annotations

import io
import shutil
import tarfile
import time
from pathlib import Path

from raysweep.orchestrator.store.checkpoints import Checkpoint

MAX_BYTES = 2**30
"""Maximum total bytes of the folder's files; a larger folder is not saved."""
SAVE_S = 5.0
"""Minimum seconds between two saves while the program runs."""
MAX_SHARE = 0.05
"""Maximum share of the run time that is spent on saving."""
SETTLE_S = 1.0
"""A save needs this many seconds without a change of any file. A file that has just changed may be half written."""

_State = tuple[tuple[str, int, int], ...]


class CheckpointFolder:
    """A program's checkpoint folder.

    Args:
        path: the folder. It is created with the files of the cell's last save, from any attempt.
        checkpoint: stores the saved folder.
    """

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path, self._checkpoint = path, checkpoint
        self.too_large = False
        shutil.rmtree(path, ignore_errors=True)  # left by a killed worker
        path.mkdir(parents=True)
        data = checkpoint.load()
        if data is not None:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.extractall(path, filter="data")
        self._saved, self._next = self._state(), time.monotonic() + SAVE_S

    def save_if_settled(self) -> None:
        """Save the folder if it has changed, no file has changed for `SETTLE_S` seconds, and the next save is due."""
        if time.monotonic() < self._next:
            return
        state = self._state()
        if state != self._saved and all(time.time() - at / 1e9 > SETTLE_S for _, _, at in state):
            self.save()

    def save(self) -> None:
        """Save the folder if it has changed since the last save, unless it is larger than `MAX_BYTES`.

        On a draining node this raises `Preempted`, and the cell is requeued.
        """
        began, state = time.monotonic(), self._state()
        if state == self._saved and not (self._checkpoint.draining and state):
            return
        self.too_large = sum(size for _, size, _ in state) > MAX_BYTES
        if self.too_large:
            return
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.add(self.path, arcname=".")
        self._saved = state
        self._checkpoint.save(data.getvalue())
        self._next = time.monotonic() + max(SAVE_S, (time.monotonic() - began) / MAX_SHARE)

    def remove(self) -> None:
        """Remove the folder from this machine."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _state(self) -> _State:
        paths = []
        for path in sorted(self.path.rglob("*")):
            try:
                status = path.lstat()
            except FileNotFoundError:  # removed meanwhile
                continue
            if not path.is_dir():
                paths.append((path.relative_to(self.path).as_posix(), status.st_size, status.st_mtime_ns))
        return tuple(paths)
