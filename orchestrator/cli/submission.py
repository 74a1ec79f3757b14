"""A launch as a Ray job: what is shipped to the cluster's head, and what is typed there. Knows nothing of Ray."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.ray.jobs import Job
from raysweep.orchestrator.executors.ray.packaging import copy_package, python_files
from raysweep.orchestrator.launch.provenance import commits_of, to_ship
from raysweep.orchestrator.launch.request import Request
from raysweep.orchestrator.sweep.find import BUNDLED
from raysweep.orchestrator.sweep.source import own_files
from raysweep.orchestrator.sweep.spec import Sweep

MAX_MIB = 64
"""Of what is shipped: code is smaller, data sets are not shipped."""


def check_store(store: str) -> None:
    """Refuse a store that the head could not find again.

    Raises:
        InputError: its path is relative.
    """
    if "://" not in store and not Path(store).is_absolute():
        raise InputError(
            f"--store {store}: is relative, and with --submit the driver runs on the cluster's head, in a folder that "
            "goes with the job: give an absolute path on the head, on a disk that outlives it, or a store's address"
        )


def check_data(folder: str | None) -> None:
    """Refuse a data folder that nodes could not find.

    Raises:
        InputError: its path is relative.
    """
    if folder is not None and not Path(folder).is_absolute():
        raise InputError(
            f"--data-dir {folder}: is relative; with --submit give the absolute path that nodes have it at"
        )


@contextmanager
def job(verb: str, prepared: Request | None, options: Sequence[str]) -> Iterator[Job]:
    """Gather a launch in a folder, which goes at the end.

    Args:
        verb: launch or resume.
        prepared: its sweeps, read and expanded here; None for all that the store knows.
        options: of the command, as typed on the head.

    Raises:
        InputError: it is too large to ship.
    """
    with TemporaryDirectory(prefix="raysweep-job-") as made:
        folder = Path(made)
        copy_package(folder)
        ours = _mib(folder)
        names = []
        if prepared is None:
            python_files(Path.cwd(), folder)  # modules of workloads: what the store recorded of them is a name
        for number, sweep in enumerate(prepared.sweeps if prepared else ()):
            names.append(_put(sweep, prepared, folder / "sweeps" / str(number)))  # type: ignore[arg-type]
        _refuse_large(folder, ours)
        words = ["python", "-m", "raysweep", verb, *names, "--address", "auto", "--yes", *options]
        commits = {} if prepared is None else commits_of(prepared.workloads)
        yield Job(folder, shlex.join(words), to_ship(commits) if commits else {})


def _put(sweep: Sweep, prepared: Request, folder: Path) -> str:
    """Ship a sweep with the Python files that its workload was found among; its name in the job's folder."""
    path = Path(str(sweep.path))
    workload = prepared.workloads[sweep.workload]
    if path.is_relative_to(BUNDLED) and workload.folder is None:
        return path.relative_to(BUNDLED).with_suffix("").as_posix()
    folder.mkdir(parents=True)
    shutil.copy2(path, folder / path.name)
    if workload.folder is not None:
        python_files(Path(workload.folder), folder, own_files(workload.module, workload.source_path, workload.folder))
    return (folder / path.name).relative_to(folder.parent.parent).as_posix()


def _refuse_large(folder: Path, ours: float) -> None:
    size = _mib(folder) - ours
    if size > MAX_MIB:
        files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: -p.stat().st_size)[:3]
        largest = ", ".join(f"{p.relative_to(folder)} ({p.stat().st_size / 2**20:.1f} MiB)" for p in files)
        raise InputError(
            f"{size:.0f} MiB of Python files would be shipped, more than {MAX_MIB}; the largest: {largest}. "
            "Keep the workload's module in a folder with little else"
        )


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
