"""Selection of the cells of a table, panel or line: by row, of one setting, one a seed, none dropped silently.

A store may hold other cells of the same experiment (other sizes, learning rates, older versions of the
workload). A selection pins what it is about (`pinned`) and what tells its rows apart (`Row`); all other
settings must then be the same throughout, else the user chooses, by `--where`. Cells that are not done
choose nothing: those that differ from the done ones are left out, and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import polars as pl

from raysweep.analysis.cells.ambiguity import several_cells, several_settings
from raysweep.analysis.cells.methods import Row
from raysweep.analysis.cells.source import Source
from raysweep.analysis.paper.values import PAPER_SEEDS
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import listed

NOT_LAUNCHED = "not launched"
MISSING_SCHEMA = {"row": pl.String, "seed": pl.Int64, "status": pl.String}
LEFT_OUT_SCHEMA = {"cell_id": pl.String, "sweep": pl.String, "differs": pl.String}

_NEEDED = ("cell_id", "experiment", "method", "k", "seed", "status", "config")
_OUTSIDE_CONFIG = ("workload", "workload_version")
_BY_ROW = ("implementation", "tol")
"""The computation of a rule: may differ between rows, as not every rule has a fused kernel, but not within one."""
_MAX_DIFFERENCES = 5

Texts = Mapping[str, str]
"""A cell's settings: name -> value as JSON."""


@dataclass(frozen=True)
class Selection:
    """A query for cells of a store.

    Args:
        sweep: the sweep that runs them, as commands take it.
        experiment: key column's value.
        rows: the rows that are compared; a cell belongs to the first that has it.
        pinned: config values of all rows; cells with others are ignored.
        label: names the selection in notes; empty where a table or figure has one only.
        metric: the metric that is read, `mse_post_all` for example; empty where arrays are.
        arrays: the recorded arrays that are read.
        seeds: expected where no cell has been launched; otherwise every seed that one of the rows has.
    """

    sweep: str
    experiment: str
    rows: tuple[Row, ...]
    pinned: Mapping[str, object] = field(default_factory=dict)
    label: str = ""
    metric: str = ""
    arrays: tuple[str, ...] = ()
    seeds: tuple[int, ...] = PAPER_SEEDS

    def row_labels(self, keys: Iterable[str]) -> str:
        """The rows of these keys, in the selection's order, as a list in prose."""
        wanted = set(keys)
        return ", ".join(row.label for row in self.rows if row.key in wanted)


S = TypeVar("S", bound=Selection)
S_co = TypeVar("S_co", bound=Selection, covariant=True)


@dataclass(frozen=True)
class Selected(Generic[S_co]):
    """The selected cells.

    Args:
        selection: what they were selected by.
        source: what they were selected from.
        cells: rows of the source's frame, with their `row` key first.
        done: the done ones; one a row and seed at most.
        seeds: all expected seeds, the paper's first.
        missing: row, seed, status of cells that are expected and not done.
        expected: number of cells: every row at every seed.
        settings: config values that all cells share, but for those that tell rows apart.
        left_out: cells of other settings, none of them done: cell_id, sweep, in what each differs from the done ones.
    """

    selection: S_co
    source: Source
    cells: pl.DataFrame
    done: pl.DataFrame
    seeds: tuple[int, ...]
    missing: pl.DataFrame
    expected: int
    settings: Mapping[str, object]
    left_out: pl.DataFrame

    def values(self, metric: str = "") -> pl.DataFrame:
        """Columns row, experiment, seed, value of the done cells; null where a cell has no value.

        Args:
            metric: empty: the selection's.

        Raises:
            InputError: no cell of the store has this metric though some are done.
        """
        metric = metric or self.selection.metric
        if metric in self.done.columns:
            column = pl.col(metric).cast(pl.Float64)
        elif self.done.is_empty():  # the store's frame has a column only for metrics that some cell has
            column = pl.lit(None, dtype=pl.Float64)
        else:
            raise InputError(
                f"the done cells have no metric {metric!r}; columns: {', '.join(sorted(self.done.columns))}"
            )
        return self.done.select("row", "experiment", "seed", column.alias("value"))


