"""Stage 2, expansion: sweeps become a table of cells, whose ids are hashes of their content.

A *variant* is the combination (sweep, workload, experiment, method, k, config) that cells of different seeds share.
Each variant is validated and hashed once. The seed is then added to the hash. A row of the table of cells has only
the id, the number of the variant and the seed, so that a million cells need little memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.grammar.block import Block
from raysweep.orchestrator.sweep.grammar.conditions import PredicateError
from raysweep.orchestrator.sweep.grammar.expansion import Point, points, predicate_problems
from raysweep.orchestrator.sweep.grammar.needs import Candidate, Parts, digests, matched, order, shared_by_folders
from raysweep.orchestrator.sweep.identity import canonical_json, cell_ids, hash_parts
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.sweep.programs.program_files import sharing, workload_of
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.sweep.validate import location_of, validate
from raysweep.orchestrator.text import printable_output

MAX_CELLS = 20_000_000
_MAX_PROBLEMS = 40

VARIANTS_SCHEMA: dict[str, Any] = {
    "variant": pl.UInt32,
    "sweep": pl.String,
    "experiment": pl.String,
    "workload": pl.String,
    "workload_version": pl.String,
    "source_digest": pl.String,
    "method": pl.String,
    "k": pl.Int64,
    "config": pl.String,
    "cost_hint": pl.Float64,
    "cpus": pl.Float64,
    "gpus": pl.Float64,
    "memory_gib": pl.Float64,
    "timeout_s": pl.Float64,
    "retries": pl.Int64,
    "custom": pl.String,
    "needs": pl.String,
}
LATER = ("custom", "needs")
"""Columns of variants that earlier versions of raysweep lack. They are recorded only if a variant has a value."""
VARIANT = ["workload", "workload_version", "experiment", "method", "k", "config"]
"""The columns that identify a variant."""
CELLS_SCHEMA: dict[str, Any] = {"cell_id": pl.String, "variant": pl.UInt32, "seed": pl.Int64}


@dataclass(frozen=True)
class CellTable:
    """A table of cells. `cells` has one row per cell (cell_id, variant, seed), `variants` one row per variant."""

    variants: pl.DataFrame
    cells: pl.DataFrame

    def __len__(self) -> int:
        return self.cells.height

    def wide(self) -> pl.DataFrame:
        """Return one row per cell with its variant's columns, in the order of `cells`."""
        return self.cells.join(self.variants, on="variant", how="left", maintain_order="left")

    def keep(self, cell_ids: pl.Series) -> CellTable:
        """Return a table of only these cells, in the order of this table."""
        return CellTable(self.variants, self.cells.filter(pl.col("cell_id").is_in(cell_ids.implode())))


@printable_output()
def expand(sweeps: Sequence[Sweep]) -> CellTable:
    """Build the table of all cells of the sweeps. A cell that several sweeps request appears once, under the first.

    Raises:
        InputError: files have problems (the message lists all of them), or too many cells are requested.
    """
    problems: list[str] = []
    counts = [_count(sweep) for sweep in sweeps]
    if sum(counts) > MAX_CELLS:
        raise _too_many(sweeps, sum(counts))
    tables = [_expand_one(sweep, problems) for sweep in sweeps]
    if problems:
        unique = list(dict.fromkeys(problems))
        more = len(unique) - _MAX_PROBLEMS
        raise InputError(unique[:_MAX_PROBLEMS] + ([f"... and {more} more problems"] if more > 0 else []))
    return merge(tables)


def without_empty(variants: pl.DataFrame) -> pl.DataFrame:
    """Drop the columns in `LATER` in which no variant has a value, so that records look as in earlier versions."""
    return variants.drop(name for name in LATER if variants[name].null_count() == variants.height)


def merge(tables: Sequence[CellTable]) -> CellTable:
    """Merge tables of cells, with variants renumbered. A cell in several tables is taken from the first."""
    if len(tables) == 1:
        return tables[0]
    variants, cells, start = [], [], 0
    for table in tables:
        shift = pl.lit(start, dtype=pl.UInt32)
        variants.append(table.variants.with_columns(pl.col("variant") + shift))
        cells.append(table.cells.with_columns(pl.col("variant") + shift))
        start += table.variants.height
    if not tables:
        return CellTable(pl.DataFrame(schema=VARIANTS_SCHEMA), pl.DataFrame(schema=CELLS_SCHEMA))
    return CellTable(pl.concat(variants), pl.concat(cells).unique("cell_id", keep="first", maintain_order=True))


