"""Output of commands: results, tables, warnings and errors. Control characters in cells' texts are replaced."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import count_cells, duration, printable, shell_quoted
from raysweep.workloads.registry import Registry, UnknownName

if TYPE_CHECKING:
    import polars as pl

    from raysweep.orchestrator.launch.result import Result
    from raysweep.orchestrator.schedule.plan import Plan
    from raysweep.orchestrator.store.reader import Store

_Entry = TypeVar("_Entry")

MIN_HOURS = 0.01
"""Hours of work below this are printed as `under 0.01`."""
MAX_ROWS, MAX_BLOCKS, MAX_LETTERS = 1000, 50, 200
"""Limits of printed tables.

`MAX_ROWS`: a table with more rows is abridged. `MAX_BLOCKS`: maximum number of rows that are printed as blocks, with
one line per column. `MAX_LETTERS`: maximum number of letters of a value in a block.
"""


def print_result(result: Result, as_json: bool, resume: str, at: str, example: str | None) -> None:
    """Print a launch's result, and commands to type next.

    Args:
        result: the result.
        as_json: print it as a JSON object instead.
        resume: the command that resumes the launch.
        at: the `--store` option of the other commands.
        example: SQL of an example query; None for a general one.
    """
    if as_json:
        event("end", **result.counts, resume=resume if result.done < result.asked else None)
        return
    if result.verdicts is not None:
        _print_verdicts(result, resume, at)
        return
    print(result.summary)
    if result.stopped:
        say(f"ended early: {result.stopped}")
    if (changed := result.changed - result.held) > 0:  # a warning counts the others
        say(f"{changed:,} of the done cells ran different code (launch --rerun-changed runs them again)")
    if result.done < result.asked:
        if result.failed:
            say(f"see:    raysweep failures{at}")
        table = "attempts" if result.failed and result.reruns else "cells"  # `cells` has the older, done attempt
        sql = f"SELECT cell_id, status, error_message FROM {table} WHERE status <> 'done'"
        say(f'query:  raysweep query{at} "{sql}"')
        say(f"resume: {resume}{'  (grants new attempts)' if result.exhausted else ''}")
    else:
        sql = example or "SELECT experiment, method, k, seed, seconds FROM cells LIMIT 5"
        say(f"query:  raysweep query{at} {shell_quoted(sql)}")


def _print_verdicts(result: Result, resume: str, at: str) -> None:
    """Print the result of a launch with `--until decided`: its counts, its verdicts, and the commands to type next."""
    verdicts = result.verdicts or ()
    still_open = sum(not verdict.decided for verdict in verdicts)
    failed = f"; {result.failed:,} failed, which are outcomes" if result.failed else ""
    print(f"{count_cells(result.asked)} ({result.ran:,} done now, in {result.seconds:.1f} s){failed}")
    for verdict in verdicts:
        say(repr(verdict))
    if still_open:
        say(f"{still_open:,} of {len(verdicts):,} questions open: {result.stopped or 'nothing more can be run'}")
        say(f"go on:  {resume}  (with larger limits)")
    say(f"see:    raysweep questions{at}")


def forecast(planned: Plan, slots: Callable[[float, float, float | None, str | None], int], where: str) -> list[str]:
    """Describe the cells to run in lines of text.

    The size of a cell is the number of CPUs and GPUs that it requests. For each size, a line gives the number of
    cells and their expected work. A last line gives the duration.

    Args:
        planned: the plan.
        slots: returns how many cells that request (cpus, gpus, memory_gib, custom) run at once.
        where: the place where the cells run, such as `on this machine`.
    """
    lines, all_unknown = [], 0
    for cpus, gpus, cells, unknown, cpu_hours, gpu_hours in planned.expected().iter_rows():
        work = f"{_hours(cpu_hours)} CPU-hours" + (f", {_hours(gpu_hours)} GPU-hours" if gpus else "")
        if unknown:
            work = f"duration unknown for {unknown:,}" + (f", {work} for the others" if unknown < cells else "")
        gpu = f" and {gpus:g} GPU" if gpus else ""
        lines.append(f"to run: {count_cells(cells)} on {cpus:g} CPU{gpu} each; {work}")
        all_unknown += unknown
    if lines:
        seconds = planned.wall_seconds(slots)
        time = "unknown" if seconds is None else f"about {duration(max(1.0, seconds))}"
        others = " for cells of known duration" if seconds is not None and all_unknown else ""
        lines.append(f"time: {time}{others} {where}")
    return lines


def _hours(hours: float) -> str:
    return f"about {hours:.2g}" if hours >= MIN_HOURS else f"under {MIN_HOURS:g}"


def local_slots(cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> int:
    """Return how many cells that request these resources this machine runs at once; 0 if unknown.

    Only the CPUs are counted. The number is unknown if the cells request GPUs or `custom`, or if the system does not
    tell which CPUs this process may use.
    """
    return 0 if gpus or custom else int(len(os.sched_getaffinity(0)) / cpus) if hasattr(os, "sched_getaffinity") else 0


def print_frame(frame: pl.DataFrame) -> None:
    """Print a table. If its columns would be too narrow to read, print one block per row instead."""
    import shutil

    import polars as pl

    width = shutil.get_terminal_size((160, 24)).columns
    if frame.height and 8 * frame.width > width:
        longest = max(map(len, frame.columns))
        for number, row in enumerate(frame.head(MAX_BLOCKS).iter_rows(named=True), 1):
            print(f"row {number}")
            for name, value in row.items():
                if value is not None:
                    text = str(value).replace("\n", " ")
                    say(f"  {name:<{longest}}  {text[:MAX_LETTERS]}{'…' if len(text) > MAX_LETTERS else ''}")
        if frame.height > MAX_BLOCKS:
            print(f"and {frame.height - MAX_BLOCKS:,} more rows; --format csv or --output FILE prints all")
        return
    with pl.Config(
        tbl_rows=-1 if frame.height <= MAX_ROWS else 50, tbl_cols=-1, fmt_str_lengths=_max_letters(frame),
        tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_width_chars=max(width, 100),
    ):  # fmt: skip
        try:
            text = str(frame)
        except pl.exceptions.PanicException:
            fail("the result holds values that cannot be printed, such as dates out of range; CAST them to VARCHAR")
        say(text)


def _max_letters(frame: pl.DataFrame) -> int:
    """Return the number of letters to print of each text: 60, or 200 or 1000 if rows would otherwise look the same."""
    import polars as pl

    if frame.height > MAX_ROWS:
        frame = pl.concat([frame.head(25), frame.tail(25)])
    flat = frame.select(name for name, kind in frame.schema.items() if not kind.is_nested())
    texts = [name for name, kind in flat.schema.items() if str(kind) == "String"]
    distinct = flat.n_unique() if texts else 0
    for letters in (60, 200, 1000):
        if not texts or flat.with_columns(flat[name].str.head(letters) for name in texts).n_unique() == distinct:
            return letters
    return 1000


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table with nested columns as JSON text, since CSV cannot hold nested values."""
    import polars as pl

    def text(value: Any) -> str | None:
        return None if value is None else json.dumps(value.to_list() if hasattr(value, "to_list") else value)

    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(pl.Series(name, [text(value) for value in frame[name]], pl.String) for name in nested)


