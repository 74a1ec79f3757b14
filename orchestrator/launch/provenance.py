"""Provenance: the git commit of each workload's code."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from raysweep.orchestrator.sweep.loading.workload import Workload


class Commit(NamedTuple):
    """A git commit, and a digest of the uncommitted changes to it."""

    commit: str
    dirty: str | None  # 16 hex characters of the digest of the uncommitted diff; None if clean


SHIPPED = "RAYSWEEP_COMMITS"
"""Name of the environment variable that holds the commits of the shipped code in a submitted job, as JSON."""


def shipped() -> dict[str, Commit]:
    """Return the commits of the shipped code, by source digest, as the submitting machine recorded them.

    Empty outside a submitted job.
    """
    commits: dict[str, tuple[str, str | None]] = json.loads(os.environ.get(SHIPPED, "{}"))
    return {digest: Commit(*commit) for digest, commit in commits.items()}


def to_ship(commits: Mapping[str, Commit]) -> dict[str, str]:
    """Return environment variables that pass these commits to a submitted job, where `shipped` reads them."""
    return {SHIPPED: json.dumps(commits)}


def commits_of(workloads: Mapping[str, Workload]) -> dict[str, Commit]:
    """Return the commit of each workload's code, by source digest. Code outside a git repository is left out.

    In a submitted job, the result also has the commits that the submitting machine recorded (see `shipped`).
    """
    commits = {}
    for w in workloads.values():
        commits[w.source_digest] = commit_of(w.source_path, w.files())
    return shipped() | {digest: commit for digest, commit in commits.items() if commit is not None}


def commit_of(source_path: str, files: Mapping[str, bytes] = MappingProxyType({})) -> Commit | None:
    """Return the commit of the repository that tracks a file; None if no repository tracks it.

    Args:
        source_path: the file.
        files: content of all files of the code, by path. Files that the repository does not track count as
            uncommitted changes.
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
        return None  # git is not installed, or the file is not in a repository, as in an installed package
    tracked = {top / os.fsdecode(name) for name in listed.split(b"\0")}
    for name, text in files.items():
        if Path(name).resolve() not in tracked:
            uncommitted += Path(name).name.encode() + b"\0" + text + b"\0"
    return Commit(head, hashlib.sha256(uncommitted).hexdigest()[:16] if uncommitted else None)


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(  # noqa: S603 - arguments are ours, no shell
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
        check=True,
        capture_output=True,
        timeout=20,
    ).stdout
