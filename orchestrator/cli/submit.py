"""`launch` and `resume` with --submit: the files to ship, the command on the cluster's head, and the job's log."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from raysweep.orchestrator.cli.options import typed_options
from raysweep.orchestrator.cli.terminal.output import confirm_many, fail, print_json, say, warn
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.packaging import copy_package, python_files
from raysweep.orchestrator.executors.ray.jobs import Job, Jobs
from raysweep.orchestrator.launch.provenance import commits_of, to_ship
from raysweep.orchestrator.sweep.find import BUNDLED
from raysweep.orchestrator.text import count_cells

if TYPE_CHECKING:
    from raysweep.orchestrator.launch.request import Request
    from raysweep.orchestrator.sweep.spec import Sweep

MAX_MIB = 64
"""Maximum MiB of users' files that are shipped: sweeps, Python files and small inputs. Data sets are never shipped."""
_NOT_PASSED_ON = {"sweeps", "submit", "follow", "address", "inline", "yes"}
"""Parameters of `launch` and `resume` that are not copied into the command on the head.

They are left out there, or set to another value.
"""


def submit(context: typer.Context, request: Request | None) -> None:
    """Ship a launch to a cluster's head and start it there.

    Args:
        context: the context of the command `launch` or `resume`.
        request: the sweeps, already read on this machine so that errors in them are reported here. None: all cells of
            the store.

    Raises:
        InputError: an option is impossible with --submit, a path is relative, or nothing answers at the address.
        typer.Exit: with --follow, when the job has ended; the exit code is the job's.
    """
    params = context.params
    if params["address"] is not None or params["inline"]:
        fail("--submit runs the launch on the cluster's head; it takes no --address or --inline")
    store = params["store"]
    check_paths(store, params["data_dir"])
    if not params["yes"]:  # only the head's store knows which of the cells are done
        confirm_many(0 if request is None else len(request.table), "up to ")
    with job(str(context.info_name), request, typed_options(context, _NOT_PASSED_ON)) as shipped:
        jobs = Jobs(params["submit"])
        number = jobs.submit(shipped)
    log = f"ray job logs --address {shlex.quote(jobs.address)} --follow {number}"
    stop = f"ray job stop --address {shlex.quote(jobs.address)} {number}"
    status = f"raysweep status --store {shlex.quote(store)}"
    if params["as_json"] and not params["follow"]:
        print_json({"job": number, "address": jobs.address, "store": store, "log": log, "stop": stop, "status": status})
        return
    cells = "" if request is None else f", {count_cells(len(request.table))} requested"
    say(f"submitted as {number} to {jobs.address}{cells}; you can disconnect")
    say(f"log:    {log}\nstop:   {stop}\nstatus: {status} (from a machine that can reach the store)")
    sys.stdout.flush()
    if not params["follow"]:
        return
    try:
        code = jobs.follow(number, say)
    except KeyboardInterrupt:
        say(f"\n{number} keeps running; to stop it: {stop}")
        raise typer.Exit(130) from None
    raise typer.Exit(code)


def check_paths(store: str, data: str | None) -> None:
    """Raise InputError for a relative path of the store or of the data: the head could not find it."""
    if "://" not in store and not Path(store).is_absolute():
        fail(
            f"--store {store}: relative path; with --submit the driver runs on the cluster's head, in a temporary "
            "folder. Give an absolute path on the head, on a disk that outlives the head, or an address such as s3://BUCKET"
        )
    if data is not None and not Path(data).is_absolute():
        fail(f"--data-dir {data}: relative path; with --submit give the absolute path of the folder on the nodes")


