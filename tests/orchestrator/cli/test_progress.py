"""Progress of a running launch: its pace follows from the work left, and unsuccessful attempts are named."""

from __future__ import annotations

import heapq
import itertools
import json
from collections import deque

import numpy as np
import polars as pl
import pytest

from raysweep import Sweep
from raysweep.orchestrator.cli.terminal.progress import live
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.schedule.plan import plan
from raysweep.orchestrator.schedule.progress import FailedAttempt, Progress
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.text import rate


def progress(**changes) -> Progress:
    return Progress(**{"total": 10, "done": 4, "work_done": 40.0, "work_left": 60.0, "began": 100.0} | changes)


def test_time_left_is_that_of_the_work_that_is_left() -> None:
    """In a minute 4 cells, 40 units of work: 60 units take 90 s, whatever they count as cells."""
    assert progress().pace(160.0) == pytest.approx((4 / 60, 90.0))
    assert progress(done=0, work_done=0.0).pace(120.0) == (0.0, None)
    assert progress(began=None).pace(160.0) == (0.0, None)


def test_what_runs_counts_by_the_part_that_is_done() -> None:
    """Two cells of equal weight have run for a minute: one is done, the other nearly; 2 of 4 remain."""
    seen = progress(done=1, work_done=1.0, work_begun=0.9, work_left=3.0)
    assert seen.pace(160.0) == pytest.approx((1 / 60, (3.0 - 0.9) * 60 / 1.9))


def test_with_many_cells_it_is_the_pace_of_the_second_half() -> None:
    """In the first 100 s 20 cells were done, in the next 100 s 180: nodes have joined."""
    history = [(150.0, 10, 10.0), (200.0, 20, 20.0), (250.0, 100, 100.0)]
    seen = progress(total=400, done=200, work_done=200.0, work_left=200.0, history=history)
    assert seen.pace(300.0) == pytest.approx((1.8, 200 / 1.8))


@pytest.mark.parametrize(("slots", "cells", "sigma"), [(2, 48, 0.3), (2, 48, 1.0), (8, 200, 1.0), (64, 2000, 1.0)])
def test_time_left_does_not_jump_once_a_tenth_is_done(slots: int, cells: int, sigma: float) -> None:
    """Cells of unknown, different lengths; each worker's first cell takes longer, since it loads what they share."""
    for seed in range(20):
        lengths = np.random.default_rng(seed).lognormal(0.0, sigma, cells)
        free, begins, ends = [0.0] * slots, np.zeros(cells), np.zeros(cells)
        for i, length in enumerate(lengths):
            begins[i] = heapq.heappop(free)
            ends[i] = begins[i] + length + (3.0 if i < slots else 0.0)
            heapq.heappush(free, ends[i])
        this = Progress(total=cells, work_left=float(cells))
        shown: list[float] = []
        for now in np.arange(0.0, max(free), 0.2):
            this.note_start(0.0)
            done = int((ends <= now).sum())
            if done > this.done:
                this.done, this.work_done, this.work_left = done, float(done), float(cells - done)
                this.note_batch(now)
            this.work_begun = 0.5 * float(((begins <= now) & (now < ends)).sum())
            left = this.pace(now).seconds_left
            if left is not None and cells / 10 <= done and left > 3.0:
                shown.append(left)
        jumps = [max(a, b) / min(a, b) for a, b in itertools.pairwise(shown)]
        assert max(jumps) < 2, seed


def test_the_line_is_cleared_when_the_launch_ends(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with live(False) as show:
        show(progress())
        show(progress(done=10))  # too soon after the last: not shown
    written = capsys.readouterr().err
    assert "6 left" in written
    assert written.endswith("\r\x1b[K")


def test_a_slow_rate_has_a_longer_unit() -> None:
    assert [rate(r) for r in (1234.5, 1.0, 0.5, 1 / 60, 1 / 120, 1 / 36000)] == [
        "1,234.5 cells/s", "1.0 cells/s", "30 cells a minute", "1 cells a minute",
        "30 cells an hour", "0.1 cells an hour",
    ]  # fmt: skip


def test_before_anything_has_ended_there_is_no_rate(capsys, monkeypatch) -> None:
    monkeypatch.setattr("raysweep.orchestrator.launch.display.LINES_S", 0.0)
    with live(False) as show:
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
    monkeypatch.setattr("raysweep.orchestrator.launch.display.NEWS_S", 0.0)
    monkeypatch.setattr("raysweep.orchestrator.launch.display.LINES_S", 0.0)
    bad = deque(FailedAttempt(f"{i:024d}", "failed", f"ValueError: \x1b[31m{i}") for i in range(5))
    with live(False, " --store here") as show:
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
