"""What is shipped to workers: a folder that they import from, in place of whatever lies around the driver."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

_SKIP = {
    "results",
    "data",
    "build",
    "dist",
    "node_modules",
    "orchestrator",
    "workloads",
    "analysis",
    "__pycache__",
}


def fill(stage: Path, ship: Sequence[str]) -> None:
    """Put into a new folder what workers import: our two packages and the users' Python files.

    Args:
        stage: the folder; made.
        ship: folders whose Python files are taken.
    """
    import orchestrator
    import workloads

    stage.mkdir()
    for package in (orchestrator, workloads):
        source = Path(package.__path__[0])
        shutil.copytree(source, stage / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ship:
        for path in sorted(Path(folder).iterdir()):
            if path.name.startswith(".") or path.name in _SKIP:
                continue
            if path.suffix == ".py" and path.is_file():
                shutil.copy2(path, stage / path.name)
            elif (path / "__init__.py").is_file():
                shutil.copytree(path, stage / path.name, ignore=_only_python, dirs_exist_ok=True)


def _only_python(folder: str, names: list[str]) -> set[str]:
    kept = {
        n for n in names if n.endswith(".py") or ((Path(folder) / n).is_dir() and n not in {"__pycache__", "results"})
    }
    return set(names) - {n for n in kept if not n.startswith(".")}
