"""Stage 2: sweeps become a columnar table of cells with content ids.

A *variant* is what the seeds of a grid share: (sweep, workload, experiment, method, k, config). It is
validated and hashed up to the seed once; a cell is then one row of (id, variant, seed), so a million
cells are three columns. (design: section "Identity")
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import pydantic

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.spec import BELONGS, RESOURCES, Block, Sweep, canonical_json
from raysweep.orchestrator.sweep.workload import Workload, load_workload
from raysweep.orchestrator.text import message_of, short_repr
from raysweep.workloads.registry import unknown_name

ID_SCHEME = 1
ID_LENGTH = 24
MAX_CELLS = 5_000_000
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
}
VARIANT = ["workload", "workload_version", "experiment", "method", "k", "config"]
"""What makes cells differ beside their seed."""
CELLS_SCHEMA: dict[str, Any] = {"cell_id": pl.String, "variant": pl.UInt32, "seed": pl.Int64}


@dataclass(frozen=True)
class CellTable:
    """Cells as two frames: `cells` (cell_id, variant, seed) and `variants`, one row for each of what they share."""

    variants: pl.DataFrame
    cells: pl.DataFrame

    def __len__(self) -> int:
        return self.cells.height

    def wide(self) -> pl.DataFrame:
        """One row a cell with its variant's columns, in the order of `cells`."""
        return self.cells.join(self.variants, on="variant", how="left", maintain_order="left")

    def keep(self, cell_ids: pl.Series) -> CellTable:
        """The same table with only these cells, in its own order."""
        kept = self.cells.filter(pl.col("cell_id").is_in(cell_ids.implode()))
        return CellTable(self.variants, kept)


def hash_parts(
    workload: str, version: str, experiment: str, method: str, k: int | None, config: Mapping[str, Any]
) -> tuple[str, str]:
    """The canonical JSON that is hashed, as (text before the seed, text after it)."""
    # Keys are sorted, so all that precedes "seed" is one object, and all that follows another.
    head = canonical_json({"config": config, "experiment": experiment, "k": k, "method": method, "scheme": ID_SCHEME})
    tail = canonical_json({"version": version, "workload": workload})
    return head[:-1] + ',"seed":', "," + tail[1:]


def cell_ids(parts: tuple[str, str], seeds: Sequence[int]) -> list[str]:
    """The ids of one variant's cells: sha256 of the canonical JSON, 24 hex characters."""
    head = hashlib.sha256(parts[0].encode())
    tail = parts[1].encode()
    ids = []
    for seed in seeds:
        digest = head.copy()
        digest.update(b"%d" % seed + tail)
        ids.append(digest.hexdigest()[:ID_LENGTH])
    return ids


def expand(sweeps: Sequence[Sweep]) -> CellTable:
    """All cells of the sweeps; a cell that several ask for is there once, under the first.

    Raises:
        InputError: every problem of every file: structure, unknown names, config, duplicates; too many cells.
    """
    problems: list[str] = []
    counts = [_count(sweep) for sweep in sweeps]
    if sum(counts) > MAX_CELLS:
        name = sweeps[0].path or sweeps[0].name if len(sweeps) == 1 else f"{len(sweeps)} sweeps"
        raise InputError(
            f"{name}: {sum(counts):,} cells are asked for; {MAX_CELLS:,} at most at once: shorten lists of [[grid]], "
            "or launch a part of the seeds after the other (--seeds)"
        )
    tables = [_expand_one(sweep, problems) for sweep in sweeps]
    if problems:
        unique = list(dict.fromkeys(problems))
        more = len(unique) - _MAX_PROBLEMS
        raise InputError(unique[:_MAX_PROBLEMS] + ([f"... and {more} more problems"] if more > 0 else []))
    return merge(tables)


def merge(tables: Sequence[CellTable]) -> CellTable:
    """One table; variants renumbered, each cell once, the first table's wins."""
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
    every = pl.concat(cells).unique("cell_id", keep="first", maintain_order=True)
    return CellTable(pl.concat(variants), every)


def _count(sweep: Sweep) -> int:
    """How many cells the sweep's lists make."""
    grids = (
        len(b.methods) * max(1, len(b.ks)) * math.prod(len(values) for values in b.axes.values()) for b in sweep.blocks
    )
    return len(sweep.seeds) * sum(grids)


