"""What the command line prints: results, frames, progress, complaints; nothing from a cell unfiltered."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.text import safe

if TYPE_CHECKING:
    from orchestrator.drive import Progress
    from orchestrator.launcher import Result


def print_result(result: Result, as_json: bool, resume: list[str]) -> None:
    """Counts, and what to type next; `resume`: the words after `raysweep resume`, the store's last."""
    from dataclasses import asdict

    at = (
        "".join(f" --store {shlex.quote(store)}" for store in resume[resume.index("--store") + 1 :][:1])
        if "--store" in resume
        else ""
    )
    again = shlex.join(["raysweep", "resume", *resume])
    if as_json:
        print_json({**asdict(result), "resume": again if result.done < result.asked else None})
        return
    if not result.ran and not result.failed and result.done == result.asked:
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
    if result.done < result.asked:
        say(f"see:    raysweep query{at} \"SELECT cell_id, status, error_message FROM cells WHERE status <> 'done'\"")
        say(f"resume: {again}")
    else:
        say(f'query:  raysweep query{at} "SELECT experiment, method, k, seed, seconds FROM cells LIMIT 5"')


def reporter(quiet: bool) -> Callable[[Progress], None] | None:
    """A line that changes on a terminal, one every ten seconds elsewhere."""
    if quiet:
        return None
    terminal = sys.stderr.isatty()
    last = [0.0]
    began = time.monotonic()

    def report(progress: Progress) -> None:
        now = time.monotonic()
        if now - last[0] < (0.2 if terminal else 10.0):
            return
        last[0] = now
        # Of the last batches, as the first seconds go into starting up and the longest cells come first.
        (since, before), *_ = progress.recent or [(began, 0)]
        rate = (progress.done - before) / max(now - since, 1e-9) if before else progress.done / max(now - began, 1e-9)
        text = f"{progress.done:,} done, {progress.failed:,} failed, {progress.left:,} left; {rate:.1f} cells/s"
        if rate and progress.left:
            text += f", about {duration(progress.left / rate)} more"
        print(f"\r\x1b[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal and not progress.left:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    return report


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`, `3 days`."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:.0f} days"


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
    with pl.Config(
        tbl_rows=-1 if frame.height <= 1000 else 50, tbl_cols=-1, fmt_str_lengths=60, tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True, tbl_width_chars=max(width, 100),
    ):  # fmt: skip
        say(_rendered(frame))


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
    print(safe(line))


def print_json(document: Any) -> None:
    """A document for machines."""
    print(json.dumps(document, default=str, indent=2))


def warn(lines: Any) -> None:
    """Warnings, a line each."""
    for line in lines:
        print(f"warning: {safe(line)}", file=sys.stderr)


def complain(problems: Any) -> None:
    """Errors, a line each."""
    for problem in problems:
        print(f"error: {safe(problem)}", file=sys.stderr)


def fail(message: str) -> NoReturn:
    """Refuse the input."""
    from orchestrator.errors import InputError

    raise InputError(message)
