"""Failure policy: what is charged to whom, what is alike, when to stop; leftovers of dead launches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.executors.ray import cleanup
from raysweep.orchestrator.executors.ray.liveness import killed_beside_another
from raysweep.orchestrator.launch.launch import EMPTY_SUMMARY, launch
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.run.messages import (
    Beat,
    Chunk,
    ChunkDone,
    ChunkLost,
    ChunkResult,
    ChunkReturned,
    Event,
    Outcome,
    Worker,
)
from raysweep.orchestrator.schedule import retry
from raysweep.orchestrator.schedule.driver import Driver, Limits
from raysweep.orchestrator.schedule.failure_groups import grouped, place, signature
from raysweep.orchestrator.schedule.plan import plan
from raysweep.orchestrator.schedule.retry import Breaker, backoff
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import Sweep


class Scripted:
    """An executor whose chunks end as a function of their first cell says."""

    def __init__(self, end) -> None:
        self.end, self.queue, self.sent = end, [], []

    def slots(self, *_: object) -> int:
        return 2

    def fits(self, *_: object) -> None:
        return None

    def waiting(self):
        return []

    def memory_gib(self) -> float:
        return 64.0

    def submit(self, chunk: Chunk) -> None:
        self.queue.append(chunk)
        self.sent.append(chunk)

    def poll(self, timeout: float) -> list[Event]:
        chunk = self.queue.pop(0)
        return [self.end(chunk)]

    def beats(self) -> tuple[()]:
        return ()

    def kill(self, number: int) -> None:
        pass


WORKER = Worker("h", "n", 1, "cpu", None, None, "{}")


def home(chunk: Chunk, status: str = "done", **about: str) -> ChunkDone:
    ended = tuple(Outcome(t.row, t.attempt, status, 0.0, 1.0, seconds=0.01, **about) for t in chunk.tasks)
    return ChunkDone(ChunkResult(chunk.number, WORKER, ended, ()))


@pytest.fixture
def drive(write, monkeypatch: pytest.MonkeyPatch):
    """Drive a sweep of one method with the scripted executor; (driver, executor, attempts as they ended)."""
    write("any.py", "def run(cell, context):\n    return {}\n")
    monkeypatch.setattr(retry, "BACKOFF_S", (0.0, 0.0))

    def go(end, seeds: str = "[0]", resources: str = "", limits: Limits | None = None, see=lambda progress: None):
        text = f'name="s"\nworkload="any:run"\nseeds={seeds}\n[resources]\n{resources}\n[[grid]]\nmethod="m"\n'
        prepared = from_sweeps([Sweep.from_text(text)], Store())
        executor = Scripted(end)
        driver = Driver(plan(prepared.table, EMPTY_SUMMARY), executor, {}, limits or Limits())
        ended = []
        for batch in driver.run():
            ended += [f.outcome for f in batch]
            see(driver.progress)
        return driver, executor, ended

    return go


@pytest.mark.parametrize(
    ("status", "tries"),
    [("failed", 2), ("timed_out", 2), ("crashed", 6), ("lost", 6), ("out_of_memory", 2)],
)
def test_each_kind_of_failure_has_a_budget_of_its_own(drive, status: str, tries: int) -> None:
    driver, _, ended = drive(lambda chunk: ChunkLost(chunk.number, status, "why", 0))
    assert [o.status for o in ended] == [status] * tries
    assert [o.attempt for o in ended] == list(range(1, tries + 1))
    assert (driver.progress.failed, driver.progress.left) == (1, 0)


def test_losses_do_not_use_up_the_budget_of_errors(drive) -> None:
    script = ["lost", "failed", "crashed", "lost", "preempted", "preempted", "done"]
    ends = iter(script)

    def end(chunk: Chunk) -> Event:
        status = next(ends)
        return home(chunk, status) if status in ("done", "preempted", "failed") else ChunkLost(chunk.number, status, "")

    driver, _, ended = drive(end)
    assert [o.status for o in ended] == script
    assert driver.progress.done == 1


def test_cells_that_will_be_tried_again_are_counted_till_they_have_been(drive) -> None:
    ends = iter(["failed", "done", "lost", "done"])

    def end(chunk: Chunk) -> Event:
        status = next(ends)
        return ChunkLost(chunk.number, status, "") if status == "lost" else home(chunk, status)

    seen: list[tuple[int, int, int]] = []
    drive(end, seeds='"0..1"', see=lambda p: seen.append((p.to_retry, p.done, p.failed)))
    counts = [count for count, previous in zip(seen, [None, *seen], strict=False) if count != previous]
    assert counts == [(1, 0, 0), (1, 1, 0), (0, 2, 0)]


@pytest.mark.parametrize(("resources", "asked"), [("", 32.0), ("memory_gib=3", 6.0), ("memory_gib=40", 64.0)])
def test_out_of_memory_is_tried_again_with_more(drive, resources: str, asked: float) -> None:
    ends = iter([lambda c: ChunkLost(c.number, "out_of_memory", ""), home])
    driver, executor, _ = drive(lambda chunk: next(ends)(chunk), resources=resources)
    assert [chunk.memory_gib for chunk in executor.sent][1] == asked
    assert driver.progress.done == 1


def test_a_chunk_that_never_began_is_no_attempt(drive) -> None:
    ends = iter([lambda c: ChunkReturned(c.number)] * 20)
    driver, executor, ended = drive(lambda chunk: next(ends, home)(chunk))
    assert [(o.status, o.attempt) for o in ended] == [("done", 1)]
    assert len(executor.sent) == 21
    assert driver.progress.done == 1


def test_a_sign_of_life_that_comes_after_its_chunk_runs_no_cell(drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "beats", lambda self: tuple(Beat(chunk.number, 0, 1.0) for chunk in self.sent))
    driver, executor, _ = drive(home, seeds='"0..19"')
    assert len(executor.sent) > 1
    assert (driver.progress.done, driver.progress.running, driver.running()) == (20, 0, {})


def test_a_poison_cell_takes_no_chunk_mate_along(drive) -> None:
    def end(chunk: Chunk) -> Event:
        poison = any(t.seed == 7 for t in chunk.tasks)
        return ChunkLost(chunk.number, "crashed", "died") if poison else home(chunk)

    driver, _, ended = drive(end, seeds='"0..19"')
    assert (driver.progress.done, driver.progress.failed) == (19, 1)
    assert {o.status for o in ended if o.row != 7} == {"done"}
    assert {o.attempt for o in ended if o.row != 7} == {1}
    assert [o.status for o in ended if o.row == 7] == ["crashed"] * 6


def test_one_failure_on_many_cells_stops_the_method_and_says_so(write) -> None:
    write(
        "two.py",
        """
        def run(cell, context):
            if cell.method == "bad":
                raise ValueError(f"no model of size {cell.seed} in {cell.cell_id!r}")
            return {"x": 1.0}
        """,
    )
    text = 'name="s"\nworkload="two:run"\nseeds="0..99"\n[resources]\nretries=0\n[[grid]]\nmethod=["bad", "good"]\n'
    result = launch(Sweep.from_text(text), inline=True)
    assert result.done == 100
    assert 20 <= result.failed < 60
    assert result.left == 100 - result.failed
    assert result.exit_code == 1
    (said,) = result.warnings
    assert "method 'bad' of two:run was stopped: 20 of its cells failed alike" in said
    assert "ValueError: no model of size # in '…' (two.py:4 in run)" in said
    groups = grouped(Store().attempts.collect())
    assert groups.select("method", "cells", "failure").rows() == [
        ("bad", result.failed, "ValueError: no model of size # in '…' (two.py:4 in run)")
    ]


def test_the_breaker_waits_where_more_succeed_than_fail() -> None:
    breaker = Breaker(3)
    for _ in range(5):
        breaker.done("w", "m")
    assert [breaker.failed("w", "m", row, "same") for row in range(4)] == [None] * 4
    assert breaker.failed("w", "m", 3, "same") is None  # a cell counts once
    assert breaker.failed("w", "m", 9, "another") is None
    assert "was stopped" in (breaker.failed("w", "m", 4, "same") or "")
    assert breaker.failed("w", "m", 5, "same") is None  # said once
    assert [Breaker(None).failed("w", "m", row, "same") for row in range(99)] == [None] * 99


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("shape (3, 4) at 0x7f21", "shape (5, 1) at 0xabcd"),
        ("no file '/tmp/a/b.txt'", "no file '/home/x/c.txt'"),
        ("lost /data/a/b.csv after 1.5e-3 s", "lost /data/c/d.csv after 2 s"),
        ('bad key "alpha"', 'bad key "beta"'),
        ("the same\nand details 1", "the same\nand others 2"),
    ],
)
def test_what_varies_between_like_failures_is_no_part_of_the_signature(first: str, second: str) -> None:
    trace = 'Traceback\n  File "/a/b/cells.py", line 3, in run\n    raise X\nX\n'
    assert signature("X", first, trace) == signature("X", second, trace.replace("/a/b/", "/c/"))
    assert signature("X", first, trace) != signature("X", first, trace.replace("line 3", "line 4"))
    assert signature("X", first, trace) != signature("Y", first, trace)


TRACE = """Traceback (most recent call last):
  File "/home/me/cells.py", line 3, in run
    step(x)
  File "/home/me/model.py", line 7, in step
    return torch.matmul(a, b)
  File "/home/me/.venv/lib/python3.12/site-packages/torch/tensor.py", line 99, in matmul
    check()
  File "/usr/lib/python3.12/threading.py", line 5, in check
