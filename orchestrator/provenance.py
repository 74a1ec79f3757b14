"""Which commit the code that runs comes from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """A git commit and what stood uncommitted on it."""

    commit: str
    dirty: str | None  # 16 hex characters of the uncommitted diff's digest; None where clean


SHIPPED = "RAYSWEEP_COMMITS"
"""Environment variable of a submitted job: the commits that its copy of the code was made of, as JSON."""


def shipped() -> dict[str, Commit]:
    """Source digest -> commit, as the machine that submitted this job found it; empty elsewhere."""
    told: dict[str, tuple[str, str | None]] = json.loads(os.environ.get(SHIPPED, "{}"))
    return {digest: Commit(*commit) for digest, commit in told.items()}


def to_ship(commits: Mapping[str, Commit]) -> dict[str, str]:
    """The environment in which `shipped` gives these."""
    return {SHIPPED: json.dumps(commits)}


def commit_of(source_path: str) -> Commit | None:
    """The commit of the repository that holds this file, if it is a tracked file of one."""
    folder = Path(source_path).parent
    try:
        if not _git(folder, "ls-files", "--error-unmatch", Path(source_path).name):
            return None
        head = _git(folder, "rev-parse", "HEAD").decode().strip()
        diff = _git(folder, "diff", "HEAD", "--binary")
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or no repository: an installed package
    return Commit(head, hashlib.sha256(diff).hexdigest()[:16] if diff else None)


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(  # noqa: S603 - arguments are ours, no shell
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
        check=True,
        capture_output=True,
        timeout=20,
    ).stdout