def _count(sweep: Sweep) -> int:
    """Return the number of cells that the sweep requests, as far as it is known before the expansion.

    A combination in a plain product or a sample counts as one cell per seed. A combination in any other block counts
    as only one cell, since predicates may remove it.
    """
    seeds = len(sweep.seeds)
    return sum(block.size * (seeds if block.is_product or block.sample else min(1, seeds)) for block in sweep.blocks)


def _too_many(sweeps: Sequence[Sweep], count: int) -> InputError:
    name = sweeps[0].path or sweeps[0].name if len(sweeps) == 1 else f"{len(sweeps)} sweeps"
    return InputError(
        f"{name}: {count:,} cells requested; at most {MAX_CELLS:,} are possible; shorten the lists in [[grid]], or "
        "launch fewer seeds at a time (--seeds)"
    )


_KIND = {True: "workload", False: "command"}


class _Loaded(NamedTuple):
    """A workload (None if it could not be loaded), and the old values of its `AddedLater` fields.

    `later` is name of the field -> old value, as JSON.
    """

    workload: Workload | None
    later: Mapping[str, str]


def _expand_one(sweep: Sweep, problems: list[str]) -> CellTable:
    """Build the table of a sweep's cells. Mistakes are added to `problems`, and the table is empty then."""
    where = sweep.path or sweep.name
    mistakes = list(sweep.problems)
    loaded = {part.workload: _load(sweep, part, mistakes) for part in sweep.parts()}
    rows = _Rows(sweep, where, mistakes)
    for index in order(sweep.blocks):
        block = sweep.blocks[index]
        workload, later = loaded[block.workload or sweep.workload]
        with contextlib.nullcontext() if workload is None else workload.code.active():
            rows.add(index, block, workload, later)
    return rows.table(problems)


def _load(sweep: Sweep, part: Sweep, mistakes: list[str]) -> _Loaded:
    where = part.path or part.name
    workload: Workload | None = None
    later: dict[str, str] = {}
    if part.workload:
        try:
            workload = workload_of(part)
        except InputError as error:
            places = [f"grid[{i}]." for i, block in enumerate(sweep.blocks) if block.workload == part.workload]
            kind = f"{''.join(places[:1])}{_KIND[part.program is None]}"
            mistakes.extend(f"{where}: {kind}: {problem}" for problem in error.problems)
    if part.program is not None:
        methods = [
            method for block in part.blocks for method in block.methods
            if "method" not in shared_by_folders(block, sweep.blocks, part.program.needed)
        ]  # fmt: skip
        mistakes.extend(f"{where}: {line}" for line in part.program.problems_of_sweep(methods, part.seeds))
    if workload is not None:
        try:
            later = {n: canonical_json(v) for n, v in workload.added_later().items()}
        except ValueError as error:
            mistakes.append(f"{where}: {workload.source_path}: AddedLater: {error}")
    return _Loaded(workload, later)


