"""The driver against a scripted executor: budgets, retries, chunks that die, the circuit breaker."""

from __future__ import annotations

import itertools

import pytest

from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.run.messages import (
    Beat,
    Chunk,
    ChunkDone,
    ChunkLost,
    ChunkRefused,
    ChunkResult,
    ChunkReturned,
    Event,
    Outcome,
    Worker,
)
from raysweep.orchestrator.schedule.backoff import Breaker, backoff
from raysweep.orchestrator.schedule.driver import Driver
from raysweep.orchestrator.schedule.failure_groups import grouped
from raysweep.orchestrator.schedule.limits import Limits
from raysweep.orchestrator.schedule.plan import plan
from raysweep.orchestrator.store.control import Orders
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import Sweep


class Scripted:
    """An executor whose chunks end as a function of the chunk says."""

    def __init__(self, end) -> None:
        self.end, self.queue, self.sent = end, [], []
        self.nodes, self.avoided, self.most = {"good", "bad"}, set(), 0

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
        self.most = max(self.most, len(self.queue))

    def poll(self, timeout: float) -> list[Event]:
        chunk = self.queue.pop(0)
        return [self.end(chunk)]

    def beats(self) -> tuple[()]:
        return ()

    def in_this_process(self) -> None:
        return None

    def kill(self, number: int) -> None:
        pass

    def avoid(self, node_id: str) -> bool:
        self.avoided.add(node_id)
        return bool(self.nodes - self.avoided)


WORKER = Worker("h", "n", 1, "cpu", None, None, "{}")


def completed(chunk: Chunk, status: str = "done", **fields: str) -> ChunkDone:
    ended = tuple(Outcome(t.row, t.attempt, status, 0.0, 1.0, seconds=0.01, **fields) for t in chunk.tasks)
    return ChunkDone(ChunkResult(chunk.number, WORKER, ended, ()))


@pytest.fixture
def drive(write, monkeypatch: pytest.MonkeyPatch):
    """Drive a sweep of one method with the scripted executor; the driver, the executor, outcomes in order."""
    write("any.py", "def run(cell, context):\n    return {}\n")
    monkeypatch.setattr("raysweep.orchestrator.schedule.backoff.BACKOFF_S", (0.0, 0.0))

    def run(end, seeds: str = "[0]", resources: str = "", limits: Limits | None = None, observe=lambda progress: None):
        text = f'name="s"\nworkload="any:run"\nseeds={seeds}\n[resources]\n{resources}\n[[grid]]\nmethod="m"\n'
        prepared = from_sweeps([Sweep.from_text(text)], Store())
        executor = Scripted(end)
        planned = plan(prepared.table, Store().summary())
        driver = Driver(planned, executor, {}, limits or Limits(), workloads=prepared.workloads)
        ended = []
        for batch in driver.run():
            ended += [f.outcome for f in batch]
            observe(driver.progress)
        return driver, executor, ended

    return run


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
        return (
            completed(chunk, status)
            if status in ("done", "preempted", "failed")
            else ChunkLost(chunk.number, status, "")
        )

    driver, _, ended = drive(end)
    assert [o.status for o in ended] == script
    assert driver.progress.done == 1


def test_cells_that_will_be_retried_are_counted_until_they_have_been(drive) -> None:
    ends = iter(["failed", "done", "lost", "done"])

    def end(chunk: Chunk) -> Event:
        status = next(ends)
        return ChunkLost(chunk.number, status, "") if status == "lost" else completed(chunk, status)

    counts: list[tuple[int, int, int]] = []
    drive(end, seeds='"0..1"', observe=lambda p: counts.append((p.to_retry, p.done, p.failed)))
    changes = [count for count, previous in zip(counts, [None, *counts], strict=False) if count != previous]
    assert changes == [(1, 0, 0), (1, 1, 0), (0, 2, 0)]


@pytest.mark.parametrize(("resources", "gib"), [("", 32.0), ("memory_gib=3", 6.0), ("memory_gib=40", 64.0)])
def test_out_of_memory_is_tried_again_with_more(drive, resources: str, gib: float) -> None:
    ends = iter([lambda c: ChunkLost(c.number, "out_of_memory", ""), completed])
    driver, executor, _ = drive(lambda chunk: next(ends)(chunk), resources=resources)
    assert [chunk.memory_gib for chunk in executor.sent][1] == gib
    assert driver.progress.done == 1


def test_a_chunk_that_never_began_is_no_attempt(drive) -> None:
    ends = iter([lambda c: ChunkReturned(c.number)] * 20)
    driver, executor, ended = drive(lambda chunk: next(ends, completed)(chunk))
    assert [(o.status, o.attempt) for o in ended] == [("done", 1)]
    assert len(executor.sent) == 21
    assert driver.progress.done == 1


def refused(chunk: Chunk, node: str | None = "bad", problem: str = "", **files: str) -> ChunkRefused:
    return ChunkRefused(chunk.number, node, "host-7", problem, {f"{name}.py": text for name, text in files.items()})


def test_a_node_with_other_code_is_avoided_and_no_cell_is_charged(drive) -> None:
    ends = iter([lambda c: refused(c, any="0" * 16)] * 3)
    driver, executor, ended = drive(lambda chunk: next(ends, completed)(chunk), seeds='"0..9"')
    assert [(o.status, o.attempt) for o in ended] == [("done", 1)] * 10
    assert executor.avoided == {"bad"}
    (note,) = driver.progress.notes
    assert note == ("node host-7 gets no more cells: any.py on host-7 differs from the code that this launch sent")
    assert (driver.progress.stopped, driver.progress.bad_attempts) == (None, 0)


