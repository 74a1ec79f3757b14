"""Builds the content of the report page from a store. Limits bound its size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

from raysweep.analysis.questions.declared import Verdict, questions
from raysweep.analysis.report import cell_details, completeness, metrics, provenance, text_metrics
from raysweep.analysis.report.curve_data import curves_of
from raysweep.analysis.report.curves import Curve
from raysweep.analysis.report.direction import choose
from raysweep.analysis.report.paper import Paper, paper_of
from raysweep.analysis.report.results import Result, result_of
from raysweep.analysis.report.variants import with_variants
from raysweep.orchestrator.launch.drift import SUPERSEDED, request_state
from raysweep.orchestrator.launch.staleness import same_code
from raysweep.orchestrator.query.sql import cells_frame, matching
from raysweep.orchestrator.query.widen import widen
from raysweep.orchestrator.schedule.failure_groups import grouped
from raysweep.orchestrator.store.missing import missing as missing_of
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import CELLS
from raysweep.orchestrator.sweep.grammar.settings import flattened
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import at_store, join_first

MAX_EXPERIMENTS = 60
MAX_METRICS = 5
MAX_VARIANTS = 40
MAX_FAILED = 20_000
"""Maximum number of failed cells whose last attempts are read and grouped."""
MAX_ROWS = 50
"""Maximum number of rows in the tables of missing cells and of failures."""
NEEDED = (
    "cell_id", "sweep", "experiment", "workload", "workload_version", "method", "k", "seed", "config", "status",
    "attempt", "metrics", "git_commit", "git_dirty", "source_digest", "packages", "finished_at",
)  # fmt: skip
"""Cell columns that the report reads."""
BUNDLED = "^[A-Za-z0-9_]+$"
"""Pattern of a bundled workload's name; a user's workload is named `module:function`."""


class Experiment(NamedTuple):
    """The section of the report on one experiment."""

    name: str
    titles: tuple[str, ...]
    cells: int
    done: int
    variants: pl.DataFrame
    """Columns variant, label and `variants.KEYS`."""
    metrics: metrics.Metrics
    texts: text_metrics.TextMetrics
    column_of: Mapping[str, str]
    """Metric -> SQL column."""
    text_column_of: Mapping[str, str]
    """The SQL column of each text metric: name -> column."""
    keys: tuple[str, ...]
    """The SQL columns that tell the variants apart."""
    curves: tuple[Curve, ...]
    result: Result | None = None
    """The best variants and what matters; None if the experiment has no metric."""


class Report(NamedTuple):
    """The whole content of the report page. Each frame's columns are documented in the module that builds it."""

    title: str
    store: str
    where: str | None
    made_at: datetime
    version: str
    requested: int
    done: int
    experiments: tuple[Experiment, ...]
    omitted: tuple[str, ...]
    """Names of the experiments beyond `MAX_EXPERIMENTS`."""
    completeness: pl.DataFrame
    missing: pl.DataFrame
    missing_more: int
    missing_old: int
    """Number of missing cells that belong to an older version of their workload and are not run again."""
    began: datetime | None
    ended: datetime | None
    cost: provenance.Cost
    machines: pl.DataFrame
    code: pl.DataFrame
    mixed_code: pl.DataFrame
    packages: list[tuple[str, str, int]]
    keys: tuple[str, ...]
    """The SQL columns that tell the variants of an experiment apart, for all experiments."""
    failures: pl.DataFrame
    """Columns of `failure_groups.grouped`, plus experiment, label, seed, error_message, traceback and log_tail of the
    group's example cell.
    """
    failures_more: int
    failed_attempts: int
    details: cell_details.CellDetails
    paper: Paper | None
    skipped: tuple[str, ...] = ()
    """Sentences that name the damaged files that were skipped, and tell what is missing because of them."""
    selected: pl.Series | None = None
    """Ids of the cells that `where` selects; None: all."""
    questions: tuple[Verdict, ...] = ()
    """The verdicts on the questions that sweeps declare; empty if the page shows a selection of the cells."""


