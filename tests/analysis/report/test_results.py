"""The report's first screen: the best variants in order, which may be the best, effects of settings, and their map."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from raysweep.analysis.report import results
from raysweep.analysis.report.board import board
from raysweep.analysis.report.build import distinguishing
from raysweep.analysis.report.direction import Direction, choose, direction_of
from raysweep.analysis.report.results import Result, result_of
from raysweep.analysis.report.variants import with_variants
from raysweep.orchestrator.sweep.grammar.question import Question

START = datetime(2026, 1, 1, tzinfo=UTC)


def cells_of(values: dict[tuple[float, int], list[float | None]], method: str = "sgd", **more: Any) -> pl.DataFrame:
    """Cells by (rate, width): one per seed; None: the cell failed."""
    rows = [
        {
            "experiment": "e", "workload": "w", "workload_version": "1", "method": method, "k": None, "seed": seed,
            "config": json.dumps({"rate": rate, "width": width, "fixed": "x"}),
            "status": "failed" if value is None else "done",
            "metrics": [] if value is None else [{"name": "loss", "value": value}],
            "finished_at": START + timedelta(seconds=seed), **more,
        }
        for (rate, width), seeds in values.items() for seed, value in enumerate(seeds)
    ]  # fmt: skip
    kinds = {"k": pl.Int64, "metrics": pl.List(pl.Struct({"name": pl.String, "value": pl.Float64}))}
    return pl.DataFrame(rows, schema_overrides=kinds)


def result(cells: pl.DataFrame, better: str = "lower") -> tuple[Result, pl.DataFrame]:
    numbered, variants = with_variants(cells)
    answer = result_of(numbered, variants, Direction("loss", better, "as requested"))
    assert answer is not None
    return answer, variants


SPREAD = [0.0, 0.02, -0.01, 0.03, -0.02, 0.01]
GRID = {
    (rate, width): [level + width / 1000 + s for s in SPREAD]
    for rate, level in ((0.1, 1.0), (0.3, 0.5), (1.0, 2.0))
    for width in (8, 16)
}


def test_the_best_come_first_and_what_may_be_the_best_is_marked() -> None:
    answer, variants = result(cells_of(GRID))
    shown = [(answer.values[v]["rate"], answer.values[v]["width"]) for v in answer.rows["variant"]]
    assert shown == [("0.3", "8"), ("0.3", "16"), ("0.1", "8"), ("0.1", "16"), ("1.0", "8"), ("1.0", "16")]
    assert answer.rows["may_be_best"].to_list() == [True, False, False, False, False, False]
    assert answer.keys == ("rate", "width")
    assert answer.shared == {"fixed": "x"}
    lines = board(answer, variants)
    assert lines.headline.startswith("rate = 0.3, width = 8: loss 0.513 [")
    assert lines.verdict == "All others are worse (95 %)."
    assert lines.same_seeds == "6"
    assert lines.rows[0].mean < lines.rows[-1].mean
    assert lines.rows[-1].high == 96.0  # the largest end is where the margin begins
    reverse, _ = result(cells_of(GRID), "higher")
    assert reverse.rows["variant"][0] == answer.rows["variant"][-1]


def test_what_cannot_be_told_apart_is_said() -> None:
    noisy = {(rate, 8): [0.5 + (s if rate == 0.1 else -s) for s in SPREAD] for rate in (0.1, 0.3)}
    answer, variants = result(cells_of(noisy))
    assert answer.rows["may_be_best"].all()
    assert board(answer, variants).verdict == "None of the 2 can be told apart from the best (95 %)."
    few, variants = result(cells_of({key: seeds[:3] for key, seeds in GRID.items()}))
    assert "With 3 seeds hardly anything can be" in board(few, variants).verdict


def test_a_failed_cell_counts_against_its_variant() -> None:
    cells = {(0.1, 8): [0.5, 0.51, 0.49, 0.5, 0.52, 0.5], (0.3, 8): [0.4, *[None] * 5]}
    answer, _ = result(cells_of(cells))
    assert answer.rows["mean"].to_list() == pytest.approx([0.503333, 0.4], abs=1e-5)  # though the second mean is lower
    assert answer.rows["n"].to_list() == [6, 1]


def test_effects_are_means_over_the_other_settings_the_largest_first() -> None:
    answer, _ = result(cells_of(GRID))
    rate, width = answer.effects
    assert rate.values == ("0.1", "0.3", "1.0")
    assert rate.means == pytest.approx((1.017, 0.517, 2.017))  # 12 / 1000 and the spread's 5 / 1000
    assert width.values == ("8", "16")
    assert width.means[1] - width.means[0] == pytest.approx(0.008)
    assert rate.share + width.share == pytest.approx(1)
    assert rate.share > 0.99
    assert answer.map is not None
    assert (answer.map.x.key, answer.map.y.key) == ("rate", "width")
    at = {(x, y): mean for x, y, mean, _ in answer.map.cells.iter_rows()}
    assert at[1, 0] == pytest.approx(0.513)
    assert len(at) == 6
    one, _ = result(cells_of({key: seeds for key, seeds in GRID.items() if key[1] == 8}))
    assert [effect.key for effect in one.effects] == ["rate"]
    assert one.map is None


def test_only_the_newest_version_of_a_workload_is_ranked() -> None:
    old = cells_of({key: [v - 10 for v in seeds] for key, seeds in GRID.items()})
    new = cells_of(GRID, workload_version="2", finished_at=START + timedelta(days=1))
    answer, variants = result(pl.concat([old, new]))
    assert answer.newest == (("w", "2"),)
    assert answer.variants == 6
    assert answer.rows["mean"].min() == pytest.approx(0.513)
    assert "w version 2" in board(answer, variants).versions


def test_settings_that_the_method_tells_are_left_out() -> None:
    one = {(0.1, 8): SPREAD, (0.3, 8): SPREAD}
    other = {(0.1, 16): SPREAD, (0.3, 16): SPREAD}
    answer, variants = result(pl.concat([cells_of(one), cells_of(other, "adam")]))
    assert set(answer.keys) == {"method", "rate"}  # sgd has width 8, adam 16
    columns = {"rate": "rate", "width": "width", "fixed": "fixed"}
    assert distinguishing(variants, columns) == ("method", "rate")
    assert distinguishing(variants.filter(pl.col("method") == "sgd"), columns) == ("method", "rate")
    doubled = pl.concat([variants, variants.with_columns(config=pl.lit("{}"))]).unique("config", maintain_order=True)
    assert distinguishing(doubled, {}) == ("method", "config")


def test_too_many_variants_are_ranked_without_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_TESTED", 5)
    monkeypatch.setattr(results, "MAX_ROWS", 4)
    answer, variants = result(cells_of(GRID))
    assert (answer.candidates, answer.rows["p"].to_list()) == (None, [None] * 4)
    lines = board(answer, variants)
    assert "is not tested" in lines.verdict
    assert lines.others.startswith("2 more variants")


@pytest.mark.parametrize(
    ("name", "better"),
    [("loss", "lower"), ("val_accuracy", "higher"), ("accuracy_loss", "lower"), ("testError", "lower"), ("x", None)],
)
def test_a_name_tells_which_values_are_better(name: str, better: str | None) -> None:
    assert direction_of(name) == better


def test_the_metric_is_a_requested_one_a_questions_or_the_first_with_a_direction() -> None:
    asked = [Question("q", "reward_x", a="a", b="b", better="higher")]
    names = ["alpha", "loss", "reward_x"]
    assert choose(names, ["alpha"], None, asked) == Direction("alpha", "lower", "assumed; --maximize reverses it")
    assert choose(names, ["alpha"], "higher", asked) == Direction("alpha", "higher", "as requested")
    assert choose(names, [], None, asked) == Direction("reward_x", "higher", "as the sweep's question says")
    assert choose(names, [], None, []) == Direction("loss", "lower", "by its name")
    assert choose(["diverged", "mse_post", "seconds"], [], None, []) == Direction("mse_post", "lower", "by its name")
    assert choose([], [], None, asked) is None