@contextmanager
def job(verb: str, request: Request | None, options: Sequence[str]) -> Iterator[Job]:
    """Collect the files of a launch in a temporary folder, which is deleted when the block ends.

    Args:
        verb: launch or resume.
        request: the sweeps, already read and expanded on this machine. None: all cells of the store.
        options: the options to append to the command that runs on the head.

    Raises:
        InputError: the files are too large to ship, or a sweep refers to files that are missing on the head (see
            `_put`).
    """
    with TemporaryDirectory(prefix="raysweep-job-") as temporary:
        folder = Path(temporary)
        copy_package(folder)
        package_mib = _mib(folder)
        names = []
        if request is None:
            # The store has only the names of the workloads' modules and of the programs' files.
            python_files(Path.cwd(), folder, _program_files(Path.cwd()))
        for number, sweep in enumerate(request.sweeps if request else ()):
            names.append(_put(sweep, request, folder / "sweeps" / str(number)))  # type: ignore[arg-type]
        _refuse_large(folder, package_mib)
        words = ["python", "-m", "raysweep", verb, *names, "--address", "auto", "--yes", *options]
        commits = {} if request is None else commits_of(request.workloads)
        yield Job(folder, shlex.join(words), to_ship(commits) if commits else {})


def _program_files(folder: Path) -> dict[Path, bytes | None]:
    """Collect the files of the programs that the sweep files in a folder run.

    Returns:
        Path relative to the folder -> content; None: the file as it is now. This is the argument `own` of
        `python_files`.
    """
    from raysweep.orchestrator.sweep.programs.program_files import workload_of
    from raysweep.orchestrator.sweep.spec import Sweep

    files: dict[Path, bytes | None] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            sweep = Sweep.from_text(path.read_text(encoding="utf-8"), path)
        except (InputError, OSError, UnicodeDecodeError):
            continue  # no sweep file
        for part in sweep.parts() if not sweep.problems else ():
            if part.program is None:
                continue
            try:
                files |= workload_of(part).shipped()
            except InputError as error:
                warn(f"{path.name}: the files of its program are not shipped: {line}" for line in error.problems)
    return files


def _put(sweep: Sweep, request: Request, folder: Path) -> str:
    """Copy a sweep file and its workloads' files into a new folder. A bundled sweep needs no copy.

    Returns:
        The SWEEP argument for the head: a path relative to the job's folder, or the bundled sweep's name.

    Raises:
        InputError: an entry of `links` is a relative path, or a file in `inputs` cannot be shipped.
    """
    path = Path(str(sweep.path))
    parts = [(part, request.workloads[part.workload]) for part in sweep.parts()]
    for link in (link for part, _ in parts if part.program is not None for _, link in part.program.links):
        if not Path(link).is_absolute():
            fail(
                f"{path}: links: {link!r} is relative; with --submit give its absolute path on the nodes, or use files"
            )
    for _, workload in parts:
        shipped = workload.shipped()
        if left := [name for name in workload.inputs if Path(name) not in shipped]:
            fail(
                f"{path}: inputs: {left[0]}: with --submit only files of at most 1 MiB beside the workload's module "
                "are shipped; launch from a machine that has the files"
            )
    if path.is_relative_to(BUNDLED) and all(workload.folder is None for _, workload in parts):
        return path.relative_to(BUNDLED).with_suffix("").as_posix()
    folder.mkdir(parents=True)
    (folder / path.name).write_text(sweep.text, encoding="utf-8")  # with its bases
    for _, workload in parts:
        if workload.folder is not None:
            python_files(Path(workload.folder), folder, workload.shipped())
    return (folder / path.name).relative_to(folder.parent.parent).as_posix()


def _refuse_large(folder: Path, package_mib: float) -> None:
    size = _mib(folder) - package_mib
    if size > MAX_MIB:
        files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: -p.stat().st_size)[:3]
        largest = ", ".join(f"{p.relative_to(folder)} ({p.stat().st_size / 2**20:.1f} MiB)" for p in files)
        fail(
            f"{size:.0f} MiB of Python files to ship, more than the limit of {MAX_MIB} MiB; the largest: {largest}. "
            "Move the workload's module into a folder with few other files"
        )


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