def _expand_one(sweep: Sweep, problems: list[str]) -> CellTable:
    where = sweep.path or sweep.name
    found = list(sweep.problems)
    workload: Workload | None = None
    if sweep.workload:
        try:
            workload = load_workload(sweep.workload, sweep.search)
        except InputError as error:
            found.extend(f"{where}: workload: {problem}" for problem in error.problems)
    later: dict[str, str] = {}
    if workload is not None:
        try:
            later = {n: canonical_json(v) for n, v in workload.added_later().items()}
        except ValueError as error:
            found.append(f"{where}: {workload.source_path}: AddedLater: {error}")
    rows: list[dict[str, Any]] = []
    ids: list[str] = []
    variants: list[int] = []
    seeds: list[int] = []
    seen: dict[tuple[str, str], str] = {}
    wrong: dict[str, dict[str, None]] = {}  # what -> in which blocks
    for block, method, k, config, place in _points(sweep):
        if workload is None:
            break
        # Where the file's k was no k at all, which `spec` has said, the rest is still looked at.
        checked, mistakes = _check(workload, method, k, config, settle=bool(block.ks))
        for at, what in mistakes:
            wrong.setdefault(what, {})[f"{place}{at}"] = None
        if checked is None:
            continue
        k, full, cost = checked
        # A field that came later is left out at the value old cells had, so that their ids survive.
        hashed = {n: v for n, v in full.items() if n not in later or canonical_json(v) != later[n]}
        parts = hash_parts(workload.name, workload.version, sweep.experiment, method, k, hashed)
        if parts in seen:
            found.append(
                f"{where}: {place}: method={method!r}, k={k} gives the same cells as {seen[parts]}; "
                "let the blocks differ in a setting, or drop one"
            )
            continue
        seen[parts] = place
        rows.append(
            {
                "variant": len(rows),
                "sweep": sweep.name,
                "experiment": sweep.experiment,
                "workload": workload.name,
                "workload_version": workload.version,
                "source_digest": workload.source_digest,
                "method": method,
                "k": k,
                "config": canonical_json(full),
                "cost_hint": cost,
                **asdict(block.resources),
            }
        )
        if not found and not wrong:  # ids of a sweep with problems are never used
            ids.extend(cell_ids(parts, sweep.seeds))
            variants.extend(itertools.repeat(len(rows) - 1, len(sweep.seeds)))
            seeds.extend(sweep.seeds)
    found.extend(f"{_blamed(sweep, what, places)}: {what}" for what, places in wrong.items())
    problems.extend(found)
    if found:
        rows, ids, variants, seeds = [], [], [], []
    return CellTable(
        pl.DataFrame(rows, schema=VARIANTS_SCHEMA, orient="row"),
        pl.DataFrame({"cell_id": ids, "variant": variants, "seed": seeds}, schema=CELLS_SCHEMA),
    )


def _points(sweep: Sweep) -> Iterator[tuple[Block, str, int | None, dict[str, Any], str]]:
    for i, block in enumerate(sweep.blocks):
        names = list(block.axes)
        for (method, k), values in itertools.product(
            itertools.product(block.methods, block.ks or (None,)), itertools.product(*block.axes.values())
        ):
            yield block, method, k, {**sweep.config, **dict(zip(names, values, strict=True))}, f"grid[{i}]"


def _blamed(sweep: Sweep, what: str, places: Iterable[str]) -> str:
    """Where a mistake was made: by `--set` where what is said of it names such a key, else in the file."""
    where = sweep.path or sweep.name
    for key, value in sweep.overrides.items():
        if _names(what.partition(";")[0], [key]):
            return f"--set {key}={short_repr(value)} on {where}"
    for key in sweep.config:
        if what.startswith((f"config key {key!r}", f"unknown config key {key!r}", f"{key}: no config key")):
            return f"{where}: config"
    return f"{where}: {', '.join(places)}"


Mistake = tuple[str, str]
"""Where in a block, and what."""


def _check(
    workload: Workload, method: str, k: int | None, config: dict[str, Any], *, settle: bool
) -> tuple[tuple[int | None, dict[str, Any], float | None] | None, list[Mistake]]:
    """(k, validated full config, relative cost), or None; and what is wrong."""
    problems: list[Mistake] = []
    known = workload.methods is None or method in workload.methods
    if not known:
        problems.append((".method", unknown_name("method", method, workload.methods)))  # type: ignore[arg-type]
    model, wrong, doubtful = _revived(workload, config)
    problems.extend(("", line) for line in wrong)
    if model is None or not known or not settle:
        return None, problems
    settled, wrong = _settled(workload, method, k, model)
    problems.extend(("", line) for line in wrong if not _names(line, doubtful))
    return (None if problems else settled), problems


