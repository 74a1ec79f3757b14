"""Stage 4, driving: runs a plan on an executor and yields outcomes.

The driver forms chunks, limits their number in flight, enforces timeouts and retries cells. It knows neither Ray nor
the store. The longest cells run first; short cells share chunks of about a second. If a chunk is lost, and it is
unknown which cell was the cause, each cell of the chunk runs again alone, and none is charged.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.run.messages import (
    CellState,
    Chunk,
    ChunkDone,
    ChunkLost,
    ChunkRefused,
    ChunkReturned,
    CompletedAttempt,
    NeededCell,
    Outcome,
    Task,
    outcome_of_lost,
)
from raysweep.orchestrator.run.timeout import hard_grace
from raysweep.orchestrator.schedule.attempts import Attempts, ChunkKey
from raysweep.orchestrator.schedule.backoff import Breaker, backoff
from raysweep.orchestrator.schedule.edges import Dependents
from raysweep.orchestrator.schedule.failure_groups import signature
from raysweep.orchestrator.schedule.limits import Limits
from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.schedule.progress import FailedAttempt, Progress
from raysweep.orchestrator.schedule.refusals import Refusals
from raysweep.orchestrator.schedule.spending import Spending
from raysweep.orchestrator.status import POLICIES
from raysweep.orchestrator.store.checkpoints import CheckpointLocation
from raysweep.orchestrator.store.control import Orders
from raysweep.orchestrator.sweep.grammar.needs import Edge
from raysweep.orchestrator.sweep.grammar.outputs import DEFAULT, Outputs
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.text import count_cells, one_line

CHUNK_S = 1.0  # intended length of a chunk
CHUNK_CELLS = 1_000  # maximum number of cells in a chunk
GUESS_FACTOR = 4.0  # factor on times that are estimated from other variants
AHEAD = 2  # chunks in flight per slot
POLL_S = 0.2
DRIVER_GRACE_S = 3.0  # after the worker's own limits, before the driver ends a chunk


class Driver:
    """Runs the cells of a plan for one launch.

    Args:
        plan: the cells to run.
        executor: runs the chunks.
        search: workload -> folders of users' modules and programs.
        limits: limits at which the launch stops early.
        checkpoints: location of the cells' checkpoints.
        workloads: name -> workload. Chunks get the workload's program and the digest of its inputs. If a worker has
            other code, the message names a file that differs.
        outputs: sweep -> which files in a cell's folder become artifacts, and whether metrics may be NaN.
        publish: called with states of running cells whose workers cannot publish them.
        orders: returns the orders of the commands `pause`, `continue` and `cancel` since the last call.
        files_of: function that gets a cell's edges (the cells that it needs), and returns these cells with their
            artifacts from the store.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        search: Mapping[str, tuple[str, ...]],
        limits: Limits,
        checkpoints: CheckpointLocation | None = None,
        workloads: Mapping[str, Workload] = MappingProxyType({}),
        outputs: Mapping[str, Outputs] = MappingProxyType({}),
        publish: Callable[[CellState], None] = lambda state: None,
        orders: Callable[[], Orders] = Orders,
        files_of: Callable[[Sequence[Edge]], tuple[NeededCell, ...]] = lambda edges: (),
    ) -> None:
        self.executor, self.search, self.limits, self.checkpoints = executor, search, limits, checkpoints
        self._refusals = Refusals(executor, workloads)
        self._programs = {name: w.program for name, w in workloads.items() if w.program is not None}
        self._inputs = {name: w.inputs_digest for name, w in workloads.items()}
        self._outputs, self._publish, self._orders, self._files_of = outputs, publish, orders, files_of
        self._cancelled: set[int] = set()  # rows that were cancelled by name
        self.progress = Progress(total=0)
        self.stop_requested = False
        self._numbers = itertools.count()
        self._queues: dict[ChunkKey, deque[int]] = {}
        self._breaker = Breaker(limits.alike)
        self._spending = Spending(limits)
        self._single: set[int] = set()  # rows that run alone, after the unexplained crash of a chunk
        self._waiting: list[tuple[float, int]] = []  # heap of (when, row): retries after a back-off
        self._to_retry: set[int] = set()  # the same rows, and still while the retry runs
        self._in_flight: dict[int, Chunk] = {}
        self._count_in_flight: dict[ChunkKey, int] = {}
        # chunk -> index of the running task, when that began, its progress
        self._started: dict[int, tuple[int, float, float | None]] = {}
        self.add(plan)

    def add(self, plan: Plan) -> None:
        """Queue the cells of an extended plan, which begins with the earlier plan's rows. `run` must have ended."""
        self.attempts = Attempts(plan)
        order = [row for row in plan.order if self.attempts.group(row) not in self._breaker.stopped]
        self._needed = plan.needed
        self._edges = Dependents({plan.frame["cell_id"][row]: row for row in order} if plan.needed else {}, plan.needed)
        for row in order:
            if row in self._edges.blocked:
                continue
            self._queues.setdefault(self.attempts.key(row), deque()).append(row)
        self.progress.add(len(order), sum(map(self.attempts.weights.__getitem__, order)), time.monotonic())

    def run(self) -> Iterator[list[CompletedAttempt]]:
        """Yield batches of completed attempts, each attempt once. A batch may be empty.

        Ends when no cell is left, `stop_requested` is set, or a limit is reached. The caller closes the executor.
        """
        while True:
            self._check_limits()
            if self.stop_requested:
                yield self._cancel()
                return
            finished = self._obey()
            if self.progress.stopped is None and not self.progress.paused:
                self._submit()
            self._check_waiting()
            if not self._in_flight:
                is_over = not (self._waiting or self._edges.uncommitted or any(self._queues.values()))
                if self.progress.stopped is not None or is_over:
                    self._note_blocked()
                    yield finished
                    return
                wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else 0
                time.sleep(POLL_S if self.progress.paused else min(POLL_S, wait))
                yield finished
                continue
            for event in self.executor.poll(POLL_S):
                if isinstance(event, ChunkDone):
                    finished.extend(self._completed(event))
                elif isinstance(event, ChunkReturned):
                    self._returned(event)
                elif isinstance(event, ChunkRefused):
                    self._refused(event)
                else:
                    finished.extend(self._lost(event))
            finished.extend(self._overdue())
            self.progress.running, self.progress.slow = len(self._started), self._slow()
            self.progress.work_begun = self._work_begun()
            running = {self._in_flight[number].tasks[i].row for number, (i, _, _) in self._started.items()}
            self.progress.to_retry = len(self._to_retry - running)
            if finished:
                self.progress.note_batch(time.monotonic())
            yield finished

    def running(self) -> dict[str, float | None]:
        """Return cell id -> progress (0 to 1) of the running cells, by the last heartbeats.

        The progress is None for cells that do not report it.
        """
        # Called by the thread of the store's heartbeat: `_in_flight` may change meanwhile.
        started = [(number, i, progress) for number, (i, _, progress) in list(self._started.items())]
        if (here := self.executor.in_this_process()) is not None:
            started.append((here.chunk, here.position, here.progress))
        chunks = [(self._in_flight.get(number), i, progress) for number, i, progress in started]
        return {chunk.tasks[i].cell_id: progress for chunk, i, progress in chunks if chunk is not None}

    # Submitting

    def _submit(self) -> None:
        now, most = time.monotonic(), self.limits.parallel
        while self._waiting and self._waiting[0][0] <= now:
            _, row = heapq.heappop(self._waiting)
            # At the front of the queue: a cell that is retried has waited longest.
            self._queues.setdefault(self.attempts.key(row), deque()).appendleft(row)
        for key, queue in self._queues.items():
            slots = self.executor.slots(key.cpus, key.gpus, key.memory_gib, key.custom)
            slots = slots if most is None else min(slots, most)
            while queue and self._count_in_flight.get(key, 0) < max(1, slots * AHEAD):
                # A worker runs one cell of a chunk at a time: so many chunks are so many cells at once.
                if most is not None and len(self._in_flight) >= most:
                    return
                # A long cell is sent only to a free slot, so that it does not wait behind another one on a worker.
                if self._count_in_flight.get(key, 0) >= slots and self.attempts.estimate(queue[0])[0] > CHUNK_S:
                    break
                room = self._spending.room(key.cpus, key.gpus, self._in_flight.values(), self.attempts.estimate)
                if room <= 0 and self._in_flight:
                    break
                self._send(key, queue, slots, room)

    def _send(self, key: ChunkKey, queue: deque[int], slots: int, room: float) -> None:
        rows: list[int] = []
        total = 0.0
        max_cells = max(1, min(CHUNK_CELLS, math.ceil(len(queue) / max(1, slots))))
        while queue and len(rows) < max_cells:
            seconds, certain = self.attempts.estimate(queue[0])
            if rows and (total + seconds > min(CHUNK_S, room) or queue[0] in self._single):
                break
            rows.append(queue.popleft())
            # A wrong guess costs little: after two seconds, a worker returns the cells that it has not begun.
            total += seconds if certain else GUESS_FACTOR * seconds
            if rows[-1] in self._single:
                break
        chunk = Chunk(
            **key._asdict(),
            number=next(self._numbers),
            tasks=tuple(map(self._begin, rows)),
            search=self.search.get(key.workload, ()),
            device="cuda" if key.gpus else "cpu",
            requeue_after_s=2 * CHUNK_S,
            checkpoints=self.checkpoints,
            program=self._programs.get(key.workload),
            outputs=self._outputs.get(key.sweep, DEFAULT),
            inputs=self._inputs.get(key.workload, ""),
        )
        self._in_flight[chunk.number] = chunk
        self._count_in_flight[key] = self._count_in_flight.get(key, 0) + 1
        self.executor.submit(chunk)

    def _begin(self, row: int) -> Task:
        task = self.attempts.begin(row)
        return task._replace(needs=self._files_of(self._needed[row])) if row in self._needed else task

    # Cells that need others

    @property
    def awaits_commit(self) -> bool:
        """Whether a commit is the next step: no cell runs, and done cells that others need are not in the store yet."""
        return bool(self._edges.uncommitted) and not self._in_flight

    def committed(self, rows: Iterable[int]) -> None:
        """Note that the done cells `rows` are in the store, and queue the cells that were waiting for them.

        A cell that still waits for other cells is not queued yet.
        """
        for row in self._edges.committed(rows):
            self._queues.setdefault(self.attempts.key(row), deque()).append(row)

    def _note_blocked(self) -> None:
        if self._edges.blocked and self.progress.stopped is None:
            count = len(self._edges.blocked)
            self.progress.notes[f"{count_cells(count)} not run: cells that they need are not done"] = None

    # Chunks that ended

    def _completed(self, event: ChunkDone) -> list[CompletedAttempt]:
        result = event.result
        chunk = self._remove(result.number)
        if chunk is None:
            return []  # the chunk was given up, and its cells have new attempts by now
        self._refusals.accepted(result.worker.node_id)
        self.progress.notes.update(dict.fromkeys(result.notes))
        for row in reversed(result.requeued):
            self._requeue(row)
        for outcome in result.outcomes:
            self._settle(outcome)
        if result.outcomes:  # times of one machine's clock
            seconds = result.outcomes[-1].finished_at - result.outcomes[0].started_at
            self.progress.note_start(time.monotonic() - seconds)
        return [CompletedAttempt(outcome, result.worker) for outcome in result.outcomes]

    def _lost(self, event: ChunkLost) -> list[CompletedAttempt]:
        started = self._started.get(event.number)
        chunk = self._remove(event.number)
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
            else:  # not charged; runs alone next time if the cause is unknown
                if position is None:
                    self._single.add(task.row)
                self._requeue(task.row)
        return finished

    def _returned(self, event: ChunkReturned) -> None:
        """Requeue the cells of a chunk that never began. No attempt is charged."""
        chunk = self._remove(event.number)
        for task in reversed(chunk.tasks if chunk else ()):
            self._requeue(task.row)

    def _refused(self, event: ChunkRefused) -> None:
        """Requeue, after a delay, the cells of a chunk that a worker refused. No attempt is charged."""
        chunk = self._remove(event.number)
        if chunk is None:
            return
        note, problem = self._refusals.add(chunk.workload, event)
        if note is not None:
            self.progress.notes[note] = None
        if self.progress.stopped is None:
            self.progress.stopped = problem
        when = time.monotonic() + backoff(self._refusals.count)
        for task in chunk.tasks:
            self.attempts.take_back(task.row)
            if task.row not in self._cancelled and self.attempts.group(task.row) not in self._breaker.stopped:
                heapq.heappush(self._waiting, (when, task.row))

    def _requeue(self, row: int) -> None:
        self.attempts.take_back(row)
        if row not in self._cancelled and self.attempts.group(row) not in self._breaker.stopped:
            self._queues.setdefault(self.attempts.key(row), deque()).appendleft(row)

    def _remove(self, number: int) -> Chunk | None:
        chunk = self._in_flight.pop(number, None)
        self._started.pop(number, None)
        if chunk is not None:
            self._count_in_flight[ChunkKey.of(chunk)] -= 1
        return chunk

    def _settle(self, outcome: Outcome) -> None:
        """Count the outcome of an attempt, and queue the cell again after a failure that may be retried.

        A failed attempt is charged to the retry budget that belongs to its status, if there is one. The cell is not
        retried if one of its budgets is used up, if the status rules it out, or if the cell's group has been stopped.
        """
        row = outcome.row
        group = self.attempts.group(row)
        self._to_retry.discard(row)
        self._spending.add(*self.attempts.key(row)[2:4], outcome.seconds or 0.0)
        if outcome.status == "done":
            self.progress.done += 1
            self._count_work(row)
            self._breaker.done(*group)
            self.attempts.took(row, outcome.seconds or 0.0)
            self._edges.done(row)
            return
        policy = POLICIES[outcome.status]
        self.progress.bad_attempts += 1
        self.progress.bad.append(
            FailedAttempt(self.attempts.ids[row], outcome.status, one_line(outcome.error_type, outcome.error_message))
        )
        if policy.budget is not None:
            self.attempts.charge(row, policy.budget)
        if policy.budget == "own_errors":
            sign = signature(outcome.error_type, outcome.error_message, outcome.traceback)
            message = self._breaker.failed(group[0], group[1], row, sign)
            if message is not None:
                self.progress.notes[message] = None
                self._drop(group)
        if self.attempts.used_up(row):
            self.progress.failed += 1
            self._count_work(row)
        elif policy.retried and group not in self._breaker.stopped:
            if policy.budget == "memory" and (largest := self.executor.memory_gib()) is not None:
                self.attempts.raise_memory(row, largest)
            wait = backoff(self.attempts.charges(row)) if policy.backs_off else 0.0
            heapq.heappush(self._waiting, (time.monotonic() + wait, row))
            self._to_retry.add(row)

    def _count_work(self, row: int) -> None:
        self.progress.work_done += self.attempts.weights[row]
        self.progress.work_left -= self.attempts.weights[row]

    def _slow(self) -> list[tuple[str, float, float]]:
        now, chunks = time.monotonic(), self._in_flight
        return self.attempts.slow((chunks[n].tasks[i].row, now - at) for n, (i, at, _) in self._started.items())

    def _work_begun(self) -> float:
        """Return the work done so far in running cells: the sum of weight times progress (0.5 if unknown)."""
        running = ((self._in_flight[number].tasks[i].row, part) for number, (i, _, part) in self._started.items())
        return sum(self.attempts.weights[row] * (0.5 if part is None else part) for row, part in running)

    def _drop(self, group: tuple[str, str]) -> None:
        """Remove the cells of a stopped method from the queues. A later launch may run them.

        `group` is the workload and the method.
        """
        for queue in self._queues.values():
            others = [row for row in queue if self.attempts.group(row) != group]
            queue.clear()
            queue.extend(others)
        self._waiting = [entry for entry in self._waiting if self.attempts.group(entry[1]) != group]
        heapq.heapify(self._waiting)
        self._to_retry = {row for row in self._to_retry if self.attempts.group(row) != group}

    # Other commands

    def _obey(self) -> list[CompletedAttempt]:
        """Carry out the orders of other commands (pause, continue, cancel); return the attempts that they ended."""
        orders = self._orders()
        self.progress.paused = orders.paused
        if not orders.cancelled:
            return []
        rows = {row for row in self._left() if self.attempts.ids[row] in orders.cancelled} - self._cancelled
        self._cancelled |= rows
        for queue in self._queues.values():
            others = [row for row in queue if row not in rows]
            queue.clear()
            queue.extend(others)
        self._waiting = [entry for entry in self._waiting if entry[1] not in rows]
        heapq.heapify(self._waiting)
        self._to_retry -= rows
        self._edges.cancel(rows)
        finished = []
        for number, chunk in list(self._in_flight.items()):
            if rows.isdisjoint(task.row for task in chunk.tasks):
                continue
            started = self._started.get(number)
            running = None if started is None else chunk.tasks[started[0]]
            self.executor.kill(number)
            self._remove(number)
            for task in reversed(chunk.tasks):
                if task is running and started is not None and task.row in rows:
                    event = ChunkLost(number, "cancelled", "raysweep cancel", started[0])
                    outcome = outcome_of_lost(task, event, time.monotonic() - started[1])
                    finished.append(CompletedAttempt(outcome, None))
                else:
                    self._requeue(task.row)  # but not a cancelled one
        for row in rows:
            self._count_work(row)
        self.progress.cancelled += len(rows)
        return finished

    def _left(self) -> Iterator[int]:
        """Yield the rows of cells that wait or run."""
        yield from self._edges.blocked
        yield from itertools.chain(*self._queues.values(), (row for _, row in self._waiting))
        yield from (task.row for chunk in self._in_flight.values() for task in chunk.tasks)

    # Stopping early

    def _overdue(self) -> list[CompletedAttempt]:
        """Read heartbeats, and end each chunk whose running cell is far beyond its timeout.

        This is the third layer of a timeout (see `run.timeout`): the worker should have ended the cell itself.
        """
        now = time.monotonic()
        for beat in self.executor.beats():
            if beat.chunk in self._in_flight:  # a heartbeat may arrive after its chunk has ended
                self._started[beat.chunk] = (beat.position, now - beat.seconds, beat.progress)
                self.progress.note_start(now - beat.seconds)
                if beat.live is not None:
                    self._publish(beat.live)
        finished = []
        for number, (index, began, _) in list(self._started.items()):
            limit = self._in_flight[number].tasks[index].timeout_s
            if limit is not None and now - began > limit + hard_grace(limit) + DRIVER_GRACE_S:
                self.executor.kill(number)
                message = f"ran longer than its timeout of {limit:g} s and its worker did not react"
                finished.extend(self._lost(ChunkLost(number, "timed_out", message, index)))
        return finished

    def _check_limits(self) -> None:
        if self.progress.stopped is None:
            now, chunks = time.monotonic(), self._in_flight
            running = ((chunks[n].cpus, chunks[n].gpus, now - began) for n, (_, began, _) in self._started.items())
            self.progress.stopped = self._spending.reached(self.progress.failed, running)

    def _check_waiting(self) -> None:
        """Stop the launch if all its remaining chunks have waited `node_seconds` for nodes that do not exist.

        After a launch was stopped for any reason, chunks that wait for nodes are given up; a later launch runs them.
        A chunk's waiting time begins when no existing node can run it, even if other cells are still running.
        """
        waiting = self.executor.waiting()
        self.progress.waiting = tuple(wait.node for wait in waiting)
        stuck = self._in_flight.keys() & frozenset().union(*(wait.chunks for wait in waiting))
        limit = self.limits.node_seconds
        if self.progress.stopped is None:
            if not stuck or limit is None or self._waiting or self._in_flight.keys() - stuck:
                return
            if min(wait.seconds for wait in waiting) < limit:
                return
            self.progress.stopped = f"waited {limit / 60:g} min for {', '.join(self.progress.waiting)} (--node-wait)"
        for number in stuck:
            self.executor.kill(number)
            self._returned(ChunkReturned(number))

    def _cancel(self) -> list[CompletedAttempt]:
        """Collect the chunks that have completed, and cancel the others."""
        finished: list[CompletedAttempt] = []
        for event in self.executor.poll(0):
            if isinstance(event, ChunkDone):
                finished.extend(self._completed(event))
        for number, chunk in list(self._in_flight.items()):
            started = self._started.get(number)
            self.executor.kill(number)
            self._remove(number)
            if started is not None:
                event = ChunkLost(number, "cancelled", "the launch was interrupted", started[0])
                task = chunk.tasks[started[0]]
                finished.append(CompletedAttempt(outcome_of_lost(task, event, time.monotonic() - started[1]), None))
        self.progress.stopped = "interrupted"
        return finished