_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"


def without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before each text, and each column name, that a spreadsheet would execute as a formula.

    A formula begins with =, +, -, @, a tab or a line break. Text that is a number stays as it is.
    """
    import polars as pl

    safe: list[pl.Series] = []
    for column in frame:
        name = column.name
        if re.match(_FORMULA, name):
            while name in frame.columns or any(name == other.name for other in safe):
                name = f"'{name}"
        if column.dtype in (pl.String, pl.Categorical, pl.Enum):
            text = column.cast(pl.String)
            is_formula = text.str.contains(_FORMULA) & ~text.str.contains(_NUMBER)
            column = pl.select(pl.when(is_formula).then("'" + text).otherwise(text)).to_series()
        safe.append(column.alias(name))
    return pl.DataFrame(safe)


def finite(value: float) -> float | str:
    """Return the number; if it is NaN or infinite, which JSON cannot hold, return its name as text."""
    return value if math.isfinite(value) else str(value)


def say(text: str) -> None:
    """Print text of one or several lines, without control characters."""
    print(printable(text))


def event(kind: str, **values: Any) -> None:
    """Print an event of the `--json` output as a JSON object on one line."""
    print(json.dumps({"event": kind, **values}, default=str), flush=True)


def print_json(document: Any) -> None:
    """Print a JSON document."""
    print(to_json(document))


def to_json(document: Any) -> str:
    """Return the JSON text of a document."""
    return json.dumps(document, default=str, indent=2)


def print_answer(document: str, store: Store) -> None:
    """Print an answer's JSON text. With --skip-damaged, print a document with the keys `answer` and `missing`.

    `missing` describes what the answer lacks because damaged files were skipped.
    """
    if store.skip_damaged:
        from raysweep.orchestrator.store.missing import missing

        document = json.dumps({"answer": json.loads(document), "missing": missing(store).to_json()}, indent=2)
    print(document)


def warn_of_missing(store: Store) -> None:
    """Print what an answer lacks because damaged files were skipped."""
    if store.skipped:
        from raysweep.orchestrator.store.missing import missing

        warn(missing(store).lines())


def warn(lines: Iterable[str]) -> None:
    """Print warnings to standard error, one per line."""
    for line in lines:
        print(f"warning: {printable(line)}", file=sys.stderr)


def complain(problems: Iterable[str]) -> None:
    """Print errors to standard error, one per line."""
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)


def confirm_many(count: int, prefix: str = "") -> None:
    """Ask for confirmation if more than `CONFIRM_ABOVE` new cells would run.

    Args:
        count: the number of new cells.
        prefix: "up to " if `count` is only an upper limit; otherwise "".

    Raises:
        InputError: confirmation is needed, but standard input is not a terminal.
    """
    import typer

    from raysweep.orchestrator.cli.options import CONFIRM_ABOVE

    if count <= CONFIRM_ABOVE:
        return
    would_run = f"{prefix}{count:,} new cells would run"
    if not sys.stdin.isatty():
        fail(f"{would_run}; without a terminal, more than {CONFIRM_ABOVE:,} need --yes")
    typer.confirm(f"{would_run[0].upper()}{would_run[1:]}. Continue?", abort=True)


def typed_command() -> str:
    """Return the command line of this process, as typed."""
    return "raysweep " + shlex.join(sys.argv[1:])


def fail(message: str) -> NoReturn:
    """Raise InputError with this message."""
    raise InputError(message)


def entry(registry: Registry[_Entry], name: str) -> _Entry:
    """Return a registry's entry by its name. Raises InputError if the registry has no such entry."""
    try:
        return registry[name]
    except UnknownName as error:
        fail(str(error))
