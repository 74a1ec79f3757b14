"""Drift: the cells that earlier launches of a sweep requested and that are not requested now. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.grammar.base import read_file
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.sweep.workload import Workload

REQUESTED, DROPPED, SUPERSEDED = "requested", "dropped", "superseded"
"""The cell is requested now; was requested only before its sweep file changed; has an older workload version."""


def request_state(recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """Find out for each recorded cell whether it is still requested, without importing any workload.

    Args:
        recorded: the recorded sweeps, oldest first.

    Returns:
        Columns cell_id, request_state (`REQUESTED`, `SUPERSEDED` or `DROPPED`).
    """
    texts: dict[tuple[str, str], str] = {}
    versions: dict[str, str] = {}
    for entry in recorded:
        texts[entry.key] = entry.metadata["text"]
        versions.update(entry.table.variants.select("workload", "workload_version").iter_rows())
    for entry in recorded:  # the file may have gone back to an older text
        if entry.metadata["path"] and entry.own and _reads(entry.metadata["path"], entry.metadata["text"]):
            texts[entry.key] = entry.metadata["text"]
    states = [REQUESTED, DROPPED, SUPERSEDED]  # by rank
    parts = [pl.DataFrame(schema={"cell_id": pl.String, "rank": pl.Int32})]
    for entry in recorded:
        newest = pl.col("workload").replace_strict(versions, return_dtype=pl.String)
        rank = (
            pl.when(pl.col("workload_version") != newest)
            .then(2)
            .otherwise(int(entry.metadata["text"] != texts[entry.key]))
        )
        shared = entry.table.variants.select("variant", rank=rank.cast(pl.Int32))
        parts.append(entry.table.cells.join(shared, on="variant", how="left").select("cell_id", "rank"))
    best = pl.concat(parts).group_by("cell_id", maintain_order=True).agg(pl.col("rank").min())
    return best.select(
        "cell_id", request_state=pl.col("rank").replace_strict(dict(enumerate(states)), return_dtype=pl.String)
    )


def _reads(path: str, text: str) -> bool:
    try:
        return read_file(Path(path)) == text
    except (OSError, ValueError, InputError):
        return False


WHY = (
    "with other seeds (--seeds)",
    "with other settings (--set)",
    "before the defaults of its workload changed",
    "of another version of its workload",
    "before the file changed",
)
"""The ways in which a cell that is not requested now was requested; if several apply, the first counts."""


class Drift(NamedTuple):
    """Cells that earlier launches of the same sweeps requested and this launch does not.

    Args:
        why: reason, an entry of `WHY` -> number of cells.
        new_keys: workload -> keys of its Config that no recorded cell of this version has, except `AddedLater` ones.
    """

    why: Mapping[str, int]
    new_keys: Mapping[str, tuple[str, ...]]


def drift(
    sweeps: Sequence[Sweep], every: CellTable, recorded: Sequence[RecordedSweep], workloads: Mapping[str, Workload]
) -> Drift:
    """Compare the recorded cells of these sweeps with `every`, the cells that are requested now."""
    now = {(sweep.name, sweep.path): sweep for sweep in sweeps}
    versions = {name: workload.version for name, workload in workloads.items()}
    current = pl.col("workload").replace_strict(versions, default=None, return_dtype=pl.String)
    is_current = (pl.col("workload_version") == current).fill_null(value=False)
    parts = [pl.DataFrame(schema={"cell_id": pl.String, "why": pl.Int32})]
    configs = [pl.DataFrame(schema={"workload": pl.String, "config": pl.String})]
    for entry in recorded:
        if (sweep := now.get(entry.key)) is None:
            continue
        configs.append(entry.table.variants.filter(is_current).select("workload", "config"))
        cells = entry.table.cells.join(every.cells, on="cell_id", how="anti")
        dropped = CellTable(entry.table.variants, cells).wide()
        if entry.metadata["text"] != sweep.text:
            why = pl.lit(4)
        else:
            otherwise = 2 if entry.metadata.get("overrides") == dict(sweep.overrides) else 1
            seeds = every.cells["seed"].unique().implode()
            why = pl.when(~is_current).then(3).when(~pl.col("seed").is_in(seeds)).then(0).otherwise(otherwise)
        parts.append(dropped.select("cell_id", why=why.cast(pl.Int32)))
    reasons = pl.concat(parts).group_by("cell_id").agg(pl.col("why").min())
    counts = {WHY[rank]: count for rank, count in reasons.group_by("why").len().sort("why").iter_rows()}
    return Drift(counts, _new_keys(pl.concat(configs), every.variants, workloads))


def _new_keys(
    recorded: pl.DataFrame, variants: pl.DataFrame, workloads: Mapping[str, Workload]
) -> dict[str, tuple[str, ...]]:
    """Return the keys of each workload's Config that no recorded cell has. `AddedLater` keys are left out."""
    new = {}
    for name, workload in workloads.items():
        old, now = (_keys(frame.filter(pl.col("workload") == name)["config"]) for frame in (recorded, variants))
        if old and workload.config_model is not None:
            new[name] = tuple(sorted(now - old - set(workload.added_later())))
    return {name: keys for name, keys in new.items() if keys}


def _keys(configs: pl.Series) -> set[str]:
    return {key for config in configs.unique() for key in json.loads(config)}