def select(source: Source, selection: S) -> Selected[S]:
    """The selected cells. If all done ones share one setting, the others are of that setting too, else left out.

    Raises:
        AmbiguousCells: the done cells (where none is, all) differ in a setting, or two of them share row and seed;
            the message says how to choose by `--where`.
    """
    cells, configs = _matching(source.cells, selection)
    settings_of = _settings(cells, configs, selection)
    differences = _differences_from_done(cells, settings_of)
    alike = pl.Series([not text for text in differences], dtype=pl.Boolean)
    settings = _one_setting(
        cells.filter(alike), [own for own, is_alike in zip(settings_of, alike, strict=True) if is_alike]
    )
    differences = [text or beside for text, beside in zip(differences, _beside_done(cells, alike), strict=True)]
    used = pl.Series([not text for text in differences], dtype=pl.Boolean)
    left_out = _left_out(cells.filter(~used), [text for text in differences if text])
    cells = cells.filter(used)
    repeated = cells.filter(cells.select(pl.struct("row", "seed").is_duplicated()).to_series())
    if repeated.height:
        raise several_cells(repeated)
    seeds = in_order(cells["seed"], selection.seeds) or selection.seeds
    status = {(row, seed): state for row, seed, state in cells.select("row", "seed", "status").iter_rows()}
    expected = [(row.key, seed) for row in selection.rows for seed in seeds]
    missing = [(*cell, status.get(cell, NOT_LAUNCHED)) for cell in expected if status.get(cell) != "done"]
    return Selected(
        selection=selection,
        source=source,
        cells=cells,
        done=cells.filter(pl.col("status") == "done"),
        seeds=seeds,
        missing=pl.DataFrame(missing, schema=MISSING_SCHEMA, orient="row"),
        expected=len(expected),
        settings={**selection.pinned, **settings},
        left_out=left_out,
    )


def in_order(seeds: Iterable[int], first: Sequence[int] = PAPER_SEEDS) -> tuple[int, ...]:
    """Distinct seeds: those of `first` in its order, then the others ascending."""
    distinct = set(seeds)
    return (*(seed for seed in first if seed in distinct), *sorted(distinct - set(first)))


def _matching(frame: pl.DataFrame, selection: Selection) -> tuple[pl.DataFrame, list[Mapping[str, object]]]:
    """The cells that belong to a row, with its key as `row`; and their configs."""
    lacking = [column for column in _NEEDED if column not in frame.columns]
    if lacking:
        raise InputError(f"the frame of cells has no column {', '.join(lacking)}; it has {', '.join(frame.columns)}")
    methods = sorted({row.method for row in selection.rows})
    candidates = frame.filter((pl.col("experiment") == selection.experiment) & pl.col("method").is_in(methods))
    keys: list[str | None] = []
    configs: list[Mapping[str, object]] = []
    for method, k, text in candidates.select("method", "k", "config").iter_rows():
        config = _config(text)
        pinned = all(name in config and config[name] == value for name, value in selection.pinned.items())
        key = next((row.key for row in selection.rows if row.has(method, k, config)), None) if pinned else None
        keys.append(key)
        if key is not None:
            configs.append(config)
    return candidates.select(pl.Series("row", keys, dtype=pl.String), pl.all()).drop_nulls("row"), configs


def _settings(cells: pl.DataFrame, configs: Sequence[Mapping[str, object]], selection: Selection) -> list[Texts]:
    """Every cell's settings, workload and version among them, but those that the selection tells apart.

    A key that a cell's config lacks came later than the cell and says nothing.
    """
    telling = {name for row in selection.rows for name in row.config} | set(selection.pinned)
    outside = cells.select(name for name in _OUTSIDE_CONFIG if name in cells.columns).to_dicts()
    return [
        {
            name: json.dumps(value, sort_keys=True)
            for name, value in (identity | {n: v for n, v in config.items() if n not in telling}).items()
        }
        for identity, config in zip(outside or [{}] * len(configs), configs, strict=True)
    ]


