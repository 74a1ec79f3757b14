"""The query that a launch prints: it runs, and gives the means by the settings that differ."""

from __future__ import annotations

import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.query.example import means_by_settings

WORKLOAD = """
def run(cell, context):
    return {metrics}
"""
SWEEP = 'name="e"\nworkload="e:run"\nseeds="0..2"\n[config]\nsteps=5\n[[grid]]\nmethod=["a", "b"]\n"the rate"=[1, 2]\n'


def example(write, metrics: str) -> tuple[Store, str | None]:
    write("e.py", WORKLOAD.format(metrics=metrics))
    sweep = Sweep.from_text(SWEEP)
    launch(sweep, inline=True)
    return Store(), means_by_settings(Store(), from_sweeps([sweep], Store()).table)


def test_it_gives_the_means_by_the_settings_that_differ(write) -> None:
    store, sql = example(write, "{'loss': cell.seed + cell.config['the rate'], 'step': 9, 'seconds_in_loop': 1.0}")
    assert sql is not None
    answer = store.sql(sql)
    assert answer.columns == ["method", "the rate", "mean_loss", "seeds"]
    assert answer.rows() == [(m, r, 1.0 + r, 3) for m in "ab" for r in (1, 2)]


@pytest.mark.parametrize("metrics", ["{'select': 1.0, 'a \"b\" c': 2.0}", "{'seed': 3.0, 'x!': 1.0}"])
def test_it_runs_whatever_the_names(write, metrics: str) -> None:
    store, sql = example(write, metrics)
    assert sql is not None
    assert store.sql(sql).height == 4


def test_without_metrics_there_is_none(write) -> None:
    assert example(write, "{}")[1] is None
