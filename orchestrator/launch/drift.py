"""What launches asked for, against what is asked for now: why a cell of a store may not be run again. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.sweep.workload import Workload

REQUESTED, DROPPED, SUPERSEDED = "requested", "dropped", "superseded"
"""Requested now; only before its sweep file changed; of an earlier version of its workload."""


def request_state(recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """Where each cell stands by what the store knows, no workload being imported: cell_id, request_state.

    Args:
        recorded: oldest first.
    """
    texts: dict[tuple[str, str], str] = {}
    versions: dict[str, str] = {}
    for entry in recorded:
        texts[entry.key] = entry.about["text"]
        versions.update(entry.table.variants.select("workload", "workload_version").iter_rows())
    for entry in recorded:  # an older text may stand there again
        if entry.about["path"] and entry.own and _reads(entry.about["path"], entry.about["text"]):
            texts[entry.key] = entry.about["text"]
    ranks = [REQUESTED, DROPPED, SUPERSEDED]
    parts = [pl.DataFrame(schema={"cell_id": pl.String, "rank": pl.Int32})]
    for entry in recorded:
        newest = pl.col("workload").replace_strict(versions, return_dtype=pl.String)
        rank = (
            pl.when(pl.col("workload_version") != newest)
            .then(2)
            .otherwise(int(entry.about["text"] != texts[entry.key]))
        )
        shared = entry.table.variants.select("variant", rank=rank.cast(pl.Int32))
        parts.append(entry.table.cells.join(shared, on="variant", how="left").select("cell_id", "rank"))
    best = pl.concat(parts).group_by("cell_id", maintain_order=True).agg(pl.col("rank").min())
    return best.select(
        "cell_id", request_state=pl.col("rank").replace_strict(dict(enumerate(ranks)), return_dtype=pl.String)
    )


def _reads(path: str, text: str) -> bool:
    try:
        return Path(path).read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False


WHY = (
    "with other seeds (--seeds)",
    "with other settings (--set)",
    "before the defaults of its workload changed",
    "of another version of its workload",
    "before the file changed",
)
"""How a cell was asked for that is not asked for now; of several, the first holds."""


class Drift(NamedTuple):
    """Cells that earlier launches of the same sweeps asked for, and this one does not.

    Args:
        why: one of `WHY` -> how many.
        new_keys: workload -> keys of its Config that no recorded cell of this version has, and are not `AddedLater`.
    """

    why: Mapping[str, int]
    new_keys: Mapping[str, tuple[str, ...]]


def drift(
    sweeps: Sequence[Sweep], every: CellTable, recorded: Sequence[RecordedSweep], workloads: Mapping[str, Workload]
) -> Drift:
    """What of the recorded requests of these sweeps is not asked for now, and why.

    Args:
        sweeps: as asked for now.
        every: all their cells.
        recorded: of any sweeps.
        workloads: those of the sweeps.
    """
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
        left = CellTable(entry.table.variants, cells).wide()
        if entry.about["text"] != sweep.text:
            why = pl.lit(4)
        else:
            others = entry.about.get("overrides") != dict(sweep.overrides)
            seeds = every.cells["seed"].unique().implode()
            why = pl.when(~is_current).then(3).when(~pl.col("seed").is_in(seeds)).then(0).otherwise(1 if others else 2)
        parts.append(left.select("cell_id", why=why.cast(pl.Int32)))
    found = pl.concat(parts).group_by("cell_id").agg(pl.col("why").min())
    counts = {WHY[rank]: count for rank, count in found.group_by("why").len().sort("why").iter_rows()}
    return Drift(counts, _new_keys(pl.concat(configs), every.variants, workloads))


def _new_keys(
    recorded: pl.DataFrame, variants: pl.DataFrame, workloads: Mapping[str, Workload]
) -> dict[str, tuple[str, ...]]:
    """Workload -> keys of its Config that its cells have now, and none had that was recorded."""
    new = {}
    for name, workload in workloads.items():
        had, has = (_keys(frame.filter(pl.col("workload") == name)["config"]) for frame in (recorded, variants))
        if had and workload.config_model is not None:
            new[name] = tuple(sorted(has - had - set(workload.added_later())))
    return {name: keys for name, keys in new.items() if keys}


def _keys(configs: pl.Series) -> set[str]:
    return {key for config in configs.unique() for key in json.loads(config)}
