"""From a store to everything that the page says; what it keeps is bounded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

from raysweep.analysis.report import cell_details, completeness, metrics, provenance
from raysweep.analysis.report.curve_data import drawn_of
from raysweep.analysis.report.curves import Curve
from raysweep.analysis.report.paper import Paper, paper_of
from raysweep.analysis.report.settings import with_settings
from raysweep.orchestrator.launch.drift import SUPERSEDED, request_state
from raysweep.orchestrator.query.sql import cells_frame, matching
from raysweep.orchestrator.query.widen import widen
from raysweep.orchestrator.schedule.failure_groups import grouped
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import CELLS
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import at_store, join_first

MAX_EXPERIMENTS = 60
MAX_METRICS = 5
MAX_SETTINGS = 40
MAX_FAILED = 20_000
"""Failed attempts that are looked through, with their tracebacks."""
MAX_ROWS = 50
"""Rows of the tables of what is missing and of failures."""
NEEDED = (
    "cell_id", "sweep", "experiment", "workload", "workload_version", "method", "k", "seed", "config", "status",
    "attempt", "metrics", "git_commit", "git_dirty", "source_digest", "packages", "finished_at",
)  # fmt: skip
"""Columns of cells that the report reads."""
OURS = "^[A-Za-z0-9_]+$"
"""A workload of ours has a bare name; a user's is `module:function`."""


class Experiment(NamedTuple):
    """What the page shows of an experiment."""

    name: str
    titles: tuple[str, ...]
    cells: int
    done: int
    settings: pl.DataFrame
    """setting, label and the columns of `settings.KEYS`."""
    metrics: metrics.Metrics
    column_of: Mapping[str, str]
    """Metric -> its column in SQL."""
    curves: tuple[Curve, ...]


class Report(NamedTuple):
    """All that is on the page; frames as the modules that make them say."""

    title: str
    store: str
    where: str | None
    made_at: datetime
    version: str
    asked: int
    done: int
    experiments: tuple[Experiment, ...]
    unshown: tuple[str, ...]
    """Experiments beyond `MAX_EXPERIMENTS`."""
    completeness: pl.DataFrame
    missing: pl.DataFrame
    missing_more: int
    missing_old: int
    """Missing cells of an older version of their workload: nothing runs them again."""
    began: datetime | None
    ended: datetime | None
    cost: provenance.Cost
    machines: pl.DataFrame
    code: pl.DataFrame
    mixed_code: pl.DataFrame
    packages: list[tuple[str, str, int]]
    failures: pl.DataFrame
    """As `failure_groups.grouped`, with label, error_message, traceback and log_tail of the example."""
    failures_more: int
    failed_attempts: int
    drill: cell_details.Drill
    paper: Paper | None