class _Rows:
    """Collects the variants and cells of a sweep, block by block."""

    def __init__(self, sweep: Sweep, where: str, mistakes: list[str]) -> None:
        self.sweep, self.where, self.mistakes = sweep, where, mistakes
        self.rows: list[dict[str, Any]] = []
        self.ids: list[pl.Series] = []  # of each variant's cells
        self.variants: list[int] = []  # their variants
        self.size = 0  # number of cells
        self.seen: dict[tuple[str, str], str] = {}
        self.places: dict[str, dict[str, None]] = {}  # message -> the places of this mistake
        self.candidates: dict[str, list[Candidate]] = {}  # name of a block -> its settings

    def add(self, index: int, block: Block, workload: Workload | None, later: Mapping[str, str]) -> None:
        """Add the cells of a block."""
        sweep, place = self.sweep, f"grid[{index}]"
        candidates = self.candidates.setdefault(block.name, [])
        if workload is not None and workload.program is not None:
            missing = workload.program.problems_of_needs(block.needs)
            self.mistakes += [f"{self.where}: {place}: {line}" for line in missing]
            workload = sharing(workload, shared_by_folders(block, sweep.blocks, workload.program.needed))
        for point, config in _points(sweep, block, place, self.mistakes, products=workload is not None):
            if workload is None:  # predicates are still checked
                continue
            # If the file's k is invalid, which `spec` has reported, the rest of the point is still checked.
            settled, lines = validate(
                workload, point.method, point.k, config, settle=bool(block.ks), is_named=block.names_method
            )
            for key, line in lines:
                self.places.setdefault(line, {})[f"{place}{key}"] = None
            if settled is None:
                continue
            k, full, cost = settled
            row = {**{name: point.settings.get(name) for name in block.axes}, "method": point.method, "k": point.k}
            needs = self._needs(block, row, place)
            # A field added later is not hashed at its old value, so that the ids of old cells stay the same.
            hashed = {n: v for n, v in full.items() if n not in later or canonical_json(v) != later[n]}
            parts = hash_parts(
                workload.name, workload.version, sweep.experiment, point.method, k, hashed, digests(needs)
            )
            if parts in self.seen:
                self.mistakes.append(
                    f"{self.where}: {place}: method={point.method!r}, k={k} gives the same cells as "
                    f"{self.seen[parts]}; make the blocks differ in a setting, or remove one of them"
                )
                continue
            self.seen[parts] = place
            if block.name:
                candidates.append(Candidate(row, parts))
            self.rows.append(
                {
                    "variant": len(self.rows),
                    "sweep": sweep.name,
                    "experiment": sweep.experiment,
                    "workload": workload.name,
                    "workload_version": workload.version,
                    "source_digest": workload.source_digest,
                    "method": point.method,
                    "k": k,
                    "config": canonical_json(full),
                    "cost_hint": cost,
                    **asdict(block.resources),
                    "needs": canonical_json(needs) if needs else None,
                }
            )
            if not self.mistakes and not self.places:  # ids of a sweep with mistakes are never used
                self.ids.append(cell_ids(parts, sweep.seeds))
                self.variants.append(len(self.rows) - 1)
                self.size += len(sweep.seeds)
                if self.size > MAX_CELLS:
                    raise _too_many([sweep], self.size)

    def _needs(self, block: Block, row: Mapping[str, Any], place: str) -> dict[str, list[Parts]]:
        needs = {}
        for name in block.needs:
            needed = next((other for other in self.sweep.blocks if other.name == name), None)
            if needed is None or (not self.candidates.get(name) and (self.mistakes or self.places)):
                continue  # reported already, or a consequence of other mistakes
            needs[name], message = matched(row, block, needed, self.candidates[name])
            if message is not None:
                self.mistakes.append(f"{self.where}: {place}{message}")
        return needs

    def table(self, problems: list[str]) -> CellTable:
        """Return the table of all cells that were added; add all mistakes to `problems`."""
        mistakes = self.mistakes
        mistakes.extend(f"{location_of(line, self.sweep, blocks)}: {line}" for line, blocks in self.places.items())
        problems.extend(mistakes)
        if mistakes:
            self.rows, self.ids, self.variants = [], [], []
        seeds = np.asarray(self.sweep.seeds, np.int64) if self.ids else np.empty(0, np.int64)
        cells: dict[str, Any] = {
            "cell_id": pl.concat(self.ids) if self.ids else [],
            "variant": np.repeat(np.asarray(self.variants, np.uint32), len(seeds)),
            "seed": np.tile(seeds, len(self.variants)),
        }
        return CellTable(
            pl.DataFrame(self.rows, schema=VARIANTS_SCHEMA, orient="row"), pl.DataFrame(cells, schema=CELLS_SCHEMA)
        )


def _points(
    sweep: Sweep, block: Block, place: str, mistakes: list[str], *, products: bool
) -> Iterator[tuple[Point, dict[str, Any]]]:
    """Yield the points of a block with their configs; add mistakes to `mistakes`.

    Without `products`, a plain product of lists yields nothing, since it has no predicates to check.
    """
    if block.is_product and not products:
        return
    where = sweep.path or sweep.name
    if not block.is_product and any(f": {place}." in problem for problem in sweep.problems):
        mistakes += [f"{where}: {place}{line}" for line in predicate_problems(block, sweep.config)]
        return
    try:
        for point in points(block, sweep.config):
            yield point, sweep.config_of(point.settings, block)
    except PredicateError as error:
        mistakes.append(f"{where}: {place}{error}")
    except ValueError:
        if not sweep.problems:  # which are about values that no point can have
            raise
