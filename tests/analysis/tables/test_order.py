"""A table is the same whatever the order in which a store lists its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from raysweep.analysis.tables import TABLES
from raysweep.analysis.tables.render import RENDERERS
from tests.analysis.tables.test_paper_tables import cell, note, source, spectra

pytestmark = pytest.mark.usefixtures("few_resamples")


def in_every_order(name: str, cells: Sequence[dict[str, Any]], arrays: Sequence[Any] = ()) -> str:
    """The table's text, which is the same for the cells shuffled and turned round."""
    given = source(cells, arrays)
    orders = [given.cells.reverse(), *(given.cells.sample(fraction=1, shuffle=True, seed=seed) for seed in range(5))]
    texts = {RENDERERS["markdown"](TABLES[name](given._replace(cells=order))) for order in (given.cells, *orders)}
    assert len(texts) == 1
    return texts.pop()


def test_selections_that_win_equally_often_are_in_the_tables_order() -> None:
    names = ("ring", "random", "oracle", "anti_oracle", "dynamic")
    cells = [
        cell(name, "selection_sine", seed, {"mse_post_last_500": 1.0 + (place - seed) % 5})
        for seed in range(5)
        for place, name in enumerate(names)
    ]
    text = in_every_order("6", cells)
    assert "lowest ring 1, random 1, oracle 1, anti-oracle 1, dynamic 1; highest ring 1, random 1, oracle 1" in text


def test_runs_that_had_not_converged_are_in_the_order_of_rows_and_seeds() -> None:
    late = {"mse_post_all": 0.01, "mse_pre_last_500": 0.02, "persistence_pre_last_500": 0.005}
    calm = late | {"mse_pre_last_500": 0.001}
    seeds = (42, 123, 7, *range(1000, 1020))
    cells = [cell("full", "lstm_sine", seed, late if seed in (7, 42, 1000) else calm) for seed in seeds]
    cells += [cell("k4", "lstm_sine", seed, late if seed < 1012 else calm) for seed in seeds]
    text = in_every_order("8", cells)
    assert "worse than persistence there in 18 of 46 (k = 4: 15 seeds; full RTRL: seeds 42, 7, 1000)" in text


def test_diverged_runs_are_in_the_order_of_rows_and_seeds() -> None:
    cells = [cell(name, "lorenz", seed, {"mse_post_all": None}) for name in ("full", "k4") for seed in (1000, 7, 42)]
    cells.append(cell("full", "lorenz", 1, {"mse_post_all": 0.1}))
    text = in_every_order("4", cells)
    assert "Diverged, so not in the means: k = 4: seeds 42, 7, 1000; full RTRL: seeds 42, 7, 1000." in text


def test_collapsed_runs_are_in_the_order_of_rows_and_seeds() -> None:
    cells = [spectra([])[0] | {"seed": seed} for seed in (1000, 7, 42)]
    arrays = [(i, "condition", [2.0] * 19 + [5000.0]) for i in range(3)]
    text = in_every_order("13", cells, arrays)
    start = text.index("Collapsed, sine")
    places = [text.index(f"seed {seed}: condition up to 5e+03", start) for seed in (42, 7, 1000)]
    assert places == sorted(places)
    assert note(TABLES["13"](source(cells, arrays)), "Collapsed, sine, n = 64, full RTRL: seed 42")
