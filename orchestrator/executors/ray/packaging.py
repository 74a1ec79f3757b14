"""What is shipped to workers: a folder that they import from, in place of whatever lies around the driver."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from orchestrator.imports import OURS

_SKIP = {
    "results",
    "data",
    "build",
    "dist",
    "node_modules",
    *OURS,
    "__pycache__",
}


def fill(stage: Path, ship: Mapping[str, Iterable[Path]]) -> None:
    """Put into a new folder what workers import: our two packages and the users' Python files.

    Args:
        stage: the folder; made.
        ship: folders whose Python files are taken -> see `python_files`.
    """
    stage.mkdir()
    packages(stage, ("orchestrator", "workloads"))
    for folder, besides in ship.items():
        python_files(Path(folder), stage, besides)


def packages(stage: Path, names: Sequence[str]) -> None:
    """Copy packages of ours, as they are imported here."""
    for name in names:
        found = importlib.util.find_spec(name)
        assert found is not None  # noqa: S101 - they are installed together
        assert found.submodule_search_locations  # noqa: S101
        source = Path(found.submodule_search_locations[0])
        shutil.copytree(source, stage / name, ignore=shutil.ignore_patterns("__pycache__"))


def python_files(folder: Path, into: Path, besides: Iterable[Path] = ()) -> None:
    """Copy a folder's modules and packages: their Python files, nothing else.

    Args:
        folder: of users' modules.
        into: where to.
        besides: files, relative to the folder, that are taken wherever they lie: of folders that are no packages.
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _SKIP:
            continue
        if path.suffix == ".py" and path.is_file():
            shutil.copy2(path, into / path.name)
        elif (path / "__init__.py").is_file():
            shutil.copytree(path, into / path.name, ignore=_only_python, dirs_exist_ok=True)
    for name in besides:
        if not (into / name).exists():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, into / name)


def _only_python(folder: str, names: list[str]) -> set[str]:
    kept = {
        n for n in names if n.endswith(".py") or ((Path(folder) / n).is_dir() and n not in {"__pycache__", "results"})
    }
    return set(names) - {n for n in kept if not n.startswith(".")}
