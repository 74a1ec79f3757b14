"""Runs a program as a cell: in the cell's folder, as a process group, with its output and metrics recorded."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from raysweep.orchestrator.run.context import RunContext, RunningCell
from raysweep.orchestrator.run.programs.checkpoint_folder import MAX_BYTES, CheckpointFolder
from raysweep.orchestrator.run.programs.metric_sources import OutputMetrics, read_metrics, record_files
from raysweep.orchestrator.run.programs.process import Lines, RunningProgram
from raysweep.orchestrator.run.threads import VARIABLES
from raysweep.orchestrator.store.checkpoints import Preempted
from raysweep.orchestrator.sweep.programs.program import NEEDS, CommandLine, Program
from raysweep.orchestrator.sweep.programs.program_files import PYTHON, program_path
from raysweep.orchestrator.text import one_line

PREEMPTED_GRACE_S = 20.0
"""Seconds between SIGTERM and SIGKILL for a program with a checkpoint folder on a draining node."""
_LAST_LINES = 60
_NOT_FOUND = ("FileNotFoundError", "No such file or directory", "ModuleNotFoundError")


class ProgramFailed(Exception):
    """The program did not start, exited with a code other than 0, or was killed by a signal."""


class _LastLines:
    """The last lines of the program's output, for a failed cell's `traceback`. A progress bar counts as one line."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._is_overwritten = False  # the last line is, by the next one

    def add(self, line: str, is_overwritten: bool) -> None:
        if self._is_overwritten:
            self._lines.pop()
        self._lines.append(line)
        self._is_overwritten = is_overwritten

    def text(self) -> str:
        return "\n".join(self._lines)

    def last(self) -> str:
        return next((line for line in reversed(self._lines) if line.strip()), "")


def run_program(
    program: Program, root: str | None, cell: RunningCell, context: RunContext, *, foreground: bool = False
) -> dict[str, float | str | None]:
    """Run the program of a cell, and return its metrics.

    The program runs in the cell's own folder, which has links to the program's files. An exception raised here
    carries the last lines of the program's output in its attribute `program_output`.

    Args:
        program: the program, with its files.
        root: the folder of these files on this machine.
        cell: the cell.
        context: receives arrays, and holds the checkpoint.
        foreground: whether to run it with this terminal's standard input, and to print the command line first.

    Raises:
        ProgramFailed: the program did not start, or did not exit with code 0.
        NoMetrics: a declared source has provided no metric.
        ValueError: a metrics file cannot be read.
        Preempted: the node is draining, and the program has a checkpoint folder.
    """
    folder, checkpoint = context.folder, None
    if "checkpoint" in program.placeholders:
        checkpoint = CheckpointFolder(folder.with_name(f"{folder.name}.checkpoint"), context.checkpoint)
    needs = {block: [str(needed.folder) for needed in cells] for block, cells in context.needs.items()}
    line = command_line(program, cell, str(folder), str(checkpoint.path) if checkpoint else "", needs)
    created: list[Path] = []
    try:
        _fill(folder, program, root, line, created)
        if foreground:
            print(f"in {folder}:\n{line}", flush=True)  # noqa: T201 - `debug` prints
        settings = {*cell.config, "k", "seed"}
        return _run(program, line, folder, context, checkpoint, settings, foreground=foreground)
    except BaseException as error:
        if isinstance(output := getattr(error, "program_output", None), str):
            vars(error)["program_output"] = output.replace(f"{folder}{os.sep}", "").replace(f"{root}{os.sep}", "")
        raise
    finally:
        _empty(created)
        if checkpoint is not None:
            checkpoint.remove()


def command_line(
    program: Program, cell: RunningCell, folder: str, checkpoint: str, needs: Mapping[str, list[str]]
) -> CommandLine:
    """Render the command line of a cell. The word `python` at its beginning becomes this process's interpreter.

    `needs` maps each needed block to the folders of its cells.
    """
    line = program.render(
        {
            "method": cell.method, "k": cell.k, "seed": cell.seed, "cell_id": cell.cell_id, "folder": folder,
            "checkpoint": checkpoint, **{f"{NEEDS}{block}": folders for block, folders in needs.items()},
        },
        cell.config,
    )  # fmt: skip
    first, *rest = line.argv
    return line._replace(argv=(sys.executable if first in PYTHON else first, *rest))