def _revived(workload: Workload, config: dict[str, Any]) -> tuple[Any, list[str], list[str]]:
    """The config as the workload sees it, or None; what is wrong; and keys that were left out of it for that."""
    if workload.config_model is None:
        return config, [], []
    try:
        text = canonical_json(config)
    except ValueError:
        return None, [], []  # a value that no config can hold; `spec` has said where
    try:
        return workload.revive(text), [], []
    except pydantic.ValidationError as error:
        lines = _config_problems(error, workload)
        wrong = {str(problem["loc"][0]) for problem in error.errors(include_url=False) if problem["loc"]}
    except Exception as error:
        return None, [_raised(workload, "Config", error)], []
    try:  # without them, so that what else is wrong is said in the same breath
        rest = workload.revive(canonical_json({key: value for key, value in config.items() if key not in wrong}))
    except Exception:
        return None, lines, []
    return rest, lines, sorted(wrong)


def _names(line: str, keys: Iterable[str]) -> bool:
    """Whether a message is about any of these keys."""
    return any(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", line) for key in keys)


def _settled(
    workload: Workload, method: str, k: int | None, model: Any
) -> tuple[tuple[int | None, dict[str, Any], float | None] | None, list[str]]:
    """What the workload's own functions make of it, or None; and what is wrong."""
    hook = "settle"
    try:
        if workload.settle is not None:
            settled: Any = workload.settle(method, k, model)
            if not isinstance(settled, tuple) or len(settled) != 2:
                raise TypeError(f"it returned {short_repr(settled)}, not (k, config)")
            k, model = settled
            if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < 2**63):
                raise TypeError(f"it returned k = {short_repr(k)}, neither None nor an integer from 0 to 2^63 - 1")
        hook = "cost"
        cost = None if workload.cost is None else float(workload.cost(method, k, model))
        if cost is not None and not math.isfinite(cost):
            raise TypeError(f"it returned {cost}, not a finite number")
        hook = "Config"
        full = model.model_dump(mode="json") if isinstance(model, pydantic.BaseModel) else model
        if not isinstance(full, Mapping):
            raise TypeError(f"the config is {short_repr(full)}, neither a model nor a dict")
        canonical_json(full).encode()
    except Exception as error:
        # `settle` says by a ValueError what is wrong with the sweep; all else is a mistake of its own.
        lines = message_of(error).splitlines() if hook == "settle" and isinstance(error, ValueError) else []
        return None, lines or [_raised(workload, hook, error)]
    return (k, dict(full), cost), []


_IN_A_BLOCK = {
    "k": "belongs into a [[grid]] block: k = 4, or a list",
    "method": 'belongs into a [[grid]] block: method = "..."',
    "methods": 'is spelt method, in a [[grid]] block: method = ["...", "..."]',
    "seeds": "stands at the top of the file, before any [table]",
    "seed": "is spelt seeds, and stands at the top of the file",
}


def _raised(workload: Workload, hook: str, error: Exception) -> str:
    return f"{workload.source_path}: {hook}: {type(error).__name__}: {message_of(error)}"


def _config_problems(error: pydantic.ValidationError, workload: Workload) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            unknown = unknown_name("config key", place, workload.config_model.model_fields)  # type: ignore[union-attr]
            elsewhere = BELONGS if place in RESOURCES else _IN_A_BLOCK.get(place)
            lines.append(f"{place}: no config key; it {elsewhere}" if elsewhere else unknown)
        elif problem["type"] == "missing":
            lines.append(f"config key {place!r} is missing")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            key = f"config key {place!r}: " if place else ""
            got = f" (got {short_repr(problem['input'])})" if place else ""
            field = workload.config_model.model_fields.get(place)  # type: ignore[union-attr]
            if problem["type"] == "string_pattern_mismatch" and field is not None and field.description:
                got += f"; it is {field.description}"
            if isinstance(problem["input"], list):
                got += f"; values to try one by one stand in [[grid]]: {place} = {short_repr(problem['input'])}"
            lines.append(f"{key}{text[:1].lower()}{text[1:]}{got}")
    return lines
