"""Stage 4: a plan and an executor -> a stream of outcomes. Chunks, back-pressure, deadlines, attempts.

Knows nothing of Ray or of the store. Cells go longest first; tiny ones travel in chunks of about a second.
A chunk that dies takes nobody along: what can't be attributed runs again singly, charged to nobody.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.launch.record import CompletedAttempt
from raysweep.orchestrator.run.messages import Chunk, ChunkDone, ChunkLost, ChunkReturned, Outcome, outcome_of_lost
from raysweep.orchestrator.run.timeout import SLOW_FACTOR, SLOW_S, hard_grace
from raysweep.orchestrator.schedule.attempts import Attempts, ChunkKey
from raysweep.orchestrator.schedule.failures import POLICIES, Breaker, backoff, signature
from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.schedule.progress import Bad, Progress
from raysweep.orchestrator.store.checkpoints import CheckpointLocation
from raysweep.orchestrator.text import one_line

CHUNK_S = 1.0  # aim of a chunk's length
CHUNK_CELLS = 250  # and its most cells
GUESS_FACTOR = 4.0  # what a time guessed from a variant's relatives counts for
AHEAD = 2  # chunks a slot that are submitted and not yet home
POLL_S = 0.2
DRIVER_GRACE_S = 3.0  # past the worker's own limits, before the driver gives a chunk up


class Limits(NamedTuple):
    """When to stop submitting; what runs then still comes home."""

    failures: int | None = None
    seconds: float | None = None
    alike: int | None = None  # cells of a method that fail alike, which stop it
    node_seconds: float | None = None  # that cells wait for a node which is not there, once nothing else runs


class Driver:
    """One launch's run of a plan.

    Args:
        plan: which cells.
        executor: where.
        search: workload -> folders where a user's module is looked for.
        limits: when to stop early.
        home: where cells keep checkpoints.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        search: Mapping[str, tuple[str, ...]],
        limits: Limits,
        home: CheckpointLocation | None = None,
    ) -> None:
        self.executor, self.search, self.limits, self.home = executor, search, limits, home
        order = plan.order
        self.attempts = Attempts(plan)
        self.progress = Progress(total=len(order), work_left=sum(map(self.attempts.weights.__getitem__, order)))
        self.stop_asked = False
        self._began = time.monotonic()
        self._numbers = itertools.count()
        self._queues: dict[ChunkKey, deque[int]] = {}
        for row in order:
            self._queues.setdefault(self.attempts.size(row), deque()).append(row)
        self._breaker = Breaker(limits.alike)
        self._single: set[int] = set()  # rows that run alone, after a crash nobody was charged for
        self._waiting: list[tuple[float, int]] = []  # heap of (when, row): retries after a back-off
        self._to_retry: set[int] = set()  # those, and such as are queued or in flight since
        self._flying: dict[int, Chunk] = {}
        self._in_flight: dict[ChunkKey, int] = {}
        # chunk -> position, when it began it, how far it is by its own account
        self._started: dict[int, tuple[int, float, float | None]] = {}

    def run(self) -> Iterator[list[CompletedAttempt]]:
        """Outcomes as they come, in batches; an empty batch is a tick.

        Every attempt that ends is in there once. Stops when nothing is left, or `stop_asked`, or a limit is
        met; the caller closes the executor.
        """
        while True:
            self._check_limits()
            if self.stop_asked:
                yield self._cancel()
                return
            if self.progress.stopped is None:
                self._submit()
            self._check_waiting()
            if not self._flying:
                if self.progress.stopped is not None or not (self._waiting or any(self._queues.values())):
                    return
                time.sleep(min(POLL_S, max(0.0, self._waiting[0][0] - time.monotonic())) if self._waiting else 0)
                yield []
                continue
            finished: list[CompletedAttempt] = []
            for event in self.executor.poll(POLL_S):
                if isinstance(event, ChunkDone):
                    finished.extend(self._home(event))
                elif isinstance(event, ChunkReturned):
                    self._back(event)
                else:
                    finished.extend(self._lost(event))
            finished.extend(self._overdue())
            self.progress.running, self.progress.slow = len(self._started), self._slow()
            self.progress.to_retry = len(self._to_retry)
            if finished:
                self.progress.recent.append((time.monotonic(), self.progress.done, self.progress.work_done))
            yield finished

    def running(self) -> dict[str, float | None]:
        """Ids of the cells that a worker has last been heard to be in, and how far, 0 to 1, where they tell."""
        # Asked for by the heartbeat's thread, while chunks come home.
        found = [(self._flying.get(number), at, far) for number, (at, _, far) in list(self._started.items())]
        return {chunk.tasks[at].cell_id: far for chunk, at, far in found if chunk is not None}

    # Submitting

    def _submit(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, row = heapq.heappop(self._waiting)
            # In front: a cell that is tried again has waited longest.
            self._queues.setdefault(self.attempts.size(row), deque()).appendleft(row)
        for size, queue in self._queues.items():
            slots = self.executor.slots(size.cpus, size.gpus, size.memory_gib)
            while queue and self._in_flight.get(size, 0) < max(1, slots * AHEAD):
                # Long cells are not queued behind one another on a worker: a free slot is needed.
                if self._in_flight.get(size, 0) >= slots and self.attempts.estimate(queue[0])[0] > CHUNK_S:
                    break
                self._send(size, queue, slots)

    def _send(self, size: ChunkKey, queue: deque[int], slots: int) -> None:
        rows: list[int] = []
        total = 0.0
        most = max(1, min(CHUNK_CELLS, math.ceil(len(queue) / max(1, slots))))
        while queue and len(rows) < most:
            seconds, certain = self.attempts.estimate(queue[0])
            if rows and (total + seconds > CHUNK_S or queue[0] in self._single):
                break
            rows.append(queue.popleft())
            # A wrong guess is bounded: a worker hands back what it has not begun after two seconds.
            total += seconds if certain else GUESS_FACTOR * seconds
            if rows[-1] in self._single:
                break
        chunk = Chunk(
            number=next(self._numbers),
            workload=size.workload,
            experiment=size.experiment,
            tasks=tuple(map(self.attempts.begin, rows)),
            cpus=size.cpus,
            gpus=size.gpus,
            memory_gib=size.memory_gib,
            search=self.search.get(size.workload, ()),
            device="cuda" if size.gpus else "cpu",
            hand_back_after_s=2 * CHUNK_S,
            home=self.home,
        )
        self._flying[chunk.number] = chunk
        self._in_flight[size] = self._in_flight.get(size, 0) + 1
        self.executor.submit(chunk)

    # Coming home

    def _home(self, event: ChunkDone) -> list[CompletedAttempt]:
        result = event.result
        chunk = self._land(result.number)
        if chunk is None:
            return []  # given up before: its late results are dropped, other attempts are under way
        self.progress.notes.update(dict.fromkeys(result.notes))
        for row in reversed(result.handed_back):
            self._again(row)
        for outcome in result.outcomes:
            self._settle(outcome)
        return [CompletedAttempt(outcome, result.worker) for outcome in result.outcomes]

    def _lost(self, event: ChunkLost) -> list[CompletedAttempt]:
        started = self._started.get(event.number)
        chunk = self._land(event.number)
        if chunk is None:
            return []
        position = event.position
        if position is None and len(chunk.tasks) == 1:
            position = 0
        finished = []
        for i, task in enumerate(chunk.tasks):
            if i == position:
                began = started[1] if started and started[0] == i else time.monotonic()
                outcome = outcome_of_lost(task, event, time.monotonic() - began)
                self._settle(outcome)
                self._single.add(task.row)
                finished.append(CompletedAttempt(outcome, None))
            else:  # bystanders, charged nothing; alone next time if we can't tell who did it
                if position is None:
                    self._single.add(task.row)
                self._again(task.row)
        return finished

    def _back(self, event: ChunkReturned) -> None:
        """It never began: nobody is charged, no attempt was made."""
        chunk = self._land(event.number)
        for task in reversed(chunk.tasks if chunk else ()):
            self._again(task.row)

    def _again(self, row: int) -> None:
        self.attempts.take_back(row)
        if self.attempts.group(row) not in self._breaker.stopped:
            self._queues.setdefault(self.attempts.size(row), deque()).appendleft(row)

    def _land(self, number: int) -> Chunk | None:
        chunk = self._flying.pop(number, None)
        self._started.pop(number, None)
        if chunk is not None:
            self._in_flight[self._size(chunk)] -= 1
        return chunk

    def _size(self, chunk: Chunk) -> ChunkKey:
        return ChunkKey(chunk.workload, chunk.experiment, chunk.cpus, chunk.gpus, chunk.memory_gib)

    def _settle(self, outcome: Outcome) -> None:
        """Charge the attempt, and queue another where the budget allows."""
        row = outcome.row
        group = self.attempts.group(row)
        self._to_retry.discard(row)
        if outcome.status == "done":
            self.progress.done += 1
            self._count_work(row)
            self._breaker.done(*group)
            self.attempts.took(row, outcome.seconds or 0.0)
            return
        policy = POLICIES[outcome.status]
        self.progress.bad_attempts += 1
        self.progress.bad.append(
            Bad(self.attempts.ids[row], outcome.status, one_line(outcome.error_type, outcome.error_message))
        )
        if policy.budget is not None:
            self.attempts.charge(row, policy.budget)
        if policy.budget == "own_errors":
            sign = signature(outcome.error_type, outcome.error_message, outcome.traceback)
            said = self._breaker.failed(group[0], group[1], row, sign)
            if said is not None:
                self.progress.notes[said] = None
                self._drop(group)
        if self.attempts.used_up(row):
            self.progress.failed += 1
            self._count_work(row)
        elif policy.again and group not in self._breaker.stopped:
            if policy.budget == "memory" and (largest := self.executor.memory_gib()) is not None:
                self.attempts.ask_for_more_memory(row, largest)
            wait = backoff(self.attempts.charges(row)) if policy.wait else 0.0
            heapq.heappush(self._waiting, (time.monotonic() + wait, row))
            self._to_retry.add(row)

    def _count_work(self, row: int) -> None:
        self.progress.work_done += self.attempts.weights[row]
        self.progress.work_left -= self.attempts.weights[row]

    def _slow(self) -> list[tuple[str, float, float]]:
        """Cells that take far longer than others of their variant did, the longest first."""
        now, found = time.monotonic(), []
        for number, (position, began, _) in self._started.items():
            task = self._flying[number].tasks[position]
            usual = self.attempts.usual(task.row)
            if usual is not None and now - began > max(SLOW_FACTOR * usual, SLOW_S):
                found.append((task.cell_id, now - began, usual))
        return sorted(found, key=lambda one: -one[1])

    def _drop(self, group: tuple[str, str]) -> None:
        """Leave a stopped method's cells for a later launch."""
        for queue in self._queues.values():
            kept = [row for row in queue if self.attempts.group(row) != group]
            queue.clear()
            queue.extend(kept)
        self._waiting = [entry for entry in self._waiting if self.attempts.group(entry[1]) != group]
        heapq.heapify(self._waiting)
        self._to_retry = {row for row in self._to_retry if self.attempts.group(row) != group}

    # Ending early

    def _overdue(self) -> list[CompletedAttempt]:
        """Third layer of a deadline: give up on chunks whose worker should long have ended its cell."""
        now = time.monotonic()
        for beat in self.executor.beats():
            if beat.chunk in self._flying:  # it may arrive after its chunk has come home
                self._started[beat.chunk] = (beat.position, now - beat.seconds, beat.progress)
        finished = []
        for number, (position, began, _) in list(self._started.items()):
            limit = self._flying[number].tasks[position].timeout_s
            if limit is not None and now - began > limit + hard_grace(limit) + DRIVER_GRACE_S:
                self.executor.kill(number)
                message = f"ran longer than its timeout of {limit:g} s and its worker did not react"
                finished.extend(self._lost(ChunkLost(number, "timed_out", message, position)))
        return finished

    def _check_limits(self) -> None:
        if self.progress.stopped is not None:
            return
        failures, seconds, _, _ = self.limits
        if failures is not None and self.progress.failed >= failures:
            self.progress.stopped = f"--max-failures {failures} was met"
        elif seconds is not None and time.monotonic() - self._began > seconds:
            self.progress.stopped = f"--max-hours {seconds / 3600:g} was met"

    def _check_waiting(self) -> None:
        """Cells that no node can run are left for a later launch, once they alone are in flight for too long."""
        waiting = self.executor.waiting()
        self.progress.waiting = tuple(wait.what for wait in waiting)
        held = self._flying.keys() & frozenset().union(*(wait.chunks for wait in waiting))
        limit = self.limits.node_seconds
        if self.progress.stopped is None:
            if not held or limit is None or self._waiting or self._flying.keys() - held:
                return
            if min(wait.seconds for wait in waiting) < limit:
                return
            self.progress.stopped = f"{', '.join(self.progress.waiting)}: none came in {limit / 60:g} min (--node-wait)"
        for number in held:
            self.executor.kill(number)
            self._back(ChunkReturned(number))

    def _cancel(self) -> list[CompletedAttempt]:
        """Interrupted: take in what came home, cancel the rest."""
        finished: list[CompletedAttempt] = []
        for event in self.executor.poll(0):
            if isinstance(event, ChunkDone):
                finished.extend(self._home(event))
        for number, chunk in list(self._flying.items()):
            started = self._started.get(number)
            self.executor.kill(number)
            self._land(number)
            if started is not None:
                event = ChunkLost(number, "cancelled", "the launch was interrupted", started[0])
                task = chunk.tasks[started[0]]
                finished.append(CompletedAttempt(outcome_of_lost(task, event, time.monotonic() - started[1]), None))
        self.progress.stopped = "interrupted"
        return finished
