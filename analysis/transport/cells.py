"""The cells of Experiments A to D: read from stores and files, and saved as one file that the page is written from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from raysweep.analysis.cells.source import from_store
from raysweep.analysis.transport.decoding import ADAPTIVE_RUN, BASELINES, RULES_RUN
from raysweep.analysis.transport.diagram import DIAGRAM
from raysweep.analysis.transport.multiverse import LORENZ, ROUNDING, SINE
from raysweep.analysis.transport.symbols import FIVE_SYMBOLS
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store

EXPERIMENTS = (DIAGRAM, RULES_RUN, ADAPTIVE_RUN, SINE, LORENZ, ROUNDING, FIVE_SYMBOLS.experiment)
_TEXTS = ("experiment", "method", "status", "architecture", "optimizer", "phase", "selection", "session_a", "session_b")
_COUNTS = ("k", "seed", "hidden", "delay", "length", "window", "order")
_NUMBERS = ("decay", "input_scale", "learning_rate", "recurrent_scale")
SETTINGS = (
    dict.fromkeys(_TEXTS, pl.String()) | dict.fromkeys(_COUNTS, pl.Int64()) | dict.fromkeys(_NUMBERS, pl.Float64())
)
"""The columns that tell cells apart -> their types."""
_CURVES = tuple(f"{name}_post_{steps}" for name in ("mse", "persistence", "constant") for steps in ("all", "last_500"))
METRICS = dict.fromkeys(
    (
        "accuracy_all_last_500",
        "chance_accuracy_all_last_500",
        "mse_b_late",
        *(baseline.metric for baseline in BASELINES.values()),
        *_CURVES,
    ),
    pl.Float64(),
)
"""The metrics that a question or a table reads -> their types."""
SCHEMA = SETTINGS | METRICS


def read(stores: Sequence[str]) -> pl.DataFrame:
    """Read the done cells of the experiments from stores, or from files that `save` wrote: the columns of `SCHEMA`.

    Of a cell with two results, that of the store that is named first is taken.

    Raises:
        InputError: a store or a file cannot be read, or is none of cells.
    """
    frames = []
    for store in stores:
        cells = _file(store) if store.endswith(".parquet") else from_store(Store(store).require()).cells
        frames.append(_typed(cells, store))
    return pl.concat(frames).unique(SETTINGS.keys(), keep="first", maintain_order=True)


def _file(path: str) -> pl.DataFrame:
    if not Path(path).is_file():
        raise InputError(f"{path}: no file of saved cells")
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot read cells: {error}") from None


def _typed(cells: pl.DataFrame, name: str) -> pl.DataFrame:
    """Select the done cells of the experiments, in the columns of `SCHEMA`; null where `cells` has none."""
    lacking = [column for column in ("experiment", "method", "seed", "status") if column not in cells.columns]
    if lacking:
        raise InputError(f"{name}: not a table of cells: it has no column {', '.join(lacking)}")
    own = cells.filter(pl.col("experiment").is_in(EXPERIMENTS), pl.col("status") == "done") if cells.height else cells
    columns = []
    for column, dtype in SCHEMA.items():
        values = own[column] if column in own.columns else pl.Series(column, [None], pl.Null)
        try:
            # A store reads a setting that no cell has as text.
            columns.append(
                pl.lit(None, dtype).alias(column) if values.null_count() == values.len() else values.cast(dtype)
            )
        except pl.exceptions.PolarsError:
            raise InputError(f"{name}: column {column} is {values.dtype}, not {dtype}") from None
    return own.select(columns) if own.height else pl.DataFrame(schema=SCHEMA)


def save(cells: pl.DataFrame, path: Path) -> None:
    """Write cells as one Parquet file; the same cells give the same bytes.

    Args:
        cells: what `read` returned.
        path: the file. One that is there is replaced.

    Raises:
        InputError: there is no cell, or `path` is no file of cells, or has cells that would be lost.
    """
    if cells.is_empty():
        raise InputError("no cell of Experiments A to D is done: nothing to save")
    if path.exists() or path.is_symlink():
        _keeps(cells, path)
    full = [name for name in SCHEMA if cells[name].null_count() < cells.height]
    partial = path.with_name(f"{path.name}.partial")
    ordered = cells.select(full).sort([name for name in full if name in SETTINGS], nulls_last=True)
    ordered.write_parquet(partial, compression="zstd", compression_level=15)
    os.replace(partial, path)  # at once, since the cells may have been read from this file


def _keeps(cells: pl.DataFrame, path: Path) -> None:
    """Refuse to replace a file that has cells which are not among these."""
    saved = read([str(path)])
    lost = saved.join(cells, on=list(SETTINGS), how="anti", nulls_equal=True)
    if lost.height:
        raise InputError(
            f"{path}: it has {lost.height:,} cells that would be lost ({', '.join(sorted(set(lost['experiment'])))}); "
            "name it after --store, too, or save to another file"
        )