ValueError: sizes
"""
RINGING = """Traceback (most recent call last):
  File "cells.py", line 3, in run
  File "cells.py", line 8, in wait
  File "orchestrator/run/timeout.py", line 44, in ring
CellTimeout: ran longer
"""
ENDED = """Timeout (0:00:03)!
Thread 0x1 (most recent call first):
  File "/usr/lib/python3.12/threading.py", line 331 in wait
  File "/tmp/ship/orchestrator/executors/ray_worker.py", line 70 in run
Thread 0x2 (most recent call first):
  File "/tmp/ship/cells.py", line 8 in wait
  File "/tmp/ship/cells.py", line 3 in run
  File "/tmp/ship/orchestrator/run.py", line 200 in _run
"""


@pytest.mark.parametrize(
    ("trace", "where"),
    [
        (TRACE, "model.py:7 in step"),
        (RINGING, "cells.py:8 in wait"),
        (ENDED, "cells.py:8 in wait"),
        ('  File "/x/lib/python3.12/json/decoder.py", line 2, in parse', "decoder.py:2 in parse"),
        ("killed", None),
        (None, None),
    ],
)
def test_the_place_is_in_the_workloads_own_code(trace: str | None, where: str | None) -> None:
    assert place(trace) == where


def of_attempts(rows: list[tuple[str, ...]]) -> pl.DataFrame:
    """One a cell and seed: status, error type and message, traceback."""
    what = ["workload", "method", "cell_id", "seed", "status", "error_type", "error_message", "traceback"]
    return pl.DataFrame([("w", "m", f"c{i}", i, *row) for i, row in enumerate(rows)], schema=what, orient="row")


def test_what_all_of_a_group_say_is_said_whole_and_what_differs_is_not() -> None:
    frame = of_attempts([("failed", "KeyError", "'rate' of 3", TRACE)] * 2)
    assert grouped(frame)["failure"].to_list() == ["KeyError: 'rate' of 3 (model.py:7 in step)"]
    frame = of_attempts([("failed", "KeyError", f"'rate' of {i}", TRACE) for i in range(3)])
    assert grouped(frame).select("failure", "seeds").rows() == [("KeyError: '…' of # (model.py:7 in step)", [0, 1, 2])]


def test_timeouts_are_alike_wherever_they_were_interrupted_and_most_of_them_is_said() -> None:
    traces = [RINGING, RINGING, RINGING.replace("line 8", "line 9")]
    frame = of_attempts([("timed_out", "CellTimeout", "ran", trace) for trace in traces])
    assert grouped(frame)["failure"].to_list() == ["CellTimeout: ran (mostly cells.py:8 in wait)"]
    assert grouped(frame[:2])["failure"].to_list() == ["CellTimeout: ran (cells.py:8 in wait)"]
    unknown = frame.with_columns(traceback=pl.lit(None, pl.String))
    assert grouped(unknown)["failure"].to_list() == ["CellTimeout: ran"]


def test_a_timeout_ends_its_traceback_where_it_hung(write) -> None:
    write("hang.py", "import time\n\ndef run(cell, context):\n    time.sleep(9)\n")
    text = 'name="h"\nworkload="hang:run"\nseeds=[0]\n[resources]\nretries=0\ntimeout_s=0.05\n[[grid]]\nmethod="m"\n'
    assert launch(Sweep.from_text(text), inline=True).failed == 1
    (trace,) = Store().attempts.select("traceback").collect()["traceback"]
    assert trace.splitlines()[-2:] == [
        "    time.sleep(9)",
        "raysweep.orchestrator.run.timeout.CellTimeout: " + trace.split(": ")[-1].rstrip(),
    ]
    assert place(trace) == "hang.py:4 in run"


def test_backoff_doubles_up_to_a_limit() -> None:
    assert [backoff(n) for n in (0, 1, 2, 3, 7, 1000)] == [0.5, 0.5, 1.0, 2.0, 30.0, 30.0]


def test_a_memory_error_is_told_apart_and_advice_given(write) -> None:
    write("big.py", "def run(cell, context):\n    raise MemoryError\n")
    text = 'name="b"\nworkload="big:run"\nseeds=[0]\n[resources]\nretries=5\n[[grid]]\nmethod="m"\n'
    assert launch(Sweep.from_text(text), inline=True).failed == 1
    tried = Store().attempts.select("status", "error_message").collect()
    assert tried["status"].to_list() == ["out_of_memory"] * 2
    assert "memory_gib" in tried["error_message"][0]


OOM = """Task was killed due to the node running low on memory. Top 10 memory users: PID\tMEM(GB)\tCOMMAND
71\t3.80\tray::work
72\t0.06\tray::work
73\t0.30\t/usr/bin/raylet --x
"""


def test_who_is_killed_beside_a_hog_is_not_charged() -> None:
    assert [killed_beside_another(OOM, pid) for pid in (71, 72, 0)] == [False, True, False]
    assert not killed_beside_another("no table", 72)


# Leftovers


@pytest.fixture
def scratch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return cleanup.scratch()


def test_what_a_killed_launch_left_is_ended_and_what_lives_is_not(scratch: Path) -> None:
    living = cleanup.LaunchFolder("living")
    dead = cleanup.LaunchFolder("dead")
    session = "session_2026-01-01_00-00-00_000000_4194000"
    about = json.loads((dead.path / "owner.json").read_text()) | {"pid": 2**22 + 5, "session": session}
    (dead.path / "owner.json").write_text(json.dumps(about))
    (dead.path / "ship").mkdir()
    for name, changes in (("elsewhere", {"boot": "another"}), ("space", {"process": {"space": "x", "started": "1"}})):
        other = cleanup.LaunchFolder(name)
        (other.path / "owner.json").write_text(json.dumps(about | changes))
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    agent = subprocess.Popen([*sleeps, f"--session-dir=/tmp/ray/{session}", f"--log=/tmp/ray/{session}/logs"])
    bystander = subprocess.Popen([*sleeps, f"--session-dir=/tmp/ray/{session}7"])
    try:
        (said,) = cleanup.end_leftovers()
        assert "1 of its processes were ended" in said
        assert agent.wait(10) == -9
        assert bystander.poll() is None
    finally:
        for process in (agent, bystander):
            process.kill()
            process.wait()
    assert sorted(path.name for path in scratch.iterdir()) == ["launch-elsewhere", "launch-living", "launch-space"]
    living.remove()
    assert cleanup.end_leftovers() == []


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"pid": "x", "process": {}}', '{"session": "../.."}'])
def test_records_that_are_none_are_left_alone(scratch: Path, text: str) -> None:
    made = cleanup.LaunchFolder("odd")
    (made.path / "owner.json").write_text(text)
    assert cleanup.end_leftovers() == []
    assert made.path.is_dir()


def test_somebody_elses_scratch_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    (folder / "theirs").mkdir()
    (folder / f"raysweep-{os.getuid()}").symlink_to(folder / "theirs")
    with pytest.raises(Exception, match="not a folder of this user"):
        cleanup.scratch()


def test_failures_are_listed_by_likeness(cli, write) -> None:
    write("two.py", "def run(cell, context):\n    raise ValueError(f'seed {cell.seed}')\n")
    write("two.toml", 'name="s"\nworkload="two:run"\nseeds="0..2"\n[resources]\nretries=0\n[[grid]]\nmethod="m"\n')
    assert cli("launch", "two.toml", "--inline").returncode == 1
    shown = cli("failures")
    assert shown.returncode == 0
    assert "3 cells of m, seeds 0, 1, 2, failed:" in shown.stdout
    assert "ValueError: seed # (two.py:2 in run)" in shown.stdout
    (group,) = json.loads(cli("failures", "--json").stdout)
    assert (group["cells"], group["method"], group["status"]) == (3, "m", "failed")
    write("two.py", "def run(cell, context):\n    assert cell.seed, 'another'\n    return {}\n")
    assert cli("resume", "--inline").returncode == 1
    shown = cli("failures").stdout.splitlines()
    assert shown[:2] == [
        "1 cell of m, seed 0, failed:",
        "    AssertionError: another (two.py:2 in run)",
    ]  # its last error
    assert shown[-1] == "2 cells failed earlier and are done now"
    assert pl.DataFrame([group]).height == 1
