"""The live view: counts, rate, time left, slow cells and failures follow from what the store holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.cli.watch import Snapshot, event, lines, next_steps, snapshot, totals
from raysweep.orchestrator.launch.announce import starting, who_starts
from raysweep.orchestrator.launch.drift import DROPPED, REQUESTED, SUPERSEDED
from raysweep.orchestrator.schedule import backoff
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.text import duration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAILURES = {
    "cell_id": pl.String, "status": pl.String, "error_type": pl.String, "error_message": pl.String,
    "finished_at": pl.Datetime("us", "UTC"),
}  # fmt: skip

BAD = """
    def run(cell, context):
        if cell.seed == 3:
            raise KeyboardInterrupt
        if cell.seed:
            raise ValueError("unlucky")
        return {}
"""


def moment(
    statuses: list[str], expected: list[float | None], ended: list[tuple[float, str, float]], **changes: Any
) -> Snapshot:
    """A store with such cells; `ended`: seconds since it ended, status, duration."""
    states = pl.DataFrame(
        {
            "cell_id": [f"cell{i}" for i in range(len(statuses))],
            "cpus": [1.0] * len(statuses),
            "gpus": [0.0] * len(statuses),
            "expected_seconds": pl.Series(expected, dtype=pl.Float64),
            "name": [f"e/m/seed={i}" for i in range(len(statuses))],
            "status": statuses,
            "request_state": [REQUESTED] * len(statuses),
            "failed": [status == "failed" for status in statuses],
        }
    )
    times = [(NOW - timedelta(seconds=ago), status, seconds) for ago, status, seconds in ended]
    rows = [(end - timedelta(seconds=seconds), end, status, seconds) for end, status, seconds in times]
    time = pl.Datetime("us", "UTC")
    schema = {"started_at": time, "finished_at": time, "status": pl.String, "seconds": pl.Float64}
    now = Snapshot(NOW, states, pl.DataFrame(rows, schema, orient="row"), pl.DataFrame(schema=FAILURES), {}, "pid 1")
    return now._replace(**changes)


def test_time_left_is_by_what_is_left_and_not_by_how_many() -> None:
    """In 100 s two cells of 50 s have ended, one after the other; one of 100 s is left, and one that failed."""
    now = moment(["done", "done", "failed", "pending"], [50, 50, 200, 100], [(50, "done", 50), (0, "done", 50)])
    counts = totals(now)
    assert (counts.done, counts.failed, counts.left) == (2, 1, 1)
    assert counts.cells_a_minute == pytest.approx(1.2)
    assert counts.seconds_left == pytest.approx(100)


def test_two_at_a_time_take_half_as_long() -> None:
    ended = [(0.0, "done", 100.0), (0.0, "done", 100.0)]
    assert totals(moment(["done", "done", "pending"], [100, 100, 100], ended)).seconds_left == pytest.approx(50)


def test_without_durations_cells_count_alike_and_without_an_owner_there_is_no_forecast() -> None:
    now = moment(["done", "pending", "pending"], [None] * 3, [(10, "done", 0.0)])
    assert totals(now).seconds_left == pytest.approx(20)
    assert totals(now._replace(owner=None)).seconds_left is None
    assert totals(moment(["pending"], [1.0], [])).seconds_left is None


def test_a_cell_is_slow_compared_with_similar_cells() -> None:
    now = moment(["pending"] * 3, [10.0, 100.0, None], [], running=dict.fromkeys(["cell0", "cell1", "cell2"]))
    began = dict.fromkeys(now.running, NOW - timedelta(seconds=120))
    slow = [line for line in lines(now, began, "") if line.startswith("slow")]
    assert slow == ["slow: e/m/seed=0#cell0, at least 2 min so far (similar cells took 10 s)"]
    assert not any(line.startswith("slow") for line in lines(now, {}, ""))  # seen for the first time


def test_the_screen_ends_with_the_next_command() -> None:
    failed = pl.DataFrame([("cell1", "failed", "ValueError", "unlucky\nmore", NOW)], FAILURES, orient="row")
    now = moment(["done", "failed"], [1.0, 1.0], [], failures=failed)
    assert lines(now, {}, "")[-1] == "a launch is running: pid 1"
    screen = lines(now._replace(owner=None), {}, " --store here")
    assert screen == [
        "1 of 2 cells done, 0 running, 1 failed, 0 left",
        "2026-01-01 12:00:00 UTC, failed: ValueError: unlucky (raysweep show cell1 --store here)",
        "no launch is running; next: raysweep resume --store here",
    ]
    assert json.loads(json.dumps(event(now)))["failures"][0]["error_message"] == "unlucky\nmore"


@pytest.mark.parametrize(
    ("request_state", "owner", "starting", "steps"),
    [
        (REQUESTED, "pid 1", None, ["a launch is running: pid 1"]),
        (REQUESTED, None, "pid 2", ["a launch is starting: pid 2"]),
        (REQUESTED, None, None, ["next: raysweep resume"]),
        (SUPERSEDED, None, None, ["1 cell of an earlier version of the workload: not run again"]),
        (
            DROPPED,
            None,
            None,
            [
                "1 cell of an earlier version of their sweep: not requested now; `raysweep resume` without a sweep "
                "runs them"
            ],
        ),
        (None, None, None, []),
    ],
)
def test_a_resume_is_advised_if_it_would_run_requested_cells(
    request_state: str | None, owner: str | None, starting: str | None, steps: list[str]
) -> None:
    undone = pl.Series([] if request_state is None else [request_state], dtype=pl.String)
    assert next_steps(undone, owner, starting, "") == steps


def test_only_what_failed_in_this_launch_is_failed_each_cell_once(write: Callable[..., Path]) -> None:
    write("some.py", BAD)
    write("some.toml", 'name="some"\nworkload="some:run"\nseeds="0..3"\n[[grid]]\nmethod="a"\n')
    launch(Sweep.load("some.toml"), inline=True)
    after, _ = snapshot(Store(), None)
    counts = totals(after)
    assert (counts.done, counts.failed, counts.left) == (1, 3, 0)
    assert after.failures["status"].to_list() == ["failed"] * 3  # of six attempts
    states = dict(after.states.select("cell_id", "name").iter_rows())
    assert {states[i] for i in after.failures["cell_id"]} == {f"some/a/seed={seed}" for seed in (1, 2, 3)}
    with StoreWriter(Store(), "raysweep resume"):
        again, _ = snapshot(Store(), None)
        assert again.failures.is_empty()
        assert (totals(again).failed, totals(again).left) == (0, 3)


def test_a_cell_with_retries_left_is_not_failed(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "BACKOFF_S", (1.5, 1.5))  # longer than a result waits for its commit
    write("some.py", BAD)
    observed = set()

    def watch(progress: object) -> None:
        counts = totals(snapshot(Store(), None)[0])
        observed.add((Store().attempts.collect().height, counts.failed, counts.left))

    launch(
        Sweep.from_text('name="some"\nworkload="some:run"\nseeds=[1]\n[[grid]]\nmethod="a"\n'),
        inline=True,
        progress=watch,
    )
    assert (1, 0, 1) in observed
    assert {one[1:] for one in observed if one[0] < 2} == {(0, 1)}
    counts = totals(snapshot(Store(), None)[0])
    assert (counts.failed, counts.left) == (1, 0)


def test_different_resources_have_lines_of_their_own() -> None:
    now = moment(["done", "pending"], [1.0, 1.0], [], running={"cell1": 0.4})
    states = now.states.with_columns(gpus=pl.Series([0.0, 1.0]))
    screen = lines(now._replace(states=states), {}, "")
    assert "  on 1 CPU: 1 of 1 done, 0 running" in screen
    assert "  on 1 CPU and 1 GPU: 0 of 1 done, 1 running" in screen
    assert "running: e/m/seed=1#cell1, 40%" in screen
    assert event(now)["progress"] == {"cell1": 0.4}


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (200, "3 min"), (9000, "2.5 h"), (3 * 86_400, "3 days")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_command_ends_when_all_is_done(write: Callable[..., Path], cli: Callable[..., Any], folder: Path) -> None:
    write("fine.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
    write("fine.toml", 'name = "fine"\nworkload = "fine:run"\nseeds = "0..3"\n[[grid]]\nmethod = "a"\n')
    assert cli("launch", "fine.toml", "--inline").returncode == 0
    ended = cli("status", "--watch")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ("4 of 4 cells done, 0 running, 0 failed, 0 left\nall done; next: raysweep report\n")
    assert "\x1b" not in ended.stdout  # no terminal, no screen
    machine = json.loads(cli("status", "--watch", "--json", "--where", "seed < 2").stdout)
    assert (machine["cells"], machine["done"], machine["left"]) == (2, 2, 0)


def test_a_starting_launch_is_reported(
    write: Callable[..., Path], cli: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    location = Store("results").storage.location
    assert who_starts(location) is None
    with starting(location, "raysweep launch x.toml"):
        assert "raysweep launch x.toml" in str(who_starts(location))
        assert who_starts("elsewhere") is None
        ended = cli("status")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("no store at results yet; a launch is starting: pid ")
        note = next(folder.glob("raysweep-*/starting-*.json"))
        note.write_text(note.read_text().replace('"started": "', '"started": "9'))  # its process is no more
        assert who_starts(location) is None
        with starting(location, "another"):
            assert not note.exists()
            assert "another" in str(who_starts(location))
    assert who_starts(location) is None
    assert cli("status").returncode == 2


@pytest.mark.parametrize("kind", ["pid", "deep", "fifo", "large", "text"])
def test_malformed_notes_are_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with starting("here", "raysweep launch x.toml"):
        note = next(folder.glob("raysweep-*/starting-*.json"))
        odd = note.with_name("starting-0-odd.json")
        if kind == "fifo":
            os.mkfifo(odd)
        elif kind == "pid":
            odd.write_text(json.dumps({**json.loads(note.read_text()), "pid": 10**30}))
        else:
            odd.write_text(
                {"deep": "[" * 100_000, "large": " " * 2**21 + "{}", "text": "\ud800"}[kind], errors="replace"
            )
        assert "raysweep launch x.toml" in str(who_starts("here"))
        with starting("here", "another"):
            assert who_starts("elsewhere") is None


def test_without_a_folder_for_notes_launches_run_unannounced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "none"))
    with starting("here", "raysweep launch x.toml"):
        assert who_starts("here") is None
    assert not (folder / "none").exists()
