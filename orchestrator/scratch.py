"""This user's folder on a machine's own disk, for what need not outlive a launch there."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from orchestrator.errors import RaysweepError


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
