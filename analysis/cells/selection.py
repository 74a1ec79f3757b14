"""Selection of the cells of a table or figure: all have one setting, and each row has one cell per seed.

A store may hold other cells of the same experiment (other sizes, learning rates, older versions of the workload). A
selection fixes some config values for all rows (`pinned`) and others for each row (`Row`). All other settings must be
equal in all done cells. Otherwise the user has to choose by `--where`. Cells that are not done and differ from the done
ones are left out, and a note counts them.
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
from raysweep.orchestrator.text import join_first

NOT_LAUNCHED = "not launched"
MISSING_SCHEMA = {"row": pl.String, "seed": pl.Int64, "status": pl.String}
LEFT_OUT_SCHEMA = {"cell_id": pl.String, "sweep": pl.String, "differs": pl.String}

_NEEDED = ("cell_id", "experiment", "method", "k", "seed", "status", "config")
_OUTSIDE_CONFIG = ("workload", "workload_version")
_BY_ROW = ("implementation", "tol")
"""Settings that may differ between rows but not within a row, as not every rule has the fused implementation."""
_MAX_DIFFERENCES = 5

Texts = Mapping[str, str]
"""A cell's settings: name -> value as JSON."""


@dataclass(frozen=True)
class Selection:
    """The conditions by which cells of a store are selected.

    Args:
        sweep: the sweep that runs the cells, in the form that commands accept.
        experiment: the cells' experiment.
        rows: the rows to compare; a cell belongs to the first row whose conditions it meets.
        pinned: config values of all rows; cells with other values are ignored.
        label: the selection's name in notes; empty if a table or figure has only one selection.
        metric: the metric to read, such as `mse_post_all`; empty if only arrays are read.
        arrays: the recorded arrays to read.
        seeds: the expected seeds if no cell has been launched; otherwise all seeds of the launched cells are expected.
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
        """Return the labels of the rows with these keys, separated by commas, in the selection's order."""
        wanted = set(keys)
        return ", ".join(row.label for row in self.rows if row.key in wanted)

    def seeds_by_row(self, cells: pl.DataFrame) -> dict[str, tuple[int, ...]]:
        """Return the seeds of each row that has some, both in the selection's order, whatever the store's is.

        Args:
            cells: the cells. Columns: row, seed and any others.
        """
        seeds = {row.key: cells.filter(pl.col("row") == row.key)["seed"] for row in self.rows}
        return {key: in_order(own, self.seeds) for key, own in seeds.items() if own.len()}


S = TypeVar("S", bound=Selection)
S_co = TypeVar("S_co", bound=Selection, covariant=True)


@dataclass(frozen=True)
class Selected(Generic[S_co]):
    """The result of a selection.

    Args:
        selection: the conditions.
        source: the source of the cells.
        cells: the selected cells. The first column, `row`, is the key of the cell's row; the others are the
            source's.
        done: the done cells; at most one per row and seed.
        seeds: all expected seeds; those that the selection names come first.
        missing: expected cells that are not done. Columns: row, seed, status.
        expected: the number of expected cells: rows times seeds.
        settings: config values that all cells share, without those that distinguish rows.
        left_out: cells that are not done and were left out, as they differ from the done cells. Columns: cell_id,
            sweep, differs (the differing settings, as text).
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
        """Return a metric of the done cells; null if a cell lacks it. Columns: row, experiment, seed, value.

        Args:
            metric: the metric to read; empty: the selection's metric.

        Raises:
            InputError: some cells are done, but no cell of the store has this metric.
        """
        metric = metric or self.selection.metric
        if metric in self.done.columns:
            column = pl.col(metric).cast(pl.Float64)
        elif self.done.is_empty():  # the frame has columns only for metrics that some cell has
            column = pl.lit(None, dtype=pl.Float64)
        else:
            raise InputError(
                f"the done cells have no metric {metric!r}; columns: {', '.join(sorted(self.done.columns))}"
            )
        return self.done.select("row", "experiment", "seed", column.alias("value"))


def select(source: Source, selection: S) -> Selected[S]:
    """Select the cells of one setting. Cells that are not done and differ from the done ones are left out.

    Raises:
        AmbiguousCells: the done cells (all cells if none is done) differ in a setting, or several cells have the same
            row and seed. The message gives an example of a `--where` that selects one setting or cell.
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
    """Sort the distinct seeds: first the seeds in `first`, in the order of `first`, then the others, ascending."""
    distinct = set(seeds)
    return (*(seed for seed in first if seed in distinct), *sorted(distinct - set(first)))


def _matching(frame: pl.DataFrame, selection: Selection) -> tuple[pl.DataFrame, list[Mapping[str, object]]]:
    """Return the cells that belong to a row of the selection, and their configs.

    The first column of the cells, `row`, is the key of their row.
    """
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
    """Return for each cell the settings that the selection does not fix: workload, version and config values, as JSON.

    If a cell's config lacks a key, the key was added after the cell had run. It is then ignored for this cell.
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
    """Return for each cell the two groups of cells that must have the same settings: its row and its method.

    Settings in `_BY_ROW` must be equal within a row (key True), all others within a method (key False). So the group
    for the setting `name` is at the key `name in _BY_ROW`.
    """
    return [{True: row, False: method} for row, method in cells.select("row", "method").iter_rows()]


def _differences_from_done(cells: pl.DataFrame, settings_of: Sequence[Texts]) -> list[str]:
    """Describe for each cell the settings in which it differs from the done cells, such as `epochs=2`.

    The text is empty if the cell is done or does not differ.
    """
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
    """Describe how each cell that is not done differs from the done cell of the same row and seed.

    The text is empty for a done cell, and for a cell whose row and seed have no done cell.

    Args:
        cells: the cells that belong to a row.
        alike: whether each cell has the settings of the done cells; only these cells are compared.
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
            differences.append(_listed(other) or "identical config")
    return differences


def _one_setting(cells: pl.DataFrame, settings_of: Sequence[Texts]) -> dict[str, object]:
    """Return the only value of each setting. Settings of `_BY_ROW` that differ between rows are left out.

    Null means that the method does not have the setting. Some methods may have null in a setting and others a
    value, but the cells of one method must agree.

    Raises:
        AmbiguousCells: some settings have several values; the message lists the settings and values.
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
        if len(values) < 2:  # otherwise it differs between rows
            shared[name] = json.loads(values[0]) if values else None
    return shared


def _left_out(cells: pl.DataFrame, differences: Sequence[str]) -> pl.DataFrame:
    sweep = cells["sweep"] if "sweep" in cells.columns else None
    columns = {"cell_id": cells["cell_id"], "sweep": sweep, "differs": differences}
    return pl.DataFrame(columns, schema=LEFT_OUT_SCHEMA)


def _listed(settings: Mapping[str, object]) -> str:
    """Format up to `_MAX_DIFFERENCES` settings as `epochs=2, patch=8`; an empty text if there are none."""
    return join_first((f"{name}={value}" for name, value in settings.items()), _MAX_DIFFERENCES)


def _config(text: str | None) -> dict[str, object]:
    return dict(json.loads(text)) if text else {}
