"""The commands `query` and `export`: print tables of a store, or write them to files."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from raysweep.orchestrator.cli.options import Json, SkipDamaged, StoreOption, Where
from raysweep.orchestrator.cli.terminal.output import (
    fail,
    flat,
    print_answer,
    print_frame,
    say,
    warn,
    warn_of_missing,
    without_formulas,
)

if TYPE_CHECKING:
    import polars as pl

    from raysweep.orchestrator.store.reader import Store

FORMATS = ("table", "csv", "json", "ndjson", "parquet")
STREAMED = ("csv", "ndjson", "parquet")

Raw = Annotated[bool, typer.Option("--raw", help="In CSV, leave text that a spreadsheet reads as a formula as it is.")]
Format = Annotated[str | None, typer.Option("--format", help="table, csv, json, ndjson or parquet.")]


def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            metavar="[SQL]",
            help="SQL over cells, attempts, live, ... (--describe), or a saved query's name. Default: a prompt.",
        ),
    ] = None,
    store: StoreOption = "results",
    describe: Annotated[bool, typer.Option("--describe", help="List tables and columns.")] = False,
    save: Annotated[
        str | None, typer.Option(metavar="NAME", help="Save the SQL under this name, for use with any store.")
    ] = None,
    saved: Annotated[bool, typer.Option("--saved", help="List the saved queries.")] = False,
    format_: Format = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write to this file; its extension sets the format.")
    ] = None,
    skip_damaged: SkipDamaged = False,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Run SQL on the store; metrics and config keys are columns.

    raysweep query "SELECT method, k, avg(loss), count(*) FROM cells WHERE status = 'done' GROUP BY ALL ORDER BY ALL"

    raysweep query --describe

    raysweep query --save losses "SELECT method, k, seed, loss FROM cells"

    raysweep query losses --output losses.csv
    """
    from raysweep.orchestrator.cli.terminal import saved as saved_queries
    from raysweep.orchestrator.store.reader import Store

    kind = _kind(format_, output, as_json)
    if saved:
        _put(saved_queries.listed(), kind, output, raw)
        return
    opened = Store(store, skip_damaged=skip_damaged).require()
    if describe:
        from raysweep.orchestrator.query.catalog import columns

        _put_answer(columns(opened), kind, output, raw, opened)
        return
    if sql is None:
        if save is not None:
            fail('--save: the SQL is missing; give it as well: raysweep query --save NAME "SELECT ..."')
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            fail(
                'the prompt needs a terminal; give the SQL: raysweep query "SELECT * FROM cells LIMIT 5" '
                "(--describe lists tables and columns, --saved the saved queries)"
            )
        from raysweep.orchestrator.cli.terminal.prompt import run

        run(opened)
        return
    sql = saved_queries.resolve(sql)
    if save is not None:
        saved_queries.check_name(save)
    from raysweep.orchestrator.query.sql import in_parts

    if kind in STREAMED:
        answer = in_parts(opened, sql)
        first = next(answer)
    else:
        answer, first = iter([]), opened.sql(sql)
    if save is not None:  # after the SQL has succeeded
        say(f"saved as {save!r}: {saved_queries.keep(save, sql)}")
    _put_answer(first, kind, output, raw, opened, answer)


def export(
    store: StoreOption = "results",
    where: Where = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file; its extension sets the format.")
    ] = "cells.csv",
    format_: Format = None,
    skip_damaged: SkipDamaged = False,
    raw: Raw = False,
) -> None:
    """Write all cells into one wide table.

    The table has one row per cell and one column per key, config key and metric.

    raysweep export -o cells.parquet

    raysweep export -o done.csv --where "status = 'done'"
    """
    import polars as pl

    from raysweep.orchestrator.launch.request import select
    from raysweep.orchestrator.query.sql import cells_frame
    from raysweep.orchestrator.store.reader import Store

    kind = _kind(format_, output, False)
    opened = Store(store, skip_damaged=skip_damaged).require()
    frame = cells_frame(opened).drop("metrics", "config")  # each entry of these two has a column of its own
    if where is not None:
        selected, warnings = select(opened.known(), opened, where)
        warn(warnings)
        frame = frame.filter(pl.col("cell_id").is_in(selected.cells["cell_id"].implode()))
    warn_of_missing(opened)
    _put(frame, kind, output, raw)
    say(f"{output}: {frame.height:,} cells, {frame.width} columns")


def _kind(requested: str | None, output: str | None, as_json: bool) -> str:
    """Return the output format: the requested one, otherwise the one of the file's extension, otherwise `table`.

    Raises:
        InputError: the format or the extension is unknown, or the format is binary and no file is named.
    """
    from raysweep.workloads.registry import unknown_name

    ending = (output or "").rpartition(".")[2].lower()
    kind = "json" if as_json else requested or (ending if ending in FORMATS else "table")
    if kind not in FORMATS:
        fail(f"--format: {unknown_name('format', kind, FORMATS)}")
    if output and requested is None and not as_json and ending not in (*FORMATS, "txt"):
        fail(
            f"--output {output}: its extension is not a known format; use .csv, .json, .ndjson, .parquet or .txt, or "
            "add --format"
        )
    if kind == "parquet" and output is None:
        fail("--format parquet: the format is binary; name a file with --output")
    return kind


def _put_answer(
    frame: pl.DataFrame, kind: str, output: str | None, raw: bool, store: Store, more: Iterable[pl.DataFrame] = ()
) -> None:
    """Print a query's result, or write it to a file. If damaged files were skipped, print what the result lacks."""
    warn_of_missing(store)
    if kind == "json" and output is None and store.skip_damaged:
        print_answer(frame.write_json(), store)
    else:
        _put(frame, kind, output, raw, more)


def _write(frame: pl.DataFrame, more: Iterable[pl.DataFrame], kind: str, raw: bool, file: IO[bytes]) -> None:
    """Write `frame`, then the frames in `more`, which have the same columns. Only one frame is in memory at a time."""
    if kind == "parquet":
        from pyarrow.parquet import ParquetWriter

        first = frame.to_arrow()
        with ParquetWriter(file, first.schema, compression="zstd") as writer:
            for table in itertools.chain([first], (part.to_arrow() for part in more)):
                writer.write_table(table)
    elif kind == "ndjson":
        for part in itertools.chain([frame], more):
            part.write_ndjson(file)
    else:
        for index, part in enumerate(itertools.chain([frame], more)):
            text = flat(part)
            (text if raw else without_formulas(text)).write_csv(file, include_header=not index)


def _put(frame: pl.DataFrame, kind: str, output: str | None, raw: bool, more: Iterable[pl.DataFrame] = ()) -> None:
    """Print a frame, or write it to a file; text in CSV is made safe for spreadsheets unless `raw`.

    `more` holds further frames with the same columns. Only the formats in `STREAMED` write them.
    """
    if kind == "table" and output is None:
        print_frame(frame)
        return
    target: Any = output or sys.stdout.buffer
    try:
        if kind == "json":
            frame.write_json(target)
        elif kind in STREAMED:
            with open(target, "wb") if output else contextlib.nullcontext(target) as file:
                _write(frame, more, kind, raw, file)
        else:
            with open(target, "w", encoding="utf-8") as file:
                file.write(str(frame) + "\n")
    except BrokenPipeError:
        raise  # the reader has closed the pipe
    except IsADirectoryError:
        fail(f"--output {output}: expected a file path; {output!r} is a directory")
    except OSError as error:
        reason = error.strerror or str(error).partition(" (os error")[0]
        fail(f"--output {output}: {reason}")
