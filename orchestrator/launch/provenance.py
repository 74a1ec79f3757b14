"""Which commit the code that runs comes from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raysweep.orchestrator.sweep.source import content


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


def commit_of(source_path: str, files: Sequence[Path] = ()) -> Commit | None:
    """The commit of the repository that holds a file, if it is a tracked file of one.

    Args:
        source_path: the file.
        files: all that the code is made of; those that the repository does not track are uncommitted too.
    """
    folder = Path(source_path).parent
    try:
        if not _git(folder, "ls-files", "--error-unmatch", Path(source_path).name):
            return None
        head = _git(folder, "rev-parse", "HEAD").decode().strip()
        uncommitted = _git(folder, "diff", "HEAD", "--binary")
        top = Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\n"))).resolve()
        listed = _git(folder, "ls-files", "-z", "--full-name", "--recurse-submodules", ":/")
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or no repository: an installed package
    tracked = {top / os.fsdecode(name) for name in listed.split(b"\0")}
    for file in files:
        if file.resolve() not in tracked:
            uncommitted += file.name.encode() + b"\0" + content(file) + b"\0"
    return Commit(head, hashlib.sha256(uncommitted).hexdigest()[:16] if uncommitted else None)


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(  # noqa: S603 - arguments are ours, no shell
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
        check=True,
        capture_output=True,
        timeout=20,
    ).stdout
