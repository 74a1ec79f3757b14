"""Which cells of a store make up a table: by row, of one setting, one a seed, nothing dropped unsaid.

A store may hold other cells of the same experiment (other sizes, learning rates, older versions of the
workload). A table pins what it is about (`pinned`) and what tells its rows apart (`Row`); all other
settings must then be the same throughout, else the choice is the user's, by `--where`. Cells that are not done
choose nothing: those that differ from what is done are left out, and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from raysweep.analysis.errors import AmbiguousCells
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import count_cells, join_first

_NEEDED = ("cell_id", "experiment", "method", "k", "seed", "status", "config")
_OUTSIDE_CONFIG = ("workload", "workload_version")
_OF_THE_ROW = ("implementation", "tol")
"""How a rule is computed: may differ between rows, as not every rule has a fused kernel; not within one."""
_SHOWN = 5

NOT_LAUNCHED = "not launched"
MISSING_SCHEMA = {"row": pl.String, "seed": pl.Int64, "status": pl.String}
LEFT_OUT_SCHEMA = {"cell_id": pl.String, "sweep": pl.String, "differs": pl.String}

Texts = Mapping[str, str]
"""A cell's settings, as JSON."""


@dataclass(frozen=True)
class Row:
    """One row of a table and the cells that belong to it.

    Args:
        key: its name in frames and in the paper's values.
        label: as shown.
        method: the cells' method.
        k: the cells' k; None: whatever it is.
        config: config values that tell the row from others of the same method.
    """

    key: str
    label: str
    method: str
    k: int | None = None
    config: Mapping[str, object] = field(default_factory=dict)

    def has(self, method: str, k: int | None, config: Mapping[str, object]) -> bool:
        """Whether a cell belongs to this row."""
        return (
            method == self.method
            and (self.k is None or k == self.k)
            and all(name in config and config[name] == value for name, value in self.config.items())
        )


@dataclass(frozen=True)
class Chosen:
    """The cells of a table.

    Args:
        cells: the frame's rows that belong, with their `row` key first.
        done: those of them that are done; exactly one a row and seed.
        seeds: all seeds asked for.
        missing: row, seed, status of what is asked for and not done.
        asked: how many cells the table asks for: every row at every seed.
        settings: config values shared by all, but those that tell rows apart.
        left_out: cells of other settings, none of them done: cell_id, sweep, in what each differs from what is done.
    """

    cells: pl.DataFrame
    done: pl.DataFrame
    seeds: tuple[int, ...]
    missing: pl.DataFrame
    asked: int
    settings: Mapping[str, object]
    left_out: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LEFT_OUT_SCHEMA))

    def values(self, metric: str) -> pl.DataFrame:
        """Row, experiment, seed and one metric of the done cells, as `metric`; null where a cell has none.

        Raises:
            InputError: no cell of the store has this metric though some are done.
        """
        if metric in self.done.columns:
            column = pl.col(metric).cast(pl.Float64)
        elif self.done.is_empty():  # the store's frame has a column only for metrics that some cell has
            column = pl.lit(None, dtype=pl.Float64)
        else:
            raise InputError(
                f"the done cells have no metric {metric!r}; columns: {', '.join(sorted(self.done.columns))}"
            )
        return self.done.select("row", "experiment", "seed", column.alias(metric))


