"""Failed attempts with the same cause: the same error, message and place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from raysweep.orchestrator.text import storable

if TYPE_CHECKING:
    import polars as pl


_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")


_PATH = re.compile(r"(?:/[\w.+-]+){2,}")


_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


_FRAME = re.compile(r'^\s*File "([^"\n]*)", line (\d+),? in (.+)$', re.MULTILINE)


_NOT_OWN = re.compile(
    r"(^|/)(site|dist)-packages/|/lib/python3[^/]*/|^<|(^|/)raysweep/orchestrator/(run/\w+|store/checkpoints|executors/.+)\.py$"
)
"""Files that are not the workload's: libraries, Python's own, and what is around a cell."""


_TIMEOUT = "CellTimeout"


def place(traceback: str | None) -> str | None:
    """Where it was raised: the innermost frame of the workload's own code, or of any where it has none."""
    frames = _FRAME.findall(traceback or "")
    if "(most recent call first)" in (traceback or ""):  # of a process that was ended
        frames = frames[::-1]
    own = [frame for frame in frames if not _NOT_OWN.search(frame[0])] or frames
    return f"{own[-1][0].rpartition('/')[2]}:{own[-1][1]} in {own[-1][2]}" if own else None


def signature(error_type: str | None, message: str | None, traceback: str | None, *, whole: bool = False) -> str:
    """One text for failures that are alike: the error, its message without what varies, where it was raised.

    Not of timeouts: what takes too long is interrupted in any place.

    Args:
        error_type: its name.
        message: of which the first line counts.
        traceback: as recorded.
        whole: with what varies.
    """
    said = storable(next((line for line in (message or "").splitlines() if line.strip()), ""))[:1000]
    plain = (said if whole else _NUMBER.sub("#", _PATH.sub("PATH", _QUOTED.sub("'…'", said))))[:160].strip()
    at = None if error_type == _TIMEOUT else place(traceback)
    return f"{error_type or 'error'}{': ' if plain else ''}{plain}{'' if at is None else f' ({at})'}"


def grouped(attempts: pl.DataFrame) -> pl.DataFrame:
    """Failed attempts by likeness, most cells first.

    Args:
        attempts: workload, method, status, cell_id, seed, error_type, error_message, traceback.

    Returns:
        workload, method, status, failure (the signature, or the whole where all say the same; of timeouts also where
        most of them were), cells, attempts, example (a cell's id), seeds (a list).
    """
    import polars as pl

    failed = attempts.filter(pl.col("status") != "done")
    what = ["error_type", "error_message", "traceback"]
    distinct = failed.select(what).unique(maintain_order=True)
    rows = list(distinct.iter_rows())
    distinct = distinct.with_columns(
        failure=pl.Series([signature(*row) for row in rows], dtype=pl.String),
        whole=pl.Series([signature(*row, whole=True) for row in rows], dtype=pl.String),
        place=pl.Series([place(row[2]) if row[0] == _TIMEOUT else None for row in rows], dtype=pl.String),
    )
    often = pl.col("place").drop_nulls().mode(maintain_order=True).first()
    return (
        failed.join(distinct, on=what, how="left", nulls_equal=True)
        .group_by("workload", "method", "status", "failure")
        .agg(
            pl.col("cell_id").n_unique().alias("cells"),
            pl.len().alias("attempts"),
            pl.col("cell_id").min().alias("example"),
            pl.col("seed").unique().sort().alias("seeds"),
            pl.when(pl.col("whole").n_unique() == 1).then(pl.col("whole").first()).alias("whole"),
            pl.format(
                " ({}{})", pl.when(pl.col("place").n_unique() > 1).then(pl.lit("mostly ")).otherwise(pl.lit("")), often
            )
            .fill_null("")
            .alias("at"),
        )
        .sort("cells", "failure", "method", descending=[True, False, False])
        .with_columns(pl.coalesce("whole", "failure").alias("failure") + pl.col("at"))
        .drop("at", "whole")
    )
