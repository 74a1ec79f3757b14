"""Groups of failed attempts with the same cause (error, message and place), and the settings that their cells share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raysweep.orchestrator.sweep.grammar.settings import flattened
from raysweep.orchestrator.text import short_repr, storable

if TYPE_CHECKING:
    import polars as pl

_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_PATH = re.compile(r"(?:/[\w.+-]+){2,}")
_BAR = re.compile(r"\d+%\|[^|\n]*\|[^\n]*?it/s\]?")  # of tqdm, if the message follows without a line break
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FRAME = re.compile(r'^\s*File "([^"\n]*)", line (\d+),? in (.+)$', re.MULTILINE)
_OURS = re.compile(r"(^|/)raysweep/orchestrator/")
_LIBRARY = re.compile(r"(site|dist)-packages/(?!raysweep/workloads/)|/lib/python3[^/]*/(?!(site|dist)-packages/)|^<")
_TIMEOUT = "CellTimeout"
MAX_VALUE = 60
"""A setting's value with at most this number of characters is shown in full."""


def place(traceback: str | None) -> str | None:
    """Return the place of an error, as `file:line in function`; None if the traceback has no frame outside raysweep.

    It is the innermost frame in the workload's code. If there is none, it is the innermost frame in a library.
    """
    frames = [frame for frame in _FRAME.findall(traceback or "") if not _OURS.search(frame[0])]
    if "(most recent call first)" in (traceback or ""):  # written by faulthandler as it ended the process
        frames = frames[::-1]
    frames = [frame for frame in frames if not _LIBRARY.search(frame[0])] or frames
    if not frames:
        return None
    file, line, function = frames[-1]
    return f"{file.rpartition('/')[2]}:{line} in {function}"


def signature(error_type: str | None, message: str | None, traceback: str | None, *, whole: bool = False) -> str:
    """Return a text that is equal for similar failures: error type, message and place.

    Variable parts of the message are masked unless `whole`. A timeout has no place, since it may interrupt a cell
    anywhere.
    """
    line = storable(next((line for line in (message or "").splitlines() if line.strip()), ""))[:1000]
    text = (line if whole else _NUMBER.sub("#", _PATH.sub("PATH", _QUOTED.sub("'…'", _BAR.sub("…", line)))))[
        :160
    ].strip()
    at = None if error_type == _TIMEOUT else place(traceback)
    return f"{error_type or 'error'}{': ' if text else ''}{text}{'' if at is None else f' ({at})'}"


def grouped(attempts: pl.DataFrame, variants: pl.DataFrame) -> pl.DataFrame:
    """Group failed attempts by signature, and find the settings that a group's cells share.

    The group with the most cells comes first.

    Args:
        attempts: columns workload, method, k, config, status, cell_id, seed, error_type, error_message, traceback.
        variants: columns method, k, config of all cells, failed or not. A setting that is the same in all of them
            explains nothing, and is left out.

    Returns:
        Columns workload, status, failure (the signature), cells, attempts, example (a cell's id), seeds (a list),
        shared (settings that are equal in the group and differ between variants, as `method = sgd, rate = 0.1`).
        The signature is unmasked if all messages of the group are equal. For timeouts it also has the most frequent
        place.
    """
    import polars as pl

    failed = attempts.filter(pl.col("status") != "done")
    columns = ["error_type", "error_message", "traceback"]
    distinct = failed.select(columns).unique(maintain_order=True)
    rows = list(distinct.iter_rows())
    distinct = distinct.with_columns(
        failure=pl.Series([signature(*row) for row in rows], dtype=pl.String),
        whole=pl.Series([signature(*row, whole=True) for row in rows], dtype=pl.String),
        place=pl.Series([place(row[2]) if row[0] == _TIMEOUT else None for row in rows], dtype=pl.String),
    )
    often = pl.col("place").drop_nulls().mode(maintain_order=True).first()
    groups = (
        failed.join(distinct, on=columns, how="left", nulls_equal=True)
        .group_by("workload", "status", "failure")
        .agg(
            pl.col("cell_id").n_unique().alias("cells"),
            pl.len().alias("attempts"),
            pl.col("cell_id").min().alias("example"),
            pl.col("seed").unique().sort().alias("seeds"),
            pl.struct(_SETTINGS).unique().alias("settings"),
            pl.when(pl.col("whole").n_unique() == 1).then(pl.col("whole").first()).alias("whole"),
            pl.format(
                " ({}{})", pl.when(pl.col("place").n_unique() > 1).then(pl.lit("mostly ")).otherwise(pl.lit("")), often
            )
            .fill_null("")
            .alias("at"),
        )
        .sort("cells", "failure", "example", descending=[True, False, False])
        .with_columns(pl.coalesce("whole", "failure").alias("failure") + pl.col("at"))
        .drop("at", "whole")
    )
    same = _equal(variants.select(_SETTINGS).unique().to_dicts()).keys()
    shared = [
        ", ".join(
            f"{name} = {value if len(str(value)) <= MAX_VALUE else short_repr(value)}"
            for name, value in _equal(settings).items()
            if name not in same
        )
        for settings in groups["settings"].to_list()
    ]
    return groups.with_columns(shared=pl.Series(shared, dtype=pl.String)).drop("settings")


_SETTINGS = ["method", "k", "config"]


def _equal(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that are equal in all rows and not null.

    A row has the keys method, k and config (JSON).
    """
    configs = (flattened(json.loads(row["config"] or "{}")) for row in settings)
    rows = ({"method": row["method"], "k": row["k"], **c} for row, c in zip(settings, configs, strict=True))
    equal = next(rows, {})
    for row in rows:
        if not equal:
            break
        equal = {name: value for name, value in equal.items() if name in row and row[name] == value}
    return {name: value for name, value in equal.items() if value is not None}