def choose(
    frame: pl.DataFrame,
    rows: Sequence[Row],
    *,
    experiment: str,
    pinned: Mapping[str, object],
    default_seeds: Sequence[int],
) -> Chosen:
    """The cells of a table, or a refusal that says which setting to name.

    Args:
        frame: the store's `cells`, one row a known cell, with `config` as JSON text.
        rows: the table's rows; a cell belongs to the first that has it.
        experiment: key column's value.
        pinned: config values that the table is about; cells with others are not its business.
        default_seeds: asked for where the frame has no cell of the table; otherwise every seed that
            one of its rows has.

    Where all done cells are of one setting, that is the table's, whatever others were launched with.

    Raises:
        AmbiguousCells: the done cells (where none is, all) differ in a setting, or two of them share row and seed.
    """
    lacking = [column for column in _NEEDED if column not in frame.columns]
    if lacking:
        raise InputError(f"the frame of cells has no column {', '.join(lacking)}; it has {', '.join(frame.columns)}")
    known = frame.filter(
        (pl.col("experiment") == experiment) & pl.col("method").is_in(sorted({row.method for row in rows}))
    )
    keys: list[str | None] = []
    configs: list[Mapping[str, object]] = []
    for method, k, text in known.select("method", "k", "config").iter_rows():
        config: dict[str, object] = json.loads(text) if text else {}
        belongs = all(name in config and config[name] == value for name, value in pinned.items())
        key = next((row.key for row in rows if row.has(method, k, config)), None) if belongs else None
        keys.append(key)
        if key is not None:
            configs.append(config)
    cells = known.select(pl.Series("row", keys, dtype=pl.String), pl.all()).filter(pl.col("row").is_not_null())

    texts = _texts(cells, configs, {name for row in rows for name in row.config} | set(pinned))
    differences = _unlike_the_done(cells, texts)
    like = pl.Series([not name for name in differences], dtype=pl.Boolean)
    settings = _one_setting(cells.filter(like), [own for own, name in zip(texts, differences, strict=True) if not name])
    differences = [name or beside for name, beside in zip(differences, _beside_done(cells, like), strict=True)]
    left_out = pl.Series([bool(name) for name in differences], dtype=pl.Boolean)
    others, cells = cells.filter(left_out), cells.filter(~left_out)
    _one_cell_a_seed(cells)
    seeds = tuple(dict.fromkeys(cells["seed"].to_list())) or tuple(default_seeds)
    seeds = tuple(seed for seed in default_seeds if seed in seeds) + tuple(
        sorted(seed for seed in seeds if seed not in default_seeds)
    )
    status = {(row, seed): state for row, seed, state in cells.select("row", "seed", "status").iter_rows()}
    asked = [(row.key, seed) for row in rows for seed in seeds]
    missing = [(*cell, status.get(cell, NOT_LAUNCHED)) for cell in asked if status.get(cell) != "done"]
    return Chosen(
        cells=cells,
        done=cells.filter(pl.col("status") == "done"),
        seeds=seeds,
        missing=pl.DataFrame(missing, schema=MISSING_SCHEMA, orient="row"),
        asked=len(asked),
        settings={**pinned, **settings},
        left_out=pl.DataFrame(
            {
                "cell_id": others["cell_id"],
                "sweep": others["sweep"] if "sweep" in others.columns else None,
                "differs": [name for name in differences if name],
            },
            schema=LEFT_OUT_SCHEMA,
        ),
    )


def _texts(cells: pl.DataFrame, configs: Sequence[Mapping[str, object]], telling: set[str]) -> list[Texts]:
    """Every cell's settings but those that tell rows apart, workload and version among them.

    A key that a cell's config lacks came later than the cell and says nothing.
    """
    outside = cells.select(name for name in _OUTSIDE_CONFIG if name in cells.columns).to_dicts()
    return [
        {
            name: json.dumps(value, sort_keys=True)
            for name, value in (identity | {n: v for n, v in config.items() if n not in telling}).items()
        }
        for identity, config in zip(outside or [{}] * len(configs), configs, strict=True)
    ]


def _alike(cells: pl.DataFrame) -> list[tuple[str, str]]:
    """Row and method of each cell."""
    return list(cells.select("row", "method").iter_rows())


def _unlike_the_done(cells: pl.DataFrame, texts: Sequence[Texts]) -> list[str]:
    """Of each cell in which settings it differs from those that are done, if it is not: `epochs=2`; else nothing."""
    values: dict[str, set[str]] = {}
    within: dict[tuple[str, str], set[str]] = {}
    done = [status == "done" for status in cells["status"]]
    for (row, method), own, is_done in zip(_alike(cells), texts, done, strict=True):
        for name, text in own.items() if is_done else ():
            values.setdefault(name, set()).add(text)
            within.setdefault((name, row if name in _OF_THE_ROW else method), set()).add(text)

    def differs(row: str, method: str, name: str, text: str) -> bool:
        known = within.get((name, row if name in _OF_THE_ROW else method))
        if known is not None:
            return text not in known
        elsewhere = set() if name in _OF_THE_ROW else values.get(name, set()) - {"null"}
        return text != "null" and bool(elsewhere) and text not in elsewhere

    found = []
    for (row, method), own, is_done in zip(_alike(cells), texts, done, strict=True):
        names = [] if is_done else [name for name, text in own.items() if differs(row, method, name, text)]
        found.append(_listed({name: json.loads(own[name]) for name in names}))
    return found


def _listed(settings: Mapping[str, object]) -> str:
    """`epochs=2, patch=8`, some of them; empty where there is none."""
    return join_first((f"{name}={value}" for name, value in settings.items()), _SHOWN)


def _beside_done(cells: pl.DataFrame, like: pl.Series) -> list[str]:
    """Of each cell that is not done though another of its row and seed is: in what they differ; else nothing.

    Args:
        cells: those of the table.
        like: which of them have its settings, others being no matter.
    """
    known = zip(cells["row"], cells["seed"], cells["status"], cells["k"], cells["config"], like, strict=True)
    settings = [
        (is_like, (row, seed), status == "done", {"k": k, **(json.loads(text) if text else {})})
        for row, seed, status, k, text, is_like in known
    ]
    done = {place: own for is_like, place, is_done, own in settings if is_like and is_done}
    found = []
    for is_like, place, is_done, own in settings:
        if is_done or not is_like or place not in done:
            found.append("")
            continue
        differing = {name: value for name, value in own.items() if done[place].get(name) != value}
        found.append(_listed(differing) or "nothing that its config says")
    return found


