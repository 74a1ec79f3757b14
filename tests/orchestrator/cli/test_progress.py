"""Progress of a running launch: its pace follows from the work left, and unsuccessful attempts are named."""

from __future__ import annotations

import json
from collections import deque

import polars as pl
import pytest

from raysweep import Sweep
from raysweep.orchestrator.cli.progress import live
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.schedule.plan import plan
from raysweep.orchestrator.schedule.progress import FailedAttempt, Progress
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.text import rate


def progress(**changes) -> Progress:
    return Progress(**{"total": 10, "done": 4, "work_done": 40.0, "work_left": 60.0} | changes)


def test_time_left_is_that_of_the_work_that_is_left() -> None:
    """In the last 10 s of a minute 2 cells, 5 units of work: 60 units take 120 s, whatever they count as cells."""
    seen = progress(recent=deque([(150.0, 2, 35.0), (155.0, 3, 38.0)]))
    assert seen.pace(100.0, 160.0) == pytest.approx((0.2, 120.0))


def test_before_the_first_batches_it_is_that_since_the_beginning() -> None:
    assert progress(recent=deque([(101.0, 0, 0.0)])).pace(100.0, 120.0) == pytest.approx((0.2, 30.0))
    assert progress(done=0, work_done=0.0).pace(100.0, 120.0) == (0.0, None)


def test_after_one_batch_it_is_that_since_the_beginning_too() -> None:
    one = progress(done=1, work_done=1.0, work_left=6.0, recent=deque([(220.0, 1, 1.0)]))
    assert one.pace(100.0, 220.0) == pytest.approx((1 / 120, 720.0))


def test_a_slow_rate_has_a_longer_unit() -> None:
    assert [rate(r) for r in (1234.5, 1.0, 0.5, 1 / 60, 1 / 120, 1 / 36000)] == [
        "1,234.5 cells/s", "1.0 cells/s", "30 cells a minute", "1 cells a minute",
        "30 cells an hour", "0.1 cells an hour",
    ]  # fmt: skip


def test_before_anything_has_ended_there_is_no_rate(capsys, monkeypatch) -> None:
    monkeypatch.setattr("raysweep.orchestrator.cli.progress.LINES_S", 0.0)
    show = live(False)
    show(progress(done=0, work_done=0.0, running=2, to_retry=3))
    assert capsys.readouterr().err == "0 done, 2 running, 3 waiting for a retry, 0 failed, 10 left\n"


def test_weights_are_expected_seconds_else_hints_else_alike(write) -> None:
    write("tiny.py", "def run(cell, context):\n    return {'x': 1.0}\n")
    write(
        "hinted.py",
        "def cost(method, k, config):\n    return 3.0 * k\ndef run(cell, context):\n    return {'x': 1.0}\n",
    )
    sweep = 'name="s"\nworkload="{}:run"\nseeds="0..1"\n[[grid]]\nmethod="m"\nk=[1, 2]\n'
    write("plain.toml", sweep.format("tiny"))
    write("hints.toml", sweep.format("hinted"))
    plain, hints = (from_sweeps([Sweep.load(name)], Store("none")).table for name in ("plain.toml", "hints.toml"))
    assert plan(plain, Store("none").summary()).weights().to_list() == [1.0] * 4
    assert sorted(plan(hints, Store("none").summary()).weights()) == [3.0, 3.0, 6.0, 6.0]
    done = pl.DataFrame({"cell_id": plain.cells["cell_id"][:1], "status": ["done"], "seconds": [7.0]})
    known = plan(plain, pl.concat([Store("none").summary(), done], how="diagonal_relaxed"))
    assert known.weights().to_list() == [7.0] * 4  # of the same workload, so that all are guessed


def test_unsuccessful_attempts_are_named_once_without_control_characters(capsys, monkeypatch) -> None:
    monkeypatch.setattr("raysweep.orchestrator.cli.progress.NEWS_S", 0.0)
    monkeypatch.setattr("raysweep.orchestrator.cli.progress.LINES_S", 0.0)
    show = live(False, " --store here")
    bad = deque(FailedAttempt(f"{i:024d}", "failed", f"ValueError: \x1b[31m{i}") for i in range(5))
    show(progress(bad=bad, bad_attempts=5, slow=[("a" * 24, 700.0, 60.0)], waiting=("a node with a GPU",)))
    show(progress(bad=bad, bad_attempts=5, done=10))
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "2 more unsuccessful attempts"
    assert printed[1] == "failed: ValueError: \ufffd[31m2 (raysweep show 00000000 --store here)"
    assert len(printed) == 6
    assert "slow: aaaaaaaa, 12 min so far (similar cells took 60 s); waiting for a node with a GPU" in printed[4]
    assert "unsuccessful" not in printed[5]


def test_events_are_one_object_a_line_and_end_with_the_result(cli, write) -> None:
    write(
        "half.py",
        """
        def run(cell, context):
            if cell.seed == 1:
                raise ValueError("no\\nmore")
            return {"x": 1.0}
        """,
    )
    write("half.toml", 'name="half"\nworkload="half:run"\nseeds="0..2"\n[resources]\nretries=0\n[[grid]]\nmethod="m"\n')
    ended = cli("launch", "half.toml", "--inline", "--json")
    assert ended.returncode == 1
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (events[0]["event"], events[0]["cells"], events[0]["to_run"]) == ("start", 3, 3)
    bad = [e for e in events if e["event"] == "bad_attempt"]
    assert [(e["status"], e["reason"]) for e in bad] == [("failed", "ValueError: no")]
    last = [e for e in events if e["event"] == "progress"][-1]
    assert (last["done"], last["failed"], last["left"], last["bad_attempts"]) == (2, 1, 0, 1)
    assert (events[-1]["event"], events[-1]["done"], events[-1]["failed"]) == ("end", 2, 1)
    assert events[-1]["resume"].startswith("raysweep resume")


def test_a_launch_names_failed_cells(cli, write) -> None:
    write("half.py", "import time\ndef run(cell, context):\n    time.sleep(1.2)\n    raise ValueError('no more')\n")
    write("half.toml", 'name="half"\nworkload="half:run"\nseeds="0..2"\n[resources]\nretries=0\n[[grid]]\nmethod="m"\n')
    assert "failed: ValueError: no more (raysweep show " in cli("launch", "half.toml", "--inline").stderr
