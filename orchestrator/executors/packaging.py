"""The staged folder: a copy of the raysweep package and of users' modules, which workers import."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import raysweep
from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.executors.cleanup import STAGE, LaunchFolder, end_leftovers
from raysweep.orchestrator.sweep.loading.source import OURS
from raysweep.orchestrator.waits import waiting

_SKIP = {"results", "data", "build", "dist", "node_modules", OURS, "__pycache__"}


def launch_folder(launch: str, modules: Mapping[str, Mapping[Path, bytes | None]], *, is_here: bool) -> LaunchFolder:
    """Create the folder of a launch on this machine, with the code for its workers in `stage`.

    Before that, remove what killed launches have left.

    Args:
        launch: id of the launch.
        modules: folder of users' modules -> the workloads' files in this folder (see `stage_code`).
        is_here: whether the workers run on this machine, and can use our package's compiled code.

    Raises:
        RaysweepError: the code could not be copied.
    """
    with waiting("removing files of killed launches"):
        for line in end_leftovers():
            logging.getLogger("raysweep").warning(line)
    folder = LaunchFolder(launch)
    stage = folder.path / STAGE
    try:
        stage_code(stage, modules, compiled=is_here)
    except OSError as error:  # shutil's error on several files holds a list of (from, to, why)
        folder.remove()
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        raise RaysweepError(f"the code for workers could not be copied to {stage}: {reason}") from None
    return folder


def stage_code(stage: Path, modules: Mapping[str, Mapping[Path, bytes | None]], *, compiled: bool = False) -> None:
    """Copy our package and users' Python files to a new folder.

    Args:
        stage: the folder to create.
        modules: folder of users' modules -> the workloads' files in it (see the argument `own` of `python_files`).
        compiled: whether to copy our compiled code, too.
    """
    stage.mkdir()
    copy_package(stage, without=("analysis",), compiled=compiled)
    for folder, own in modules.items():
        python_files(Path(folder), stage, own)


def copy_package(stage: Path, without: Iterable[str] = (), *, compiled: bool = False) -> None:
    """Copy the raysweep package that this process has imported. Folders named in `without` are left out.

    With `compiled`, compiled code is copied, too; it stays valid, since the files' times are copied.
    """
    skipped = () if compiled else ("__pycache__",)
    source = Path(raysweep.__file__).parent  # in a checkout its folders are links; copytree follows them
    shutil.copytree(source, stage / OURS, ignore=shutil.ignore_patterns(*without, *skipped))


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
