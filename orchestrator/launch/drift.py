"""Drift: the cells that earlier launches of a sweep requested and the present one does not. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import VARIANT, CellTable
from raysweep.orchestrator.sweep.grammar.base import read_file
from raysweep.orchestrator.sweep.grammar.outputs import DEFAULT
from raysweep.orchestrator.sweep.grammar.resources import Resources
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.sweep.programs.program import MetricSources, Program
from raysweep.orchestrator.sweep.spec import Sweep

REQUESTED, DROPPED, SUPERSEDED = "requested", "dropped", "superseded"
"""Request states of a recorded cell.

`REQUESTED`: its sweep requests it now. `DROPPED`: only an earlier version of its sweep requests it. `SUPERSEDED`: its
workload has a newer version.
"""


def request_state(recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """Determine for each recorded cell whether it is still requested, without importing any workload.

    A change of a sweep file's comments, title, resources or questions does not count as a new version. A cell that the
    newest version may request is not `DROPPED`.

    Args:
        recorded: the recorded sweeps, oldest first.

    Returns:
        Columns cell_id, request_state (`REQUESTED`, `SUPERSEDED` or `DROPPED`).
    """
    newest: dict[tuple[str, str], RecordedSweep] = {}
    versions: dict[str, str] = {}
    for entry in recorded:
        newest[entry.key] = entry
        versions.update(entry.table.variants.select("workload", "workload_version").iter_rows())
    for entry in recorded:  # the file may have gone back to an older text
        if entry.metadata["path"] and entry.own and _reads(entry.metadata["path"], entry.metadata["text"]):
            newest[entry.key] = entry
    current = pl.col("workload").replace_strict(versions, return_dtype=pl.String)
    parts = [pl.DataFrame(schema={"cell_id": pl.String, "rank": pl.Int32})]
    for key, last in newest.items():
        entries = [entry for entry in recorded if entry.key == key]
        is_same = {text: _says_the_same(text, last) for text in {entry.metadata["text"] for entry in entries}}
        now = [entry for entry in entries if is_same[entry.metadata["text"]]]
        for entry in entries:
            is_requested = is_same[entry.metadata["text"]] or _requested(entry, now)
            rank = pl.when(pl.col("workload_version") != current).then(2).when(is_requested).then(0).otherwise(1)
            shared = entry.table.variants.select("variant", "workload", "workload_version")
            cells = entry.table.cells.join(shared, on="variant", how="left")
            parts.append(cells.select("cell_id", rank=rank.cast(pl.Int32)))
    best = pl.concat(parts).group_by("cell_id", maintain_order=True).agg(pl.col("rank").min())
    states = dict(enumerate((REQUESTED, DROPPED, SUPERSEDED)))
    return best.select("cell_id", request_state=pl.col("rank").replace_strict(states, return_dtype=pl.String))


def _says_the_same(text: str, other: RecordedSweep) -> bool:
    """Return whether a sweep's text defines the same cells as a recorded sweep."""
    if text == other.metadata["text"]:
        return True
    path = other.metadata["path"]
    try:
        return _definition(Sweep.from_text(text, Path(path) if path else None)) == _definition(other.sweep())
    except InputError:  # a text that only an older version of raysweep could read
        return False


def _definition(sweep: Sweep) -> Sweep:
    """Return the sweep reduced to the parts that decide which cells it has."""
    blocks = tuple(replace(b, resources=Resources(), program=_compared(b.program)) for b in sweep.blocks)
    plain = replace(sweep, title="", text="", search=(), outputs=DEFAULT, questions=(), problems=())
    return replace(plain, blocks=blocks, program=_compared(sweep.program))


def _compared(program: Program | None) -> Program | None:
    """Return the program reduced to the parts that decide what it computes."""
    return program and replace(program, metrics=MetricSources(), file_patterns=(), links=())


def _requested(entry: RecordedSweep, now: Sequence[RecordedSweep]) -> pl.Expr | bool:
    """Select the cells of `entry` that the newest version of its sweep requests.

    The newest version requests each of its settings with each of its seeds. If only parts of it were launched
    (`--where`, `--set`), its settings are not known, so that it may request any cell.

    Args:
        entry: a record of an older version of the sweep.
        now: the records of the newest version.

    Returns:
        A predicate on the cells of `entry`; True if it may request any cell.
    """
    whole = [other for other in now if not other.metadata.get("where") and not other.metadata.get("overrides")]
    if not whole:
        return True
    key = [*VARIANT, "needs"]
    settings = pl.concat([other.table.variants.select(key) for other in whole]).unique()
    variants = entry.table.variants.join(settings, on=key, how="semi", nulls_equal=True)["variant"]
    seeds = pl.Series(now[0].sweep().seeds, dtype=pl.Int64)
    return pl.col("variant").is_in(variants.implode()) & pl.col("seed").is_in(seeds.implode())


def _reads(path: str, text: str) -> bool:
    try:
        return read_file(Path(path)) == text
    except (OSError, ValueError, InputError):
        return False


WHY = (
    "with other seeds (--seeds, --until)",
    "with other settings (--set)",
    "before the defaults of its workload changed",
    "of another version of its workload",
    "before the file changed",
)
"""How the earlier request of a cell differed from the present one.

If the records of a cell give several of these reasons, the first of them counts.
"""


class Drift(NamedTuple):
    """The cells that earlier launches of the same sweeps requested and this launch does not.

    Args:
        why: entry of `WHY` -> number of these cells.
        new_keys: workload -> keys of its Config that no recorded cell of its current version has. Keys marked
            `AddedLater` are left out.
    """

    why: Mapping[str, int]
    new_keys: Mapping[str, tuple[str, ...]]


def drift(
    sweeps: Sequence[Sweep], every: CellTable, recorded: Sequence[RecordedSweep], workloads: Mapping[str, Workload]
) -> Drift:
    """Compare the recorded cells of these sweeps with `every`: all cells that the sweeps request now."""
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
        otherwise = 2 if entry.metadata.get("overrides") == dict(sweep.overrides) else 1
        seeds = pl.Series(every.cells["seed"].unique(), dtype=pl.Int64)
        if not _says_the_same(sweep.text, entry):
            otherwise = 1 if entry.metadata.get("overrides") else 4
            seeds = pl.Series(entry.sweep().seeds, dtype=pl.Int64)
        why = pl.when(~is_current).then(3).when(~pl.col("seed").is_in(seeds.implode())).then(0).otherwise(otherwise)
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