@pytest.mark.parametrize("node", ["bad", None])
def test_a_launch_stops_if_no_node_can_load_its_workload(drive, node: str | None) -> None:
    problem = "workload 'any:run' fails to import: No module named 'einops'"
    nodes = itertools.cycle(["good", node] if node else [None])
    driver, executor, ended = drive(lambda chunk: refused(chunk, next(nodes), problem), seeds='"0..9"')
    assert ended == []
    assert driver.progress.stopped == f"no node is left that can run any:run: {problem}"
    assert (driver.progress.failed, driver.progress.left) == (0, 10)
    assert len(executor.sent) <= 8


def test_three_broken_nodes_stop_a_launch_in_which_nothing_has_run_yet(drive, monkeypatch: pytest.MonkeyPatch) -> None:
    """An autoscaler may start broken nodes for ever."""
    monkeypatch.setattr(Scripted, "avoid", lambda self, node_id: True)
    numbers = itertools.count()
    driver, _, ended = drive(lambda chunk: refused(chunk, f"n{next(numbers) // 3}", "no disk left"))
    assert (ended, driver.progress.stopped) == ([], "3 nodes cannot run any:run: no disk left")
    numbers = itertools.count(-1)
    driver, _, ended = drive(
        lambda chunk: refused(chunk, f"n{n // 3}") if 0 <= (n := next(numbers)) < 30 else completed(chunk),
        seeds='"0..9"',
    )
    assert (len(ended), driver.progress.stopped) == (10, None)


def test_a_heartbeat_that_comes_after_its_chunk_is_ignored(drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "beats", lambda self: tuple(Beat(chunk.number, 0, 1.0) for chunk in self.sent))
    driver, executor, _ = drive(completed, seeds='"0..19"')
    assert len(executor.sent) > 1
    assert (driver.progress.done, driver.progress.running, driver.running()) == (20, 0, {})


def test_a_poison_cell_takes_no_chunk_mate_along(drive) -> None:
    def end(chunk: Chunk) -> Event:
        poison = any(t.seed == 7 for t in chunk.tasks)
        return ChunkLost(chunk.number, "crashed", "died") if poison else completed(chunk)

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
    (warning,) = result.warnings
    assert "'bad' of two:run was stopped: 20 of its cells" in warning
    assert "ValueError: no model of size # in '…' (two.py:4 in run)" in warning
    attempts = Store().attempts.collect()
    groups = grouped(attempts, attempts.select("method", "k", "config"))
    assert groups.select("shared", "cells", "failure").rows() == [
        ("method = bad", result.failed, "ValueError: no model of size # in '…' (two.py:4 in run)")
    ]


def test_the_breaker_waits_where_more_succeed_than_fail() -> None:
    breaker = Breaker(3)
    for _ in range(5):
        breaker.done("w", "m")
    assert [breaker.failed("w", "m", row, "same") for row in range(4)] == [None] * 4
    assert breaker.failed("w", "m", 3, "same") is None  # a cell counts once
    assert breaker.failed("w", "m", 9, "another") is None
    assert "was stopped" in (breaker.failed("w", "m", 4, "same") or "")
    assert breaker.failed("w", "m", 5, "same") is None  # reported once
    assert [Breaker(None).failed("w", "m", row, "same") for row in range(99)] == [None] * 99


def test_backoff_doubles_up_to_a_limit() -> None:
    assert [backoff(n) for n in (0, 1, 2, 3, 7, 1000)] == [0.5, 0.5, 1.0, 2.0, 30.0, 30.0]


def test_a_memory_error_has_a_status_of_its_own_and_advice(write) -> None:
    write("big.py", "def run(cell, context):\n    raise MemoryError\n")
    text = 'name="b"\nworkload="big:run"\nseeds=[0]\n[resources]\nretries=5\n[[grid]]\nmethod="m"\n'
    assert launch(Sweep.from_text(text), inline=True).failed == 1
    attempts = Store().attempts.select("status", "error_message").collect()
    assert attempts["status"].to_list() == ["out_of_memory"] * 2
    assert "memory_gib" in attempts["error_message"][0]


@pytest.mark.parametrize(("parallel", "most"), [(1, 1), (3, 3), (None, 4)])
def test_never_more_chunks_are_in_flight_than_cells_may_run_at_once(drive, parallel: int | None, most: int) -> None:
    def end(chunk: Chunk) -> Event:
        return ChunkReturned(chunk.number) if chunk.number % 3 == 0 else completed(chunk)

    driver, executor, _ = drive(end, seeds='"0..29"', limits=Limits(parallel=parallel))
    assert driver.progress.done == 30
    assert executor.most == most


def test_cancelled_cells_are_not_run_and_their_neighbours_are(write) -> None:
    write("any.py", "def run(cell, context):\n    return {}\n")
    prepared = from_sweeps([Sweep.from_text('workload="any:run"\nseeds="0..9"\n')], Store())
    planned = plan(prepared.table, Store().summary())
    ids = planned.frame["cell_id"]
    looks = iter([Orders(), Orders(cancelled=frozenset(ids[2:4])), Orders(paused=True)])
    executor = Scripted(completed)
    driver = Driver(planned, executor, {}, Limits(), workloads=prepared.workloads, orders=lambda: next(looks, Orders()))
    ended = [attempt.outcome.row for batch in driver.run() for attempt in batch]
    assert ended == [0, 1, *range(4, 10)]
    assert (driver.progress.done, driver.progress.cancelled, driver.progress.left) == (8, 2, 0)