def _run(
    program: Program,
    line: CommandLine,
    folder: Path,
    context: RunContext,
    checkpoint: CheckpointFolder | None,
    settings: Collection[str],
    *,
    foreground: bool,
) -> dict[str, float | str | None]:
    output, errors, everything = OutputMetrics(program.metrics, context), _LastLines(), _LastLines()

    def out(text: str, is_overwritten: bool) -> None:
        everything.add(text, is_overwritten)
        output.stdout(text)

    def err(text: str, is_overwritten: bool) -> None:
        everything.add(text, is_overwritten)
        errors.add(text, is_overwritten)
        output.stderr(text)

    def tick() -> None:
        if checkpoint is None:
            return
        if context.should_stop:
            process.terminate(PREEMPTED_GRACE_S)
            checkpoint.save()  # raises `Preempted`
            raise Preempted("the node is draining; the program had saved nothing yet")
        checkpoint.save_if_settled()

    try:
        process = RunningProgram(line.argv, folder, _environment(context, line), foreground=foreground)
    except OSError as error:
        raise ProgramFailed(f"{line.argv[0]!r} cannot be started: {error.strerror or error}") from None
    try:
        try:
            with process:
                code = process.watch(Lines(lambda: sys.stdout, out), Lines(lambda: sys.stderr, err), tick)
        finally:
            context.children.add(process.usage)
        if code:
            raise ProgramFailed(_message(code, program.shell, errors.last() or everything.last(), folder))
        metrics = read_metrics(program.metrics, output, folder, line.metrics, settings, context)
    except BaseException as error:
        vars(error)["program_output"] = errors.text() or everything.text()
        with contextlib.suppress(Exception):  # the curves of a failed cell, as far as they go
            record_files(program.metrics, folder, line.metrics, context)
        if checkpoint is not None:
            with contextlib.suppress(Exception):  # the cell's own error is the one to report
                checkpoint.save()
            if checkpoint.too_large:
                _log(f"the folder {{checkpoint}} is larger than {MAX_BYTES / 2**30:g} GiB and was not saved")
        raise
    if not metrics:
        _log("no metrics: no line of standard output is a JSON object with a number, and the sweep names no [metrics]")
    return metrics


def _message(code: int, shell: bool, last: str, folder: Path) -> str:
    """Format the message about an exit code other than 0, with the last line of the program's output."""
    last = last.replace(f"{folder}{os.sep}", "")
    number = -code if code < 0 else code - 128 if shell else 0
    name = signal.Signals(number).name if number in list(signal.Signals) else None
    if code < 0:
        text = f"killed by {name or f'signal {number}'}"
        text += " (by the system, if its memory was used up)" if number == signal.SIGKILL else ""
    else:
        text = f"exit code {code}" + (f" (a part of it was killed by {name})" if name else "")
    text += f": {one_line('', last)}" if last.strip() else ""
    if any(words in last for words in _NOT_FOUND):
        missing = _lacking(last, folder)
        text += f"; if the project has it, add {missing} to files = [...]" if missing else _ONLY
    return text


_ONLY = '; of the project, the cell has only the files that files = ["..."] names, the script and its imports'


def _lacking(last: str, folder: Path) -> str | None:
    """Return the path in a "No such file" message, relative to the cell's folder.

    None if the message names no path inside this folder.
    """
    quoted = re.search(r"""No such file or directory: ['"](.+?)['"]""", last)
    path = os.path.relpath(os.path.join(folder, quoted[1]), folder) if quoted else ".."
    return None if path.split(os.sep)[0] == ".." else path


def _environment(context: RunContext, line: CommandLine) -> dict[str, str]:
    """Return the program's environment variables.

    They are those of this process except `_OF_THE_WORKER`, limits on threads and GPUs, and the sweep's variables.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_WORKER)}
    environment |= dict.fromkeys(VARIABLES, os.environ.get("OMP_NUM_THREADS", "1"))
    environment |= {"PATH": program_path(), "PYTHONUNBUFFERED": "1"}  # what it printed before it was killed is seen
    if context.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return {**environment, **line.env}


_OF_THE_WORKER = ("PYTHONBREAKPOINT", "RAY_")
"""Prefixes of the worker's environment variables that programs do not get, since a program may start its own Ray."""


def _fill(folder: Path, program: Program, root: str | None, line: CommandLine, created: list[Path]) -> None:
    """Write the configuration file, and links to the program's files, into the folder.

    The paths of new links and folders are appended to `created`.
    """
    targets = [(name, Path(root or "", name)) for name in program.files]
    targets += [(name, Path(path)) for name, path in program.links]
    for name, target in targets:
        if not target.exists():
            raise ProgramFailed(f"{target}: does not exist on this machine (named in links or files of the sweep)")
        _folders(folder, Path(name).parent, created)
        os.symlink(target.absolute(), folder / name)
        created.append(folder / name)
    if program.config_file is not None and line.config is not None:
        path = folder / program.config_file
        _folders(folder, Path(program.config_file).parent, created)
        path.unlink(missing_ok=True)  # a file of the project of this name
        path.write_text(line.config, encoding="utf-8")


def _folders(folder: Path, relative: Path, created: list[Path]) -> None:
    """Create the missing folders of a relative path, and append them to `created`."""
    missing = [part for part in (relative, *relative.parents) if not (folder / part).is_dir()]
    for part in reversed(missing):
        (folder / part).mkdir()
        created.append(folder / part)


def _empty(created: Sequence[Path]) -> None:
    """Remove the links and folders that `_fill` made, and Python's caches in them.

    Files that the program wrote stay.
    """
    for path in reversed(created):
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path / "__pycache__", ignore_errors=True)
            with contextlib.suppress(OSError):  # the program wrote into it
                path.rmdir()


def _log(line: str) -> None:
    sys.stderr.write(f"raysweep: {line}\n")  # captured in the cell's log
