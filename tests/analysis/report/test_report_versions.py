"""The report of a store that holds several versions of a workload, and code that changed within one."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator

import polars as pl
import pytest

from raysweep import Sweep, launch
from raysweep.analysis.report import curve_data, html
from raysweep.analysis.report.build import Report, build
from raysweep.analysis.report.markdown import to_markdown
from raysweep.analysis.report.queries import Queries
from raysweep.orchestrator.store.reader import Store

WORKLOAD = """
VERSION = "{version}"


def run(cell, context):
    if cell.method == "old":
        raise ValueError("no longer requested")
    value = {factor} * cell.config["rate"] + cell.seed
    context.array("loss", [value / (1 + step) for step in range(10)])
    context.array("aaa_empty", [float("nan")] * 10)
    return {{"loss": value}} | ({{"extra": value}} if cell.config["rate"] < 1 else {{}})
"""
SWEEP = """
name = "v"
workload = "versions:run"
seeds = {seeds}
[resources]
retries = 0
[[grid]]
method = {methods}
k = [1, 2]
rate = [0.5, 1.0, 1.5]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Version 1: 12 cells done, 6 failed; version 2: seeds 0 and 1 under one code, seed 2 under another."""
    folder = tmp_path_factory.mktemp("versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "dont_write_bytecode", True)
        for version, factor, seeds, methods in (
            ("1", 1.0, [0, 1], ["sgd"]),
            ("1", 1.0, [0], ["old"]),
            ("2", 10.0, [0, 1], ["sgd"]),
            ("2", 20.0, [2], ["sgd"]),
        ):
            (folder / "versions.py").write_text(WORKLOAD.format(version=version, factor=factor))
            (folder / "v.toml").write_text(SWEEP.format(seeds=seeds, methods=str(methods).replace("'", '"')))
            sys.modules.pop("versions", None)
            launch(Sweep.load(folder / "v.toml"), folder / "results", inline=True)
        yield Store(folder / "results")


@pytest.fixture(scope="module")
def report(store: Store) -> Report:
    return build(store, named="results")


def answer(store: Store, command: str) -> pl.DataFrame:
    """What a printed command gives."""
    program, verb, sql = shlex.split(command)
    assert (program, verb) == ("raysweep", "query")
    return store.sql(sql)


@pytest.mark.parametrize("where", [None, "rate < 1.2 and seed <= 1", "workload_version = '2' or k = 1"])
def test_each_printed_query_gives_the_numbers_of_its_table(store: Store, where: str | None) -> None:
    (experiment,) = build(store, named="results", where=where).experiments
    assert {m.name for m in experiment.metrics.tables} == {"extra", "loss"}
    for metric in experiment.metrics.tables:
        column = experiment.column_of[metric.name]
        queried = answer(store, Queries("results", where).metric(column, experiment.name, experiment.keys).command)
        rates = pl.col("config").str.json_decode(pl.Struct({"rate": pl.Float64})).struct.field("rate")
        shown = metric.rows.join(experiment.variants, on="variant").with_columns(rate=rates)
        key = [*experiment.keys]
        assert set(key) <= {"workload_version", "method", "k", "rate"}
        both = shown.join(queried, on=key, how="full", suffix="_queried", nulls_equal=True)
        assert len(both) == len(shown) == len(queried)
        for ours, theirs in (("n", "seeds"), ("mean", "mean_queried"), ("sd", "sd_queried"), ("least", "lowest"),
                             ("most", "highest")):  # fmt: skip
            assert both[ours].to_list() == pytest.approx(both[theirs].to_list()), (metric.name, ours)


def test_variants_computed_by_several_codes_are_named(store: Store, report: Report) -> None:
    assert report.mixed_code.select("codes", "cells").unique().rows() == [(2, 3)]
    assert len(report.mixed_code) == 6
    assert all("version 2" in label for label in report.mixed_code["label"])
    (experiment,) = report.experiments
    written, text = html.to_html(report), to_markdown(report)
    warning = "different code of one workload version"
    assert written.count(warning) == text.count(warning) == 1
    command = Queries("results").code(experiment.name, experiment.keys).command
    assert command in text
    counts = answer(store, command).filter(pl.col("workload_version") == "2")
    assert counts.group_by("k", "rate").agg(pl.col("cells").sort()).select("cells").unique().rows() == [([1, 2],)]
    alone = build(store, where="workload_version = '1'")
    assert warning not in html.to_html(alone)
    assert warning not in to_markdown(alone)


def test_resume_is_advised_only_where_it_runs_something(store: Store, report: Report) -> None:
    """All 6 cells that lack are of version 1."""
    assert (report.requested - report.done, report.missing_old) == (6, 6)
    for text in (html.to_html(report), to_markdown(report)):
        bare = text.split("<script", 1)[0]
        assert "to an older version of their workload" in bare
        assert "raysweep resume" not in bare
    now = report._replace(missing_old=0, where="k = 1")
    for text in (html.to_html(now), to_markdown(now)):
        bare = text.split("<script", 1)[0].replace("&#34;", '"')
        assert "an older version" not in bare
        assert 'raysweep resume --where "k = 1"' in bare


def test_curves_of_the_newest_version_come_first(store: Store, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    (experiment,) = report.experiments
    (curve,) = experiment.curves  # `aaa_empty` has no number
    versions = dict(experiment.variants.select("variant", "workload_version").iter_rows())
    drawn = [versions[variant] for variant in curve.rows["variant"].unique()]
    assert (drawn.count("2"), drawn.count("1"), curve.others) == (6, 4, 2)
    monkeypatch.setattr(curve_data, "MAX_VARIANTS", 3)
    (few,) = build(store).experiments[0].curves
    assert {versions[variant] for variant in few.rows["variant"]} == {"2"}
    assert few.others == 9


def test_curves_read_in_parts_are_the_same(store: Store, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = report.experiments[0].curves
    read = []
    read_arrays = curve_data.read_arrays
    monkeypatch.setattr(curve_data, "read_arrays", lambda *arguments: read.append(1) or read_arrays(*arguments))
    build(store)
    assert read == [1]  # both arrays at once
    monkeypatch.setattr(curve_data, "MAX_BATCH", 250)
    monkeypatch.setattr(curve_data, "MAX_VALUES", 250)  # of ten variants, two seeds each have room
    read.clear()
    (parts,) = build(store).experiments[0].curves
    assert read == [1, 1]
    assert parts.rows["n"].max() == 2
    variants = [curve.rows["variant"].unique().sort().to_list() for curve in (whole, parts)]
    assert variants[0] == variants[1]


def test_starts_of_ray_are_counted_and_said(report: Report) -> None:
    assert report.machines["starts"].to_list() == [0]  # in process
    written = html.to_html(report)
    assert re.search(r"<th[^>]*>Ray starts", written)
    assert "number of times that Ray was started" in written