def build(
    store: Store,
    *,
    named: str | None = None,
    title: str | None = None,
    where: str | None = None,
    metric_names: Sequence[str] = (),
    better: str | None = None,
    detail_bytes: int = cell_details.BYTES,
) -> Report:
    """Build the report on a store.

    Args:
        store: the store.
        named: the store's name in the report's commands; None: its path.
        title: the page's title; None: a title with the store's name.
        where: an SQL predicate that selects cells; None: all cells.
        metric_names: metrics to show; empty: the first `MAX_METRICS` of each experiment.
        better: "lower" or "higher", for the metric of the results; None: as a question or the metric's name says.
        detail_bytes: maximum size of the single cells' data.

    Raises:
        InputError: the predicate is invalid.
        StoreDamaged: a file of the store is damaged.
    """
    from importlib.metadata import version

    cells = cells_frame(store, f"SELECT {', '.join(NEEDED)}").select(NEEDED)
    selected = None
    if where is not None:
        selected, _ = matching(store.known(), store.summary(), where)
        cells = cells.filter(pl.col("cell_id").is_in(selected.implode()))
    texts = store.collect(lambda: store.scan("texts").select("cell_id", "attempt", "name", "value"))
    metric_columns, text_columns, config_columns = _columns(cells, texts)
    cells, variants = with_variants(cells)
    cells = cells.join(variants.select("variant", "label"), on="variant", how="left", maintain_order="left")
    done = cells.filter(pl.col("status") == "done")
    attempts = _attempts(store, cells)
    recorded = store.sweeps()
    old = request_state(recorded).filter(pl.col("request_state") == SUPERSEDED)
    parsed = {s.metadata["name"]: Sweep.from_text(s.metadata["text"]) for s in recorded}
    names = cells["experiment"].unique(maintain_order=True).to_list()
    tables: dict[str, tuple[metrics.Metrics, Result | None]] = {}
    for name in names[:MAX_EXPERIMENTS]:
        own = cells.filter(pl.col("experiment") == name)
        of_metrics = metrics.tabulate(own.filter(pl.col("status") == "done"), metric_names, MAX_METRICS, MAX_VARIANTS)
        declared = [q for sweep in own["sweep"].unique() if sweep in parsed for q in parsed[sweep].questions]
        direction = choose([m.name for m in of_metrics.tables], metric_names, better, declared)
        tables[name] = of_metrics, None if direction is None else result_of(own, variants, direction)
    best = {name: result.rows["variant"].to_list() for name, (_, result) in tables.items() if result is not None}
    curves = curves_of(store, done, [*tables], best)
    experiments = []
    for name, drawing in curves.items():
        own = cells.filter(pl.col("experiment") == name)
        own_done = own.filter(pl.col("status") == "done")
        sweeps = own["sweep"].unique(maintain_order=True).to_list()
        experiments.append(
            Experiment(
                name,
                tuple(dict.fromkeys(parsed[s].title for s in sweeps if s in parsed and parsed[s].title)),
                own.height,
                own_done.height,
                variants.filter(pl.col("experiment") == name),
                tables[name][0],
                text_metrics.tabulate(own_done, texts, metric_names, MAX_METRICS, MAX_VARIANTS),
                metric_columns,
                text_columns,
                distinguishing(variants.filter(pl.col("experiment") == name), config_columns),
                drawing.curves,
                tables[name][1],
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
        requested=cells.height,
        done=done.height,
        experiments=tuple(experiments),
        omitted=tuple(names[MAX_EXPERIMENTS:]),
        completeness=completeness.by_experiment(cells),
        missing=missing,
        missing_more=missing_more,
        missing_old=cells.filter(pl.col("status") != "done").join(old, on="cell_id", how="semi").height,
        began=attempts["started_at"].min(),  # type: ignore[arg-type]
        ended=attempts["finished_at"].max(),  # type: ignore[arg-type]
        cost=provenance.cost(attempts),
        machines=provenance.machines(attempts),
        code=provenance.code(done),
        mixed_code=_mixed_code(store, done),
        packages=provenance.packages(done),
        keys=distinguishing(variants, config_columns),
        failures=failures,
        failures_more=failures_more,
        failed_attempts=attempts.filter(pl.col("status") != "done").height,
        details=cell_details.details(
            store, cells, texts, [c for drawing in curves.values() for c in drawing.cells], detail_bytes
        ),
        paper=paper_of(store, selected, at) if cells["workload"].str.contains(BUNDLED).any() else None,
        selected=selected,
        skipped=tuple(missing_of(store).lines()),
        questions=tuple(questions(store)) if where is None else (),
    )


def _attempts(store: Store, cells: pl.DataFrame) -> pl.DataFrame:
    columns = [
        "cell_id", "status", "seconds", "cpu_seconds", "cpus", "gpus", "host", "node_id", "device",
        "started_at", "finished_at",
    ]  # fmt: skip
    attempts = store.collect(lambda: store.attempts.select(columns))
    return attempts.join(cells.select("cell_id"), on="cell_id", how="semi", maintain_order="left")


def _mixed_code(store: Store, done: pl.DataFrame) -> pl.DataFrame:
    """Return the result of `provenance.mixed_code`, with source digests of equivalent code counted as one."""
    mixed = provenance.mixed_code(done)
    if mixed.is_empty():
        return mixed
    same = same_code(store, done["source_digest"].drop_nulls().unique().to_list())
    return provenance.mixed_code(done.with_columns(pl.col("source_digest").replace(same)))


def distinguishing(variants: pl.DataFrame, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Return the SQL columns that tell variants apart: method, k, and settings that differ within a method.

    If these do not suffice, config is among the columns.

    Args:
        variants: columns as `variants.with_variants` returns them.
        columns: config key -> SQL column.
    """
    configs = [flattened(json.loads(text)) if text else {} for text in variants["config"]]
    methods = variants["method"].to_list()
    texts = {
        key: {(method, json.dumps(config.get(key))) for method, config in zip(methods, configs, strict=True)}
        for key in columns
    }
    keys = [name for name in ("workload", "workload_version") if variants[name].n_unique() > 1]
    keys += ["method", *(["k"] if variants["k"].count() else [])]
    differing = [key for key in columns if len(texts[key]) > len(set(methods))]
    rows = [
        (*row, *(str(config.get(key)) for key in differing))
        for row, config in zip(variants.select("experiment", *keys).iter_rows(), configs, strict=True)
    ]
    return (*keys, *(columns[key] for key in differing), *(["config"] if len(set(rows)) < len(rows) else []))


def _columns(cells: pl.DataFrame, texts: pl.DataFrame) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return three maps of a name to its SQL column: for metrics that are numbers, for text metrics, and for config.

    The names can differ, because `widen` renames metrics whose name is taken by another column.
    """
    metrics = cells["metrics"].list.explode().struct.field("name").drop_nulls().unique().sort().to_list()
    own = texts.join(cells.select("cell_id"), on="cell_id", how="semi")["name"].unique().sort()
    keys = sorted({key for text in cells["config"].unique() for key in flattened(json.loads(text or "{}"))})
    bare = pl.DataFrame(pl.from_arrow(CELLS.empty_table()))
    one = bare.clear(1).with_columns(
        pl.lit("x").alias("cell_id"),
        pl.lit(1, bare.schema["attempt"]).alias("attempt"),
        pl.lit(None, pl.String).alias("error_type"),
        pl.lit(None, pl.String).alias("error_message"),
        pl.Series("config", [json.dumps(dict.fromkeys(keys, 0))]),
        pl.Series("metrics", [[{"name": name, "value": 0.0} for name in metrics]], cells.schema["metrics"]),
    )
    text = one.select("cell_id", "attempt", value=pl.lit("")).join(own.to_frame("name"), how="cross")
    wide = widen(one, texts=text).columns[len(one.columns) :]
    settings, numbers = len(keys), len(metrics)
    return (
        dict(zip(metrics, wide[settings : settings + numbers], strict=True)),
        dict(zip(own, wide[settings + numbers :], strict=True)),
        dict(zip(keys, wide[:settings], strict=True)),
    )


def _failures(store: Store, cells: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Group failed cells whose last attempts are similar.

    Return the first `MAX_ROWS` groups, and the number of groups that are left out.
    """
    bad = cells.filter((pl.col("status") != "done") & pl.col("attempt").is_not_null()).head(MAX_FAILED)
    key = ["cell_id", "attempt"]
    settings = ["method", "k", "config"]
    texts = ["error_type", "error_message", "traceback", "log_tail"]
    columns = [*key, "workload", *settings, "seed", "status", *texts]
    failed = store.collect(
        lambda: store.attempts.filter(pl.col("status") != "done").select(columns).join(
            bad.lazy().select(key), on=key, how="semi"
        )
    )  # fmt: skip
    groups = grouped(failed, cells.select(settings))
    rows = groups.head(MAX_ROWS).join(
        failed.select("cell_id", "error_message", "traceback", "log_tail").unique("cell_id"),
        left_on="example",
        right_on="cell_id",
        how="left",
        maintain_order="left",
    )
    rows = rows.with_columns(
        pl.Series("seeds", [join_first(seeds, completeness.MAX_SEEDS) for seeds in rows["seeds"]], pl.String)
    )
    labelled = cells.select("cell_id", "experiment", "label", "seed")
    rows = rows.join(labelled, left_on="example", right_on="cell_id", how="left", maintain_order="left")
    return rows, max(0, groups.height - MAX_ROWS)
