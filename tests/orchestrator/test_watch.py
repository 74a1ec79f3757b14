"""The live view: counts, rate, time left, slow cells and failures follow from what the store holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestrator.console import duration
from orchestrator.watch import Look, event, lines, sums

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAILURES = {
    "cell_id": pl.String, "status": pl.String, "error_type": pl.String, "error_message": pl.String,
    "finished_at": pl.Datetime("us", "UTC"),
}  # fmt: skip


def seen(
    statuses: list[str], expected: list[float | None], ended: list[tuple[float, str, float]], **changes: Any
) -> Look:
    """A store with such cells; `ended`: seconds ago, status, seconds it took."""
    states = pl.DataFrame(
        {
            "cell_id": [f"cell{i}" for i in range(len(statuses))],
            "cpus": [1.0] * len(statuses),
            "gpus": [0.0] * len(statuses),
            "expected_seconds": pl.Series(expected, dtype=pl.Float64),
            "name": [f"e/m/seed={i}" for i in range(len(statuses))],
            "status": statuses,
        }
    )
    rows = [(NOW - timedelta(seconds=ago), status, seconds) for ago, status, seconds in ended]
    schema = {"finished_at": pl.Datetime("us", "UTC"), "status": pl.String, "seconds": pl.Float64}
    look = Look(NOW, states, pl.DataFrame(rows, schema, orient="row"), pl.DataFrame(schema=FAILURES), (), "pid 1")
    return look._replace(**changes)


def test_time_left_is_by_what_is_left_and_not_by_how_many() -> None:
    """In 100 s two cells of 50 s have ended, one after the other; one of 200 s and one of 100 s are left."""
    look = seen(["done", "done", "failed", "pending"], [50, 50, 200, 100], [(100, "done", 50), (50, "done", 50)])
    found = sums(look)
    assert (found.done, found.failed, found.left) == (2, 1, 2)
    assert found.cells_a_minute == pytest.approx(1.2)
    assert found.seconds_left == pytest.approx(300)


def test_two_at_a_time_take_half_as_long() -> None:
    ended = [(100.0, "done", 100.0), (100.0, "done", 100.0)]
    assert sums(seen(["done", "done", "pending"], [100, 100, 100], ended)).seconds_left == pytest.approx(50)


def test_without_lengths_cells_count_alike_and_without_an_owner_nothing_is_foretold() -> None:
    look = seen(["done", "pending", "pending"], [None] * 3, [(10, "done", 0.0)])
    assert sums(look).seconds_left == pytest.approx(20)
    assert sums(look._replace(owner=None)).seconds_left is None
    assert sums(seen(["pending"], [1.0], [])).seconds_left is None


def test_a_cell_is_slow_by_the_measure_of_its_like() -> None:
    look = seen(["pending"] * 3, [10.0, 100.0, None], [], running=("cell0", "cell1", "cell2"))
    began = dict.fromkeys(look.running, NOW - timedelta(seconds=120))
    shown = [line for line in lines(look, began, "") if line.startswith("slow")]
    assert shown == ["slow: e/m/seed=0#cell0 for 2 min at least; its like took 10 s"]
    assert not any(line.startswith("slow") for line in lines(look, {}, ""))  # seen for the first time


def test_what_is_shown_ends_in_what_to_type() -> None:
    failed = pl.DataFrame([("cell1", "failed", "ValueError", "unlucky\nmore", NOW)], FAILURES, orient="row")
    look = seen(["done", "failed"], [1.0, 1.0], [], failures=failed)
    assert lines(look, {}, "")[-1] == "a launch is at work: pid 1"
    shown = lines(look._replace(owner=None), {}, " --store here")
    assert shown == [
        "1 of 2 cells done, 0 running, 1 failed, 1 left",
        "12:00:00 failed: ValueError: unlucky (raysweep show cell1 --store here)",
        "no launch is at work; next: raysweep resume --store here",
    ]
    assert json.loads(json.dumps(event(look)))["failures"][0]["error_message"] == "unlucky\nmore"


def test_resources_are_told_apart_where_they_differ() -> None:
    look = seen(["done", "pending"], [1.0, 1.0], [], running=("cell1",))
    states = look.states.with_columns(gpus=pl.Series([0.0, 1.0]))
    shown = lines(look._replace(states=states), {}, "")
    assert "  on 1 CPU: 1 of 1 done, 0 running" in shown
    assert "  on 1 CPU and 1 GPU: 0 of 1 done, 1 running" in shown


@pytest.mark.parametrize(("seconds", "said"), [(45, "45 s"), (200, "3 min"), (9000, "2.5 h"), (3 * 86_400, "3 days")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_command_ends_when_all_is_done(write: Callable[..., Path], cli: Callable[..., Any], folder: Path) -> None:
    write("fine.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
    write("fine.toml", 'name = "fine"\nworkload = "fine:run"\nseeds = "0..3"\n[[grid]]\nmethod = "a"\n')
    assert cli("launch", "fine.toml", "--inline").returncode == 0
    shown = cli("status", "--watch")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == ("4 of 4 cells done, 0 running, 0 failed, 0 left\nall done; next: raysweep report\n")
    assert "\x1b" not in shown.stdout  # no terminal, no screen
    machine = json.loads(cli("status", "--watch", "--json", "--where", "seed < 2").stdout)
    assert (machine["cells"], machine["done"], machine["left"]) == (2, 2, 0)
