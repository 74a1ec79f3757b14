"""This user's folder on a machine's own disk, for what need not outlive a launch there."""

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
"""How long what a worker left behind is kept: stacks of the dying, checkpoints that no store's owner can reach."""
_FAULTS, _STORE = re.compile(r"faults-[0-9a-f]{12}"), re.compile(r"store-[0-9a-f]{16}")


def scratch() -> Path:
    """The folder, made if need be; nobody else may read or write it.

    Raises:
        RaysweepError: somebody else's folder, or a link, has its name.
    """
    path = Path(tempfile.gettempdir()) / f"raysweep-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RaysweepError(f"{path}: not a folder of this user; remove it, or set TMPDIR")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def remove_old() -> list[Path]:
    """Remove what workers on this machine left in the folder `KEPT_DAYS` ago and longer; what was removed.

    Their launches' drivers, on other machines, can't. Only what has a name and place of ours is looked at.
    """
    found = []
    for folder in _folders(scratch()):
        if _FAULTS.fullmatch(folder.name):
            found.append(folder)
        elif _STORE.fullmatch(folder.name):
            found += [cell for cell in _folders(folder / "checkpoints") if CELL_ID.fullmatch(cell.name)]
    limit = time.time() - KEPT_DAYS * 86_400
    old = [folder for folder in found if _last_change(folder) < limit]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)  # another worker may be at it
    return old


def _folders(path: Path) -> list[Path]:
    """The folders in one, links left out; none where it is none itself."""
    if path.is_symlink() or not path.is_dir():
        return []
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        return sorted(path / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


def _last_change(folder: Path) -> float:
    times = [time.time()]  # of one that goes at this moment
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        times = [folder.lstat().st_mtime, *(entry.stat(follow_symlinks=False).st_mtime for entry in entries)]
    return max(times)