def gather(
    store: Store,
    *,
    named: str | None = None,
    title: str | None = None,
    where: str | None = None,
    asked_metrics: Sequence[str] = (),
    carried_bytes: int = cell_details.BYTES,
) -> Report:
    """Read a store.

    Args:
        store: where from.
        named: the store as commands are to name it; None: its path.
        title: of the page; None: the store's name.
        where: an SQL predicate over its cells.
        asked_metrics: names of metrics to show; empty: some of all.
        carried_bytes: room for single cells.

    Raises:
        InputError: the predicate is wrong.
        StoreDamaged: a file is.
    """
    from importlib.metadata import version

    cells = cells_frame(store, f"SELECT {', '.join(NEEDED)}").select(NEEDED)
    kept = None
    if where is not None:
        kept, _ = matching(store.known(), store.summary(), where)
        cells = cells.filter(pl.col("cell_id").is_in(kept.implode()))
    columns = _metric_columns(cells)
    cells, settings = with_settings(cells)
    cells = cells.join(settings.select("setting", "label"), on="setting", how="left", maintain_order="left")
    done = cells.filter(pl.col("status") == "done")
    attempts = _attempts(store, cells)
    recorded = store.sweeps()
    old = request_state(recorded).filter(pl.col("request_state") == SUPERSEDED)
    titles = {s.about["name"]: Sweep.from_text(s.about["text"]).title for s in recorded}
    names = cells["experiment"].unique(maintain_order=True).to_list()
    drawn = drawn_of(store, done, names[:MAX_EXPERIMENTS])
    experiments = []
    for name, drawing in drawn.items():
        asked = cells.filter(pl.col("experiment") == name)
        mine = asked.filter(pl.col("status") == "done")
        sweeps = asked["sweep"].unique(maintain_order=True).to_list()
        experiments.append(
            Experiment(
                name,
                tuple(dict.fromkeys(titles[s] for s in sweeps if titles.get(s))),
                asked.height,
                mine.height,
                settings.filter(pl.col("experiment") == name),
                metrics.tabulate(mine, asked_metrics, MAX_METRICS, MAX_SETTINGS),
                columns,
                drawing.curves,
            )
        )
    failures, failures_more = _failures(store, cells)
    missing, missing_more = completeness.missing(cells, MAX_ROWS)
    at = at_store(named or str(store.storage))
    return Report(
        title=title or f"Sweep results: {str(store.storage).rstrip('/').rpartition('/')[2]}",
        store=named or str(store.storage),
        where=where,
        made_at=datetime.now(UTC).replace(microsecond=0),
        version=version("raysweep"),
        asked=cells.height,
        done=done.height,
        experiments=tuple(experiments),
        unshown=tuple(names[MAX_EXPERIMENTS:]),
        completeness=completeness.by_experiment(cells),
        missing=missing,
        missing_more=missing_more,
        missing_old=cells.filter(pl.col("status") != "done").join(old, on="cell_id", how="semi").height,
        began=attempts["started_at"].min(),  # type: ignore[arg-type]
        ended=attempts["finished_at"].max(),  # type: ignore[arg-type]
        cost=provenance.cost(attempts),
        machines=provenance.machines(attempts),
        code=provenance.code(done),
        mixed_code=provenance.mixed_code(done),
        packages=provenance.packages(done),
        failures=failures,
        failures_more=failures_more,
        failed_attempts=attempts.filter(pl.col("status") != "done").height,
        drill=cell_details.carry(store, cells, [single for d in drawn.values() for single in d.singles], carried_bytes),
        paper=paper_of(store, kept, at) if cells["workload"].str.contains(OURS).any() else None,
    )


def _attempts(store: Store, cells: pl.DataFrame) -> pl.DataFrame:
    columns = [
        "cell_id", "status", "seconds", "cpu_seconds", "cpus", "gpus", "host", "node_id", "device",
        "started_at", "finished_at",
    ]  # fmt: skip
    found = store.collect(lambda: store.attempts.select(columns))
    return found.join(cells.select("cell_id"), on="cell_id", how="semi", maintain_order="left")


def _metric_columns(cells: pl.DataFrame) -> dict[str, str]:
    """Metric -> the column that `widen` makes of it beside all config keys."""
    metrics = cells["metrics"].list.explode().struct.field("name").drop_nulls().unique().sort().to_list()
    if not metrics:
        return {}
    keys = {key for text in cells["config"].unique() for key in json.loads(text or "{}")}
    bare = pl.DataFrame(pl.from_arrow(CELLS.empty_table()))
    one = bare.clear(1).with_columns(
        pl.lit(None, pl.String).alias("error_type"),
        pl.lit(None, pl.String).alias("error_message"),
        pl.Series("config", [json.dumps(dict.fromkeys(keys, 0))]),
        pl.Series("metrics", [[{"name": name, "value": 0.0} for name in metrics]], cells.schema["metrics"]),
    )
    return dict(zip(metrics, widen(one).columns[-len(metrics) :], strict=True))


def _failures(store: Store, cells: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Cells that are not done, by the likeness of their last attempts."""
    bad = cells.filter((pl.col("status") != "done") & pl.col("attempt").is_not_null()).head(MAX_FAILED)
    key = ["cell_id", "attempt"]
    columns = [*key, "workload", "method", "seed", "status", "error_type", "error_message", "traceback", "log_tail"]
    found = store.collect(
        lambda: store.attempts.filter(pl.col("status") != "done").select(columns).join(
            bad.lazy().select(key), on=key, how="semi"
        )
    )  # fmt: skip
    groups = grouped(found)
    shown = groups.head(MAX_ROWS).join(
        found.select("cell_id", "error_message", "traceback", "log_tail").unique("cell_id"),
        left_on="example",
        right_on="cell_id",
        how="left",
        maintain_order="left",
    )
    shown = shown.with_columns(
        pl.Series("seeds", [join_first(seeds, completeness.MAX_SEEDS) for seeds in shown["seeds"]], pl.String)
    )
    labelled = cells.select("cell_id", "experiment", "label", "seed")
    shown = shown.join(labelled, left_on="example", right_on="cell_id", how="left", maintain_order="left")
    return shown, max(0, groups.height - MAX_ROWS)
