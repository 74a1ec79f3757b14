"""Lines judged under each rounding, on made-up cells: one verdict moves with rounding and the others do not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.claims import ledger, render
from raysweep.analysis.claims.rounding import METRICS, ROWS, STREAMS, page, roundings
from raysweep.analysis.publish import write
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.spec import load_all

pytestmark = pytest.mark.usefixtures("few_resamples")

LEVELS = {"traces": 0.23, "rtrl": 0.0006, "sparse_rtrl": 0.0015, "bptt": 0.0015}
Mse = Callable[[Mapping[str, Any]], float | None]


@pytest.fixture(scope="module")
def cells() -> pl.DataFrame:
    return expand(load_all(["paper/rounding"])).wide()


def store(cells: pl.DataFrame, mse: Mse) -> Source:
    """A store of the sweep's cells with these errors; None: not done."""
    rows = []
    for cell in cells.select("cell_id", "experiment", "method", "k", "seed", "config").to_dicts():
        config = json.loads(cell["config"])
        value = mse({**config, **cell})
        metrics = {METRICS[config["stream"]]: value, "persistence_post_last_500": 0.045}
        rows.append({**cell, "status": "pending" if value is None else "done", **metrics})
    return Source(pl.DataFrame(rows, infer_schema_length=None), lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))


def as_printed(cell: Mapping[str, Any]) -> float:
    """The paper's levels, seeds a few percent apart; the same under each rounding."""
    level = 0.015 if cell["stream"] == "lorenz" else LEVELS[cell["method"]]
    return level * (1 + 0.02 * (cell["seed"] % 5))


def moved(cell: Mapping[str, Any]) -> float:
    """As printed, but traces of decay .95 on the sine are twenty times lower under roundings 1 and 2."""
    lower = cell["method"] == "traces" and cell["decay"] == 0.95 and cell["rounding"] in (1, 2)
    return as_printed(cell) / (20 if lower and cell["stream"] == "sine" else 1)


@pytest.fixture(scope="module")
def printed(cells: pl.DataFrame) -> pl.DataFrame:
    """The ledger of a store in which rounding changes nothing."""
    return ledger(store(cells, as_printed))


def lines(frame: pl.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    judged = frame.filter(pl.col("roundings").list.len() > 0)
    return {(row["id"], row["part"]): row for row in judged.to_dicts()}


def test_the_sweep_has_seven_roundings_of_every_row(cells: pl.DataFrame) -> None:
    source = store(cells, as_printed)
    found = roundings(source)
    assert [tuple(own.settings.values()) for own in found] == [
        *(("float32", "fused", rounding) for rounding in range(5)),
        ("float32", "readable", 0),
        ("float64", "fused", 0),
    ]
    assert cells.height == 20 * 7 * sum(map(len, ROWS.values()))
    assert set(STREAMS.values()) == set(ROWS) == set(METRICS)


def test_the_cells_have_the_settings_of_the_experiments_whose_lines_they_judge(cells: pl.DataFrame) -> None:
    """Nothing differs but the experiment and what makes a rounding; so rounding 0 is the experiment's own run."""
    others = expand(load_all(["paper/e1-sine", "paper/decay", "paper/e2-lorenz"])).wide()
    free = ("rounding", "implementation", "dtype", "tol")

    def settings(frame: pl.DataFrame) -> set[str]:
        configs = [(row["method"], row["k"], json.loads(row["config"])) for row in frame.to_dicts()]
        return {
            json.dumps([method, k, {name: value for name, value in config.items() if name not in free}], sort_keys=True)
            for method, k, config in configs
        }

    assert settings(cells) <= settings(others)


def test_a_verdict_that_moves_says_so_and_the_others_say_that_they_do_not(cells: pl.DataFrame) -> None:
    judged = lines(ledger(store(cells, moved)))
    level = judged["E1-step", "level, k = 0"]
    assert level["roundings"].count("reproduced") == 5
    assert level["why"].endswith("Changes with rounding (20 seeds): reproduced under 5 of 7, not reproduced under 2")
    k4 = judged["E1-step", "level, k = 4"]
    assert set(k4["roundings"]) == {"reproduced"}
    assert k4["why"].endswith("Under each of 7 roundings of 20 seeds: reproduced")
    lorenz = judged["E2-lorenz64", "level, k = 4, n = 64"]
    assert set(lorenz["roundings"]) == {"reproduced"}
    assert ("F-decaysweep", "plateau, decay 0.3 no worse") in judged
    assert {name for name, _ in judged} == {
        "E1-recovery", "E1-step", "E1-bptt1", "E2-lorenz64", "F-decay0", "F-decaysweep"
    }  # fmt: skip


def test_where_nothing_moves_no_line_says_so(printed: pl.DataFrame) -> None:
    assert lines(printed)
    assert "Changes with rounding" not in render(printed, "markdown")


def test_a_line_is_not_judged_unless_each_rounding_is_done(cells: pl.DataFrame) -> None:
    def half(cell: Mapping[str, Any]) -> float | None:
        return None if (cell["rounding"], cell["method"], cell["seed"]) == (3, "rtrl", 1007) else as_printed(cell)

    two = cells.filter(pl.col("config").str.contains('"rounding":[03],') & pl.col("config").str.contains("float32"))
    judged = lines(ledger(store(two, half)))
    assert ("E1-step", "level, k = 4") in judged
    assert ("E1-recovery", "level, k = 4") not in judged


def test_the_page_has_the_share_of_rounding_and_the_lines_that_change(cells: pl.DataFrame, tmp_path: Path) -> None:
    """Seeds vary by .6 and roundings by .3, so that rounding's share of traces is a fifth; k = 4 has none."""
    rng = np.random.default_rng(1)
    seeds = rng.standard_normal(20)
    seeds = (seeds - seeds.mean()) / seeds.std(ddof=1)

    def varied(cell: Mapping[str, Any]) -> float:
        own = 0.3 * rng.standard_normal() if cell["method"] == "traces" else 0.0
        return as_printed({**cell, "seed": 0}) * math.exp(0.6 * float(seeds[cell["seed"] - 1000]) + own)

    write(store(cells, varied), tmp_path, figures=False)
    text = (tmp_path / "rounding.md").read_text(encoding="utf-8")
    table = [[field.strip() for field in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    traces, k4 = (next(row for row in table if row[1] == label) for label in ("k = 0, decay 0.95", "k = 4"))
    assert traces[:4] == ["sine", "k = 0, decay 0.95", "20", "7"]
    assert float(traces[5]) == pytest.approx(0.3, rel=0.2)
    assert float(traces[6].split()[0]) == pytest.approx(20, abs=10)
    assert k4[5:7] == ["0", "0 [0, 0]"]
    assert "changes: " in "".join(row[-1] for row in table if len(row) == 4)


def test_a_diverged_run_has_no_variance_and_two_seeds_have_no_page(cells: pl.DataFrame, printed: pl.DataFrame) -> None:
    def diverging(cell: Mapping[str, Any]) -> float:
        ended = (cell["method"], cell["seed"], cell["rounding"]) == ("rtrl", 1003, 2)
        return math.nan if ended else as_printed(cell)

    text = page(store(cells, diverging), printed)
    assert text is not None
    assert "| diverged: seed 1003 |" in text
    assert page(store(cells.filter(pl.col("seed") < 1002), as_printed), printed) is None
