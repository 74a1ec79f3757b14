"""The report of a user's own sweep: complete first, its numbers right, its text harmless, its size bounded."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import altair
import jsonschema
import numpy as np
import polars as pl
import pytest

from raysweep.analysis.report import (
    build,
    cell_details,
    charts,
    curves,
    metrics,
    variants,
)
from raysweep.analysis.report import (
    html as page,
)
from raysweep.analysis.report.build import Report
from raysweep.analysis.report.markdown import to_markdown
from raysweep.analysis.report.queries import Queries
from raysweep.orchestrator.cli.analysis import report
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store
from tests.analysis.report import hostile_sweep


@pytest.fixture(scope="module")
def gathered(store: Store) -> Report:
    return build.build(store, named="results")


@pytest.fixture(scope="module")
def written(gathered: Report) -> str:
    return page.to_html(gathered)


def script(written: str, name: str) -> dict[str, object]:
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', written, re.S)
    document: dict[str, object] = json.loads(text)
    return document


def test_what_is_missing_comes_after_the_results_and_is_named(gathered: Report, written: str) -> None:
    assert gathered.completeness.drop("sweeps").rows() == [("<i>first</i>", 30, 20, 10, 0)]
    assert gathered.missing.select("label", "status", "cells", "seeds").row(0) == (
        "never",
        "failed",
        5,
        "0, 1, 2, 3, 4",
    )
    assert gathered.failures["cells"].to_list() == [6, 4]
    sections = re.findall(r'<h2 id="(\w+)"', written)
    assert sections == ["results", "completeness", "ran", "cells", "ask"]  # no paper in sight
    assert "No: 10 of 30 cells are missing" in written


def test_means_and_intervals_are_those_of_the_cells(gathered: Report, store: Store) -> None:
    (experiment,) = gathered.experiments
    (loss,) = [m for m in experiment.metrics.tables if m.name == "loss"]
    labels = dict(experiment.variants.select("label", "variant").iter_rows())
    row = loss.rows.filter(pl.col("variant") == labels["sgd, rate = 0.2"]).row(0, named=True)
    values = store.sql("SELECT loss FROM cells WHERE status = 'done' AND method = 'sgd' AND rate = 0.2")["loss"]
    assert (row["n"], row["cells"]) == (4, 4)
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std())
    assert row["low"] < row["least"] < row["mean"] < row["most"] < row["high"]
    assert experiment.metrics.same == {"chance": 0.5}


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = metrics.interval(random.normal(size=5))
        assert low is not None
        assert high is not None
        held += low <= 0 <= high
    assert 185 <= held <= 200  # the hull of two intervals is the wider of them
    assert metrics.interval(np.array([1.0])) == (None, None)
    many = random.normal(size=400)
    low, high = metrics.interval(many)
    assert low == pytest.approx(many.mean() - 1.966 * many.std(ddof=1) / 20, abs=1e-3)
    assert high == pytest.approx(many.mean() + 1.966 * many.std(ddof=1) / 20, abs=1e-3)


def test_variants_are_told_apart_by_what_differs() -> None:
    def variant(method: str, k: int | None, version: str = "1", **config: object) -> dict[str, object]:
        about = {"experiment": "e", "workload": "w", "workload_version": version, "method": method, "k": k}
        return {**about, "config": json.dumps(config)}

    names = variants.labels(
        [
            variant("a", 1, rate=0.1, hidden=8, note=None),
            variant("a", 2, rate=0.1, hidden=8, note="x"),
            variant("b", None, rate=0.1, hidden=8),
            variant("b", None, rate=0.1, hidden=8, extra=1),
        ]
    )
    assert [label for label, _ in names] == ["a, k = 1", "a, k = 2, note = x", "b", "b, extra = 1"]
    assert [series for _, series in names] == ["a", "a, note = x", "b", "b, extra = 1"]
    two = variants.labels([variant("a", None), variant("a", None, version="2")])
    assert [label for label, _ in two] == ["a, w version 1", "a, w version 2"]
    both = variants.labels([variant("a", 3, rate=1), variant("a", 3, version="2", rate=2, note="n" * 200)])
    assert both[1][0].startswith("a, k = 3, w version 2, rate = 2")  # what is cut off is no version
    long = variants.labels([variant("m" * 200, None, rate=1), variant("m" * 200, None, rate=2)])
    assert len({label for label, _ in long}) == 2  # cut short, and numbered


def test_variants_come_in_the_order_of_their_keys_and_numbers_by_size() -> None:
    configs = ['{"rate":10}', '{"rate":0.5}', '{"note":"b","rate":0.5}', "{}", '{"rate":9}']
    rows = [("e", "w", version, method, k, config) for version in ("10", "9") for method in "ba"
            for k in (16, None, 4) for config in configs]  # fmt: skip
    cells = pl.DataFrame(rows, schema=list(variants.KEYS), orient="row")
    numbered, numbers = variants.with_variants(cells)
    assert numbers["workload_version"].to_list() == ["9"] * 30 + ["10"] * 30
    assert numbers["method"].to_list()[:30] == ["a"] * 15 + ["b"] * 15
    assert numbers["k"].to_list()[:15] == [None] * 5 + [4] * 5 + [16] * 5
    assert numbers["config"].to_list()[:5] == [
        "{}",
        '{"note":"b","rate":0.5}',
        '{"rate":0.5}',
        '{"rate":9}',
        '{"rate":10}',
    ]
    assert numbered.select(variants.KEYS).equals(cells)  # the cells keep their order
    assert numbered.select("variant", *variants.KEYS).sort("variant").equals(numbers.select("variant", *variants.KEYS))


def test_a_curve_is_binned_over_all_steps_and_keeps_what_is_finite() -> None:
    arrays = pl.DataFrame(
        {
            "cell_id": ["a", "a", "b"],
            "step": [0, 4, 0],
            "stride": [1, 1, 2],
            "values": [[1.0, 3.0, 5.0, float("nan")], [7.0, 9.0], [2.0, 4.0, float("inf")]],
        }
    )
    binned, width = curves.series(arrays, points=3)
    assert width == 2
    assert binned.rows() == [("a", 0, 2.0), ("a", 2, 5.0), ("a", 4, 8.0), ("b", 0, 2.0), ("b", 2, 4.0)]
    both = curves.summary(binned, pl.DataFrame({"cell_id": ["a", "b"], "variant": [0, 0]}))
    assert both.select("step", "median", "low", "high", "n").rows() == [
        (0.0, 2.0, 2.0, 2.0, 2), (2.0, 4.5, 4.0, 5.0, 2), (4.0, 8.0, 8.0, 8.0, 1),
    ]  # fmt: skip


def test_of_very_many_variants_the_lowest_and_the_highest_are_kept() -> None:
    cells = pl.DataFrame(
        {
            "variant": pl.Series(range(100), dtype=pl.UInt32),
            "metrics": [
                [{"name": "loss", "value": float(i)}, {"name": "seconds", "value": 1.0 + i}] for i in range(100)
            ],
        }
    )
    tabulated = metrics.tabulate(cells, [], 5, 10)
    assert [m.name for m in tabulated.tables] == ["loss", "seconds"]
    assert tabulated.tables[0].rows["variant"].to_list() == [0, 1, 2, 3, 4, 95, 96, 97, 98, 99]
    assert tabulated.tables[0].others == 90
    assert [m.name for m in metrics.tabulate(cells, ["seconds"], 5, 10).tables] == ["seconds"]


def test_text_from_cells_stays_text(written: str, gathered: Report) -> None:
    bare = written.split("<script", 1)[0]
    assert "<img src=x" not in written
    assert "<b>sparse" not in bare
    assert html.escape("</script>|<b>sparse") in bare
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", bare)
    assert written.count("</script>") == 8  # the page's own
    document = script(written, "details")
    assert "\x1b" not in json.dumps(document, ensure_ascii=False)
    assert hostile_sweep.NASTY.replace("\x1b", "\ufffd") in json.dumps(document, ensure_ascii=False).replace('\\"', '"')
    assert "<" not in page.as_json({"a": "</script><!--\u2028"})
    prose = re.sub(r"`[^`\n]*`", "", to_markdown(gathered))
    assert "<" not in prose
    assert "\x1b" not in prose


def test_the_page_asks_nothing_of_a_network(written: str) -> None:
    bare = re.sub(r"<script>.*?</script>", "", written, flags=re.S)
    assert not re.search(r"""(src|href|url\()=?["']?(https?:)?//""", bare)
    assert "default-src 'none'" in bare
    assert not re.search(r"fonts\.g|cdn\.|unpkg", bare)


def test_failed_cells_can_be_looked_at_with_their_tracebacks(written: str) -> None:
    document = script(written, "details")
    cells = document["cells"]
    assert isinstance(cells, list)
    assert len(cells) == 30
    assert [cell["status"] for cell in cells[:10]] == ["failed"] * 10
    assert all(cell["attempts"][0]["traceback"].startswith("Traceback") for cell in cells[:10])
    done = [cell for cell in cells if cell["status"] == "done"]
    assert all(cell["metrics"] and cell["curve"]["name"] == "loss" for cell in done)


def test_single_cells_have_bounded_room(store: Store) -> None:
    small = build.build(store, detail_bytes=6_000)
    assert len(json.dumps(small.details.document["cells"])) <= 6_000 + 2 * small.details.included
    statuses = {cell["status"] for cell in small.details.document["cells"]}
    assert statuses == {"done", "failed"}  # failures may not take all of it
    assert 0 < small.details.included < 30


def test_a_page_too_large_is_shortened_and_says_so(
    gathered: Report, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MAX_BYTES", len(written.encode()) - 1)
    shorter = page.to_html(gathered)
    assert len(shorter.encode()) < len(written.encode())
    assert "Shortened, so that the page stays below" in shorter


def test_commands_on_the_page_give_its_numbers(gathered: Report, store: Store) -> None:
    (experiment,) = gathered.experiments
    queries = Queries("results")
    for metric in experiment.metrics.tables:
        query = queries.metric(experiment.column_of[metric.name], experiment.name, experiment.keys)
        _, _, sql = shlex.split(query.command)
        assert sql == query.sql.replace("\n", " ")
        answer = store.sql(sql)
        assert answer["mean"].to_list() == pytest.approx(metric.rows["mean"].to_list())  # in the same order
    _, _, arrays = shlex.split(queries.array("loss", experiment.name))
    assert store.sql(arrays).height == 20


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_charts_are_vega_lite(scale: charts.Scale, gathered: Report) -> None:
    (experiment,) = gathered.experiments
    assert experiment.result is not None
    assert experiment.result.map is not None
    effect, _ = charts.effect(experiment.result.effects[0], "loss", scale)
    heat, _ = charts.heat(experiment.result.map, "loss", lower=True)
    for spec in (effect, heat, charts._curve(scale), charts.single()):
        whole = altair.Chart.from_dict({**spec, "config": charts.config()})  # validates against Vega-Lite's schema
        assert whole.to_dict()["data"] == {"name": "rows"}
        with pytest.raises(jsonschema.ValidationError):
            altair.Chart.from_dict({**spec, "width": "page"})
    assert charts.scale_of([1.0, 100.0]) == "log"
    assert charts.scale_of([0.0, 100.0]) == "linear"


def test_labels_of_charts_stand_whole_in_lines(gathered: Report) -> None:
    (experiment,) = gathered.experiments
    long = "stochastic_gradient, rate = 1e-4, schedule = cosine_with_warm_restarts"
    named = experiment.variants.with_columns(label=pl.lit(long))
    rows = pl.DataFrame([(0, 0.0, 1.0, 1.0, 1.0, 1)], curves.SCHEMA, orient="row")
    _, columns = charts.curve("loss", rows, named)
    assert columns["label"] == ["stochastic_gradient, rate = 1e-4, schedule =\ncosine_with_warm_restarts"]
    assert charts._axis_values(["a" * 30, "a" * 31, "toString"]) == [
        "1: aaaaaaaaa…aaaaaa", "2: aaaaaaaaa…aaaaaa", "3: toString",
    ]  # fmt: skip
    assert charts._axis_values(["toString"]) == ["toString "]  # Vega draws nothing for a name of JavaScript's own


def test_the_command_writes_both_and_refuses_what_it_cannot(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = str(store.storage)
    out, text = tmp_path / "r.html", tmp_path / "r.md"
    report(named, where="method = 'sgd'", output=str(out), markdown=str(text), metric=["window"], title="Mine & yours")
    assert "8 of 10 cells done" in capsys.readouterr().out
    assert "<title>Mine &amp; yours</title>" in out.read_text()
    assert "**window**" in text.read_text()
    assert "**loss**" not in text.read_text()
    with pytest.raises(InputError, match="did you mean 'loss'"):
        report(named, metric=["los"], output=str(out))
    with pytest.raises(InputError, match="no such folder"):
        report(named, output=str(tmp_path / "nowhere" / "r.html"))
    with pytest.raises(InputError, match="is a folder"):
        report(named, output=str(tmp_path))


def test_a_store_without_a_done_cell_is_reported_too(folder: Path, write, cli) -> None:
    write("none.py", "def run(cell, context):\n    raise ValueError('no')\n")
    write("none.toml", 'name = "none"\nworkload = "none:run"\nseeds = [1]\n[[grid]]\nmethod = "a"\n')
    assert cli("launch", "none.toml", "--inline", "--retries", "0").returncode == 1
    ended = cli("report")
    assert ended.returncode == 0, ended.stderr
    assert "No: 1 of 1 cells are missing" in (folder / "report.html").read_text()


def test_text_is_cut_at_its_beginning() -> None:
    text = cell_details._end("a" * 5_000 + "ValueError")
    assert text is not None
    assert text.endswith("ValueError")
    assert len(text) <= 4_001