def _groups(cells: pl.DataFrame) -> list[dict[bool, str]]:
    """For each cell the group in which a setting has one value, by `name in _BY_ROW`: its row, or its method."""
    return [{True: row, False: method} for row, method in cells.select("row", "method").iter_rows()]


def _differences_from_done(cells: pl.DataFrame, settings_of: Sequence[Texts]) -> list[str]:
    """For each cell that is not done, the settings in which it differs from the done ones: `epochs=2`; else nothing."""
    values: dict[str, set[str]] = {}
    within: dict[tuple[str, str], set[str]] = {}
    done = [status == "done" for status in cells["status"]]
    groups = _groups(cells)
    for group, own, is_done in zip(groups, settings_of, done, strict=True):
        for name, text in own.items() if is_done else ():
            values.setdefault(name, set()).add(text)
            within.setdefault((name, group[name in _BY_ROW]), set()).add(text)

    def differs(group: Mapping[bool, str], name: str, text: str) -> bool:
        same_group = within.get((name, group[name in _BY_ROW]))
        if same_group is not None:
            return text not in same_group
        elsewhere = set() if name in _BY_ROW else values.get(name, set()) - {"null"}
        return text != "null" and bool(elsewhere) and text not in elsewhere

    return [
        "" if is_done else _listed({name: json.loads(text) for name, text in own.items() if differs(group, name, text)})
        for group, own, is_done in zip(groups, settings_of, done, strict=True)
    ]


def _beside_done(cells: pl.DataFrame, alike: pl.Series) -> list[str]:
    """For each cell that is not done, beside a done one of its row and seed, their differences; else nothing.

    Args:
        cells: all that belong to a row.
        alike: which of them have the table's settings; the others don't matter.
    """
    columns = cells.select("row", "seed", "status", "k", "config").iter_rows()
    entries = [
        ((row, seed), status == "done", is_alike, {"k": k, **_config(text)})
        for (row, seed, status, k, text), is_alike in zip(columns, alike, strict=True)
    ]
    done = {place: config for place, is_done, is_alike, config in entries if is_alike and is_done}
    differences = []
    for place, is_done, is_alike, config in entries:
        if is_done or not is_alike or place not in done:
            differences.append("")
        else:
            other = {name: value for name, value in config.items() if done[place].get(name) != value}
            differences.append(_listed(other) or "nothing that its config says")
    return differences


def _one_setting(cells: pl.DataFrame, settings_of: Sequence[Texts]) -> dict[str, object]:
    """The one value of every setting.

    A null says that the method has no such setting: it may differ between methods, not within one.

    Raises:
        AmbiguousCells: settings have several values; the message names all of them.
    """
    counts: dict[str, Counter[str]] = {}
    within: dict[tuple[str, str], set[str]] = {}
    for group, own in zip(_groups(cells), settings_of, strict=True):
        for name, text in own.items():
            counts.setdefault(name, Counter())[text] += 1
            within.setdefault((name, group[name in _BY_ROW]), set()).add(text)
    several = {name for (name, _), texts in within.items() if len(texts) > 1}
    several |= {name for name, seen in counts.items() if name not in _BY_ROW and len(seen.keys() - {"null"}) > 1}
    if several:
        raise several_settings({name: counts[name] for name in sorted(several)}, settings_of)
    shared: dict[str, object] = {}
    for name in sorted(counts):
        values = sorted(counts[name].keys() - {"null"})
        if len(values) < 2:  # else each method has its own
            shared[name] = json.loads(values[0]) if values else None
    return shared


def _left_out(cells: pl.DataFrame, differences: Sequence[str]) -> pl.DataFrame:
    sweep = cells["sweep"] if "sweep" in cells.columns else None
    columns = {"cell_id": cells["cell_id"], "sweep": sweep, "differs": differences}
    return pl.DataFrame(columns, schema=LEFT_OUT_SCHEMA)


def _listed(settings: Mapping[str, object]) -> str:
    """`epochs=2, patch=8`, some of them; empty without settings."""
    return listed((f"{name}={value}" for name, value in settings.items()), _MAX_DIFFERENCES)


def _config(text: str | None) -> dict[str, object]:
    return dict(json.loads(text)) if text else {}
