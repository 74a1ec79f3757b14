"""What the command line prints: results, frames, progress, complaints; nothing from a cell unfiltered."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from raysweep.orchestrator.text import printable

if TYPE_CHECKING:
    from raysweep.orchestrator.launch.launch import Result
    from raysweep.orchestrator.schedule.plan import Plan


MIN_HOURS = 0.01
"""Less than these are not told apart."""


def at_store(store: str) -> str:
    """What commands need to find the store; nothing where it is the default."""
    return "" if store == "results" else f" --store {shlex.quote(store)}"


def print_result(result: Result, as_json: bool, resume: list[str], at: str) -> None:
    """Counts, and what to type next.

    Args:
        result: of the launch.
        as_json: for machines.
        resume: the words after `raysweep resume` that ask for the same cells.
        at: see `at_store`.
    """
    from dataclasses import asdict

    again = shlex.join(["raysweep", "resume", *resume])
    if as_json:
        event("end", **asdict(result), resume=again if result.done < result.asked else None)
        return
    if not result.asked:
        print("nothing to run: no cell is asked for")
    elif not result.ran and not result.failed and result.done == result.asked:
        print(f"nothing to run: all {result.asked:,} cells are done")
    else:
        parts = [f"{result.done:,} of {result.asked:,} cells done ({result.ran:,} now, in {result.seconds:.1f} s)"]
        if result.failed:
            parts.append(
                f"{result.failed:,} failed"
                + (f" ({result.exhausted:,} of them had used up their attempts before)" if result.exhausted else "")
            )
        if result.left:
            parts.append(f"{result.left:,} left")
        print("; ".join(parts))
        if result.stopped:
            say(f"ended early: {result.stopped}")
    if result.changed:
        say(f"{result.changed:,} of the done ran with other code than there is now (launch --rerun-changed)")
    if result.done < result.asked:
        if result.failed:
            say(f"see:    raysweep failures{at}")
        say(f"query:  raysweep query{at} \"SELECT cell_id, status, error_message FROM cells WHERE status <> 'done'\"")
        new_ones = "  (which gives new attempts)" if result.exhausted else ""
        say(f"resume: {again}{new_ones}")
    else:
        say(f'query:  raysweep query{at} "SELECT experiment, method, k, seed, seconds FROM cells LIMIT 5"')


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`, `3 days`."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def rate(cells_per_s: float) -> str:
    """`120.5 cells/s`, `12 cells a minute`, `3.1 cells an hour`."""
    if cells_per_s >= 1:
        return f"{cells_per_s:,.1f} cells/s"
    return (
        f"{60 * cells_per_s:.3g} cells a minute" if cells_per_s >= 1 / 60 else f"{3600 * cells_per_s:.2g} cells an hour"
    )


def forecast(planned: Plan, slots: Callable[[float, float, float | None], int], where: str) -> list[str]:
    """What will run by resource, what it takes, and how long that is; what is not known is said so.

    Args:
        planned: the plan.
        slots: how many cells of (cpus, gpus, memory_gib) run at once.
        where: whose slots they are: `on this machine`.
    """
    said, unknown_in_all = [], 0
    expected = planned.expected()
    for cpus, gpus, cells, unknown, cpu_hours, gpu_hours in expected.iter_rows():
        known = f"{_hours(cpu_hours)} cpu-hours" + (f", {_hours(gpu_hours)} gpu-hours" if gpus else "")
        if unknown:
            known = f"length unknown for {unknown:,}" + (f", {known} for the others" if unknown < cells else "")
        said.append(
            f"to run: {how_many(cells)} on {cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "") + f" each; {known}"
        )
        unknown_in_all += unknown
    seconds = planned.wall_seconds(slots)
    if said:
        others = " for those of known length" if seconds is not None and unknown_in_all else ""
        said.append(f"time: {'unknown' if seconds is None else f'about {duration(max(1.0, seconds))}'}{others} {where}")
    return said


def _hours(hours: float) -> str:
    return f"about {hours:.2g}" if hours >= MIN_HOURS else f"under {MIN_HOURS:g}"


def local_slots(cpus: float, gpus: float, memory_gib: float | None) -> int:
    """How many cells of a size this machine's processors run at once; 0 where that can't be said: with GPUs."""
    return 0 if gpus else int(len(os.sched_getaffinity(0)) / cpus) if hasattr(os, "sched_getaffinity") else 0


def how_many(count: int) -> str:
    """Say `1 cell`, `2,000 cells`."""
    return f"{count:,} cell{'' if count == 1 else 's'}"


def print_frame(frame: Any) -> None:
    """A table, or where its columns would be too narrow to read a block a row."""
    import shutil

    import polars as pl

    width = shutil.get_terminal_size((160, 24)).columns
    if frame.height and 8 * frame.width > width:  # columns of a few characters can't be read: a row a line then
        longest = max(map(len, frame.columns))
        for number, row in enumerate(frame.head(50).iter_rows(named=True), 1):
            print(f"row {number}")
            for name, value in row.items():
                if value is not None:
                    text = str(value).replace("\n", " ")
                    say(f"  {name:<{longest}}  {text[:200]}{'…' if len(text) > 200 else ''}")
        if frame.height > 50:
            print(f"and {frame.height - 50:,} rows more; --format csv or --output FILE gives all")
        return
    letters = _letters(frame)
    with pl.Config(
        tbl_rows=-1 if frame.height <= 1000 else 50, tbl_cols=-1, fmt_str_lengths=letters,
        tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_width_chars=max(width, 100),
    ):  # fmt: skip
        say(_rendered(frame))


def _letters(frame: Any) -> int:
    """How many letters of a text are shown: more than 60 where the rows shown could not be told apart by these."""
    import polars as pl

    if frame.height > 1000:
        frame = pl.concat([frame.head(25), frame.tail(25)])
    flat = frame.select(name for name, kind in frame.schema.items() if not kind.is_nested())
    texts = [name for name, kind in flat.schema.items() if str(kind) == "String"]
    apart = flat.n_unique() if texts else 0
    for most in (60, 200, 1000):
        if not texts or flat.with_columns(flat[name].str.head(most) for name in texts).n_unique() == apart:
            return most
    return 1000


def _rendered(frame: Any) -> str:
    import polars as pl

    try:
        return str(frame)
    except pl.exceptions.PanicException:
        fail("the answer holds values that can't be shown, such as times beyond any calendar; CAST them to VARCHAR")


def flat(frame: Any) -> Any:
    """Nested columns as JSON text, which CSV has no other form for."""
    import polars as pl

    nested = [n for n, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(
            n,
            [None if v is None else json.dumps(v.to_list() if hasattr(v, "to_list") else v) for v in frame[n]],
            pl.String,
        )
        for n in nested
    )


def say(line: str) -> None:
    """A line of output, or several, without control characters."""
    print(printable(line))


def event(kind: str, **values: Any) -> None:
    """One object on one line, as of a launch with `--json`."""
    print(json.dumps({"event": kind, **values}, default=str), flush=True)


def print_json(document: Any) -> None:
    """A document for machines."""
    print(json.dumps(document, default=str, indent=2))


def warn(lines: Any) -> None:
    """Warnings, a line each."""
    for line in lines:
        print(f"warning: {printable(line)}", file=sys.stderr)


def complain(problems: Any) -> None:
    """Errors, a line each."""
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)


def ask_before_many(count: int, words: str = "") -> None:
    """Ask before so many new cells run; without a terminal, say that `--yes` is needed (exit 2)."""
    import typer

    from raysweep.orchestrator.cli.options import MANY

    if count <= MANY:
        return
    would_run = f"{words}{count:,} new cells would run"
    if not sys.stdin.isatty():
        fail(f"{would_run}; more than {MANY:,} need --yes without a terminal")
    typer.confirm(f"{would_run[0].upper()}{would_run[1:]}. Go on?", abort=True)


def fail(message: str) -> NoReturn:
    """Refuse the input."""
    from raysweep.orchestrator.errors import InputError

    raise InputError(message)
