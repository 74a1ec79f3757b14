"""What is shipped to workers: a folder that they import from, in place of whatever lies around the driver."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import raysweep
from raysweep.orchestrator.sweep.source import OURS

_SKIP = {
    "results",
    "data",
    "build",
    "dist",
    "node_modules",
    OURS,
    "__pycache__",
}


def stage_code(stage: Path, ship: Mapping[str, Iterable[Path]]) -> None:
    """Put into a new folder what workers import: our package and the users' Python files.

    Args:
        stage: the folder; made.
        ship: folders whose Python files are taken -> see `python_files`.
    """
    stage.mkdir()
    ship_package(stage, without=("analysis",))
    for folder, besides in ship.items():
        python_files(Path(folder), stage, besides)


def ship_package(stage: Path, without: Iterable[str] = ()) -> None:
    """Copy raysweep, as it is imported here, but for some of its folders."""
    source = Path(raysweep.__file__).parent  # in a checkout its folders are links, which are followed
    shutil.copytree(source, stage / OURS, ignore=shutil.ignore_patterns("__pycache__", *without))


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
