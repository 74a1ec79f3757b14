"""The user's scratch folder on a machine's own disk. Its files need not outlive a launch."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.text import CELL_ID

KEPT_DAYS = 14
"""Age in days at which old files of workers are removed: stacks of crashed workers, and local checkpoints."""
_FAULTS, _STORE = re.compile(r"faults-[0-9a-f]{12}"), re.compile(r"store-[0-9a-f]{16}")


def scratch() -> Path:
    """Return this user's scratch folder, which is created if absent. No other user may read or write it.

    Raises:
        RaysweepError: the name is taken by another user's folder, or by a link.
    """
    path = Path(tempfile.gettempdir()) / f"raysweep-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise RaysweepError(f"{path}: is not a folder of this user; remove it, or set TMPDIR")
    if stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def remove_old() -> list[Path]:
    """Remove files that workers left on this machine over `KEPT_DAYS` days ago, and return their folders.

    These workers' drivers ran on other machines, from which they cannot remove the files. Folders that are not
    raysweep's stay.
    """
    leftovers = []
    for folder in _folders(scratch()):
        if _FAULTS.fullmatch(folder.name):
            leftovers.append(folder)
        elif _STORE.fullmatch(folder.name):
            leftovers += [cell for cell in _folders(folder / "checkpoints") if CELL_ID.fullmatch(cell.name)]
    limit = time.time() - KEPT_DAYS * 86_400
    old = [folder for folder in leftovers if _last_change(folder) < limit]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)  # another worker may be removing it, too
    return old


def _folders(path: Path) -> list[Path]:
    """Return the sorted folders in `path`, without links; an empty list if `path` is not a folder."""
    if path.is_symlink() or not path.is_dir():
        return []
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        return sorted(path / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


def _last_change(folder: Path) -> float:
    times = [time.time()]  # if it is removed at this moment
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        times = [folder.lstat().st_mtime, *(entry.stat(follow_symlinks=False).st_mtime for entry in entries)]
    return max(times)
