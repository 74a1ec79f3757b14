"""The staged folder: a copy of the raysweep package and of users' modules, which workers import."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import raysweep
from raysweep.orchestrator.sweep.loading.source import OURS

_SKIP = {"results", "data", "build", "dist", "node_modules", OURS, "__pycache__"}


def stage_code(stage: Path, modules: Mapping[str, Mapping[Path, bytes | None]]) -> None:
    """Copy our package and users' Python files to a new folder.

    Args:
        stage: the folder to create.
        modules: folder of users' modules -> the workloads' files in it (see the argument `own` of `python_files`).
    """
    stage.mkdir()
    copy_package(stage, without=("analysis",))
    for folder, own in modules.items():
        python_files(Path(folder), stage, own)


def copy_package(stage: Path, without: Iterable[str] = ()) -> None:
    """Copy the raysweep package that this process has imported. Folders named in `without` are left out."""
    source = Path(raysweep.__file__).parent  # in a checkout its folders are links; copytree follows them
    shutil.copytree(source, stage / OURS, ignore=shutil.ignore_patterns("__pycache__", *without))


def python_files(folder: Path, into: Path, own: Mapping[Path, bytes | None] = MappingProxyType({})) -> None:
    """Copy the Python files of a folder's modules and packages.

    Args:
        folder: the folder of users' modules.
        into: an existing folder.
        own: path of a workload's file, relative to `folder` -> content to write, as it was when the digest was
            computed; None: the file is copied as it is now. These files may lie in folders without `__init__.py`.
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _SKIP:
            continue
        if path.suffix == ".py" and path.is_file():
            shutil.copy2(path, into / path.name)
        elif (path / "__init__.py").is_file():
            shutil.copytree(path, into / path.name, ignore=_only_python, dirs_exist_ok=True)
    for name, text in own.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            shutil.copy2(folder / name, into / name)
        else:
            (into / name).write_bytes(text)


def _only_python(folder: str, names: list[str]) -> set[str]:
    folders = {name for name in names if (Path(folder) / name).is_dir()} - {"__pycache__", "results"}
    return {name for name in names if name.startswith(".") or not (name.endswith(".py") or name in folders)}