def _one_setting(cells: pl.DataFrame, texts: Sequence[Texts]) -> dict[str, object]:
    """Every setting's one value; raises, naming all that have several.

    A null says that the method has no such setting: it may differ between methods, not within one.
    """
    counts: dict[str, Counter[str]] = {}
    within: dict[tuple[str, str], set[str]] = {}
    for (row, method), own in zip(_alike(cells), texts, strict=True):
        for name, text in own.items():
            counts.setdefault(name, Counter())[text] += 1
            within.setdefault((name, row if name in _OF_THE_ROW else method), set()).add(text)
    torn = {name for (name, _), texts in within.items() if len(texts) > 1}
    torn |= {name for name, seen in counts.items() if name not in _OF_THE_ROW and len(seen.keys() - {"null"}) > 1}
    if torn:
        lines = [
            f"  {name}: " + ", ".join(f"{text} ({count_cells(n)})" for text, n in _commonest(counts[name]))
            for name in sorted(torn)
        ]
        choice = _choice({name: counts[name] for name in sorted(torn)}, texts)
        raise _ambiguous("the table needs cells of one setting, and the store has several that fit it", lines, choice)
    shared: dict[str, object] = {}
    for name in sorted(counts):
        found = sorted(counts[name].keys() - {"null"})
        if len(found) < 2:  # else each method has its own
            shared[name] = json.loads(found[0]) if found else None
    return shared


def _one_cell_a_seed(cells: pl.DataFrame) -> None:
    repeated = cells.filter(cells.select(pl.struct("row", "seed").is_duplicated()).to_series())
    if repeated.is_empty():
        return
    lines: list[str] = []
    groups = repeated.partition_by("row", "seed", maintain_order=True)
    for group in groups[:_SHOWN]:
        differing = _differing(group)
        ids = ", ".join(group["cell_id"].to_list())
        lines.append(f"  {group['row'][0]}, seed {group['seed'][0]}: cells {ids} differ in {differing}")
    others = sorted(cell_id for group in groups for cell_id in group["cell_id"].sort().to_list()[1:])
    choice = f"cell_id NOT IN ({', '.join(map(repr, others))})"
    raise _ambiguous("more than one cell for the same row and seed", lines, choice)


def _ambiguous(what: str, lines: list[str], choice: str) -> AmbiguousCells:
    listed = "\n".join(lines)
    said = f'{what}:\n{listed}\nSay which by --where, for example --where "{choice}"'
    return AmbiguousCells(said, "; ".join(line.strip() for line in lines), choice)


def _differing(group: pl.DataFrame) -> str:
    """Which keys tell the group's cells apart, with their values."""
    configs = [json.loads(text) if text else {} for text in group["config"].to_list()]
    names = ["k", *dict.fromkeys(name for config in configs for name in config)]
    parts: list[str] = []
    for name in names:
        values = group["k"].to_list() if name == "k" else [config.get(name, "(absent)") for config in configs]
        texts = list(dict.fromkeys(json.dumps(value, sort_keys=True) for value in values))
        if len(texts) > 1:
            parts.append(f"{name} ({', '.join(texts)})")
    return ", ".join(parts) or "nothing that a config says"


def _choice(torn: Mapping[str, Counter[str]], texts: Sequence[Texts]) -> str:
    """SQL over cells for one value of each torn setting: the commonest among the cells that have those chosen before.

    Cells that have no such setting are kept, unless it is null against one value: both are settings then.
    """
    left = list(texts)
    parts: list[str] = []
    for name, seen in torn.items():
        values = Counter({text: count for text, count in seen.items() if text != "null"})
        here = Counter(own[name] for own in left if name in own and (len(values) < 2 or own[name] != "null"))
        text = _commonest(here or seen)[0][0]
        chosen, none = _predicate(name, text), len(values) > 1 and values.total() < len(texts)
        parts.append(f"({chosen} OR {name} IS NULL)" if none else chosen)
        left = [own for own in left if own.get(name, text) == text or (none and own[name] == "null")]
    return " and ".join(parts)


def _commonest(seen: Counter[str]) -> list[tuple[str, int]]:
    """Values by how often they occur; ties by name, so that a message does not hang on the store's order."""
    return sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))


def _predicate(name: str, text: str) -> str:
    """SQL over cells for `name = value`, the value given as JSON."""
    value: Any = json.loads(text)
    if value is None:
        return f"{name} IS NULL"
    if isinstance(value, str):
        return f"{name} = '{value.replace(chr(39), chr(39) * 2)}'"
    return f"{name} = {text}"
