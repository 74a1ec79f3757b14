"""The Ray executor, which runs chunks as Ray tasks: on a Ray of its own (embedded) by default, or on a running cluster.

Ray never retries a task here, since its own retries would hide attempts.
"""

from __future__ import annotations

import functools
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from raysweep.orchestrator.errors import ClusterUnavailable, InputError
from raysweep.orchestrator.executors.executor import Waiting
from raysweep.orchestrator.executors.lost import NO_MEMORY, Autopsy, last_line
from raysweep.orchestrator.executors.memory import killed_beside_another
from raysweep.orchestrator.executors.ray.autoscaler import FIRST_REPORT_S, Scaling
from raysweep.orchestrator.executors.ray.connection import Connection
from raysweep.orchestrator.executors.ray.liveness import LOOK_S, HealthMonitor, InFlight
from raysweep.orchestrator.executors.ray.worker import work
from raysweep.orchestrator.executors.resources import (
    Autoscaler,
    Demand,
    largest,
    listed,
    missing_customs,
    needs,
    nodes_to_avoid,
    selector,
    slots_of,
)
from raysweep.orchestrator.run.messages import Beat, Chunk, ChunkDone, ChunkLost, ChunkRefused, ChunkReturned, Event
from raysweep.orchestrator.run.threads import VARIABLES
from raysweep.orchestrator.sweep.loading.workload import Workload

_RESOURCES_FOR_S = 5.0
START_S = 120.0
"""Seconds within which an embedded Ray's first worker must send a heartbeat."""
CALL_S = 60.0
"""Seconds within which a call of Ray must return. If Ray is frozen, a call never returns."""
SCALING_S = 120.0
"""Seconds within which a call that also asks the autoscaler must return."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _bounded(what: str, seconds: float) -> Callable[[_Method], _Method]:
    """Decorate a method of the executor: it runs on Ray's thread, and fails if it takes longer than `seconds`.

    `what` describes the call in messages, such as "asking Ray for its nodes".
    """

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        def call(self: RayExecutor, *args: Any, **options: Any) -> Any:
            return self._connection.call(what, seconds, functools.partial(method, self, *args, **options))

        return cast(_Method, call)

    return decorate


class RayExecutor:
    """Runs chunks as tasks on Ray.

    Args:
        address: None for an embedded Ray on this machine; "auto" or HOST:PORT for a running cluster.
        modules: folder of users' modules -> path of a workload's file in it -> content. Workers import the Python
            files of these folders (see `stage_code`).
        gpus: GPUs of the embedded Ray; None: Ray detects them.
        by_value: name -> workload that workers cannot import, since it is defined in this process's `__main__`.

    Raises:
        ClusterUnavailable: Ray did not start, or nothing answers at the address. Each method raises it if Ray does
            not answer in time.
        InputError: a workload cannot be sent by value.
    """

    def __init__(
        self,
        address: str | None = None,
        modules: Mapping[str, Mapping[Path, bytes | None]] = MappingProxyType({}),
        gpus: int | None = None,
        by_value: Mapping[str, Workload] = MappingProxyType({}),
    ) -> None:
        self._connection = Connection(address, modules, gpus)
        self._ray, self._launch, self._folder = self._connection.ray, self._connection.launch, self._connection.folder
        self._in_flight: dict[int, InFlight] = {}
        self._slots: dict[Demand, tuple[float, int]] = {}  # when computed, how many
        self._waiting_since: dict[Demand, float] = {}
        self._waits: tuple[float, list[Waiting]] = (-LOOK_S, [])
        self._beats: list[Beat] = []
        self._headless = False
        self._refusing: set[str] = set()  # nodes that get no more chunks
        self._remote_by_options: dict[Any, Any] = {}
        self._embedded = address is None
        self._any_worker = False  # whether any worker has sent a heartbeat
        self._first_submit: float | None = None
        self._by_value = by_value
        self._autopsy = Autopsy(self._launch, here=self._embedded)
        for workload in by_value.values():
            self._check_sendable(workload)
        self._remote = self._ray.remote(max_retries=0)(work)
        self._health = HealthMonitor(self._ray, self._launch, drains=not self._embedded)
        self._scaling = None if self._embedded else Scaling(self._ray, self._health.store, self._health.answers)

    def _check_sendable(self, workload: Workload) -> None:
        """Check that Ray can pickle the workload, to send it by value. Otherwise, disconnect and raise InputError."""
        try:
            self._ray.cloudpickle.dumps(workload)
        except Exception as error:
            self._connection.close(lambda: None)
            raise InputError(f"workload {workload.name!r} cannot be sent to workers: {last_line(error)}") from None

    @_bounded("asking Ray for its nodes", SCALING_S)
    def slots(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> int:
        """Return how many chunks of this demand to submit at once. Nodes that are still to be started count as well."""
        demand = Demand(cpus, gpus, memory_gib, custom)
        at, slots = self._slots.get(demand, (-_RESOURCES_FOR_S, 0))
        if time.monotonic() - at > _RESOURCES_FOR_S:
            slots = sum(slots_of(offers, demand) for offers in self._nodes_for(demand).values())
            scaling = self.autoscaler()
            slots += scaling.wanted(demand, slots) if scaling else 0
            self._slots[demand] = (time.monotonic(), slots)
        return slots

    @_bounded("asking Ray for its nodes", SCALING_S)
    def fits(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> str | None:
        """Return the reason why no present or future node can run a cell of this demand; None if one can."""
        demand = Demand(cpus, gpus, memory_gib, custom)
        nodes = self.nodes()
        if any(slots_of(node, demand) for node in nodes):
            return None
        scaling = self.autoscaler(wait=True)
        if scaling and scaling.may_run(demand):
            return None
        missing = missing_customs(nodes, demand)
        reason = f"no node offers {missing}" if missing else f"the largest node offers {largest(nodes)}"
        return f"{reason}; no node type has more: {listed(scaling) or 'it starts none'}" if scaling else reason

    @_bounded("asking Ray for its nodes", CALL_S)
    def nodes(self) -> list[dict[str, float]]:
        """Return the resources of each living node."""
        return list(self._health.nodes().values())

    @_bounded("asking the autoscaler for its nodes", SCALING_S)
    def autoscaler(self, wait: bool = False) -> Autoscaler | None:
        """Return the cluster's autoscaler, or None. With `wait`, wait for its first report if necessary."""
        if self._scaling is None:
            return None
        scaling = self._scaling.find()
        if scaling is None and wait:
            time.sleep(FIRST_REPORT_S)
            scaling = self._scaling.find()
        return scaling

    def _avoided(self, demand: Demand) -> set[str]:
        """Return the ids of nodes that must not run a cell of this demand: nodes that refuse chunks or do not answer.

        If the cell needs no GPU, GPU nodes are avoided as well. See `nodes_to_avoid` for the exceptions.
        """
        scaling = self.autoscaler()
        others = scaling is not None and scaling.without_gpus(demand)
        unusable = self._health.unresponsive | self._refusing
        return nodes_to_avoid(self._health.nodes(), unusable, demand, others)

    def _nodes_for(self, demand: Demand) -> dict[str, dict[str, float]]:
        avoided = self._avoided(demand)
        return {node: offers for node, offers in self._health.nodes().items() if node not in avoided}

    @_bounded("handing cells to Ray", SCALING_S)
    def submit(self, chunk: Chunk) -> None:
        """Submit the chunk as a Ray task."""
        options: dict[str, Any] = {"num_cpus": chunk.cpus, "num_gpus": chunk.gpus}
        if chunk.memory_gib is not None:
            options["memory"] = int(chunk.memory_gib * 2**30)
        if chunk.custom is not None:
            options["resources"] = json.loads(chunk.custom)
        if chunk.cpus >= 2:
            options["runtime_env"] = {"env_vars": dict.fromkeys(VARIABLES, str(int(chunk.cpus)))}
            if self._embedded:
                # Ray pastes this path into a shell command unquoted, and reports no error if a space breaks it.
                options["runtime_env"]["py_executable"] = shlex.quote(sys.executable)
        demand = Demand(chunk.cpus, chunk.gpus, chunk.memory_gib, chunk.custom)
        scaling = self.autoscaler()
        labels = selector(self._avoided(demand), scaling.keep_off_gpus(demand) if scaling else {})
        if labels:
            options["label_selector"] = labels
        key = tuple(sorted((k, str(v)) for k, v in options.items()))
        if key not in self._remote_by_options:  # one remote function per set of options
            self._remote_by_options[key] = self._remote.options(**options)
        self._first_submit = self._first_submit or time.monotonic()
        ref = self._remote_by_options[key].remote(chunk, self._launch, self._folder, self._by_value.get(chunk.workload))
        self._in_flight[chunk.number] = InFlight(chunk.number, ref, time.monotonic(), demand)

    @_bounded("asking Ray for finished cells", CALL_S)
    def poll(self, timeout: float) -> list[Event]:
        """Return the events of chunks that completed, were lost or never began."""
        numbers = {chunk.ref: chunk.number for chunk in self._in_flight.values()}
        refs = list(numbers)
        if not refs:
            return []
        try:
            events = self._check_health()
        except ClusterUnavailable:
            self._headless = True
            raise
        if events:
            return events
        ready, rest = self._ray.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)
        if ready and rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        self._any_worker = self._any_worker or bool(ready)
        self._require_workers()
        return [self._event(self._in_flight.pop(numbers[ref])) for ref in ready]

    def _check_health(self) -> list[Event]:
        news = self._health.check(self._in_flight)
        self._beats += news.beats
        self._any_worker = self._any_worker or bool(news.beats)
        events: list[Event] = [ChunkLost(number, "lost", reason) for number, reason in news.lost.items()]
        events += [ChunkReturned(number) for number in news.returned]
        for event in events:
            self.kill(event.number)  # type: ignore[union-attr]
        return events

    def _require_workers(self) -> None:
        """Raise ClusterUnavailable if an embedded Ray has started no worker `START_S` seconds after the first chunk."""
        if self._any_worker or not self._embedded or self._first_submit is None:
            return
        if time.monotonic() - self._first_submit > START_S:
            self._connection.keeps_logs = True
            raise ClusterUnavailable(
                f"Ray runs, but none of its workers has started within {START_S:g} s; see its logs in "
                f"{self._ray._private.worker.global_worker.node.get_logs_dir_path()} (python-core-worker*, raylet.out)"
            )

    def _event(self, chunk: InFlight) -> Event:
        errors, number = self._ray.exceptions, chunk.number
        try:
            reply = self._ray.get(chunk.ref)
            return reply if isinstance(reply, ChunkRefused) else ChunkDone(reply)
        except errors.OutOfMemoryError as error:
            if killed_beside_another(str(error), chunk.pid):
                return ChunkLost(number, "lost", "ended by Ray because another process used up the machine's memory")
            return ChunkLost(number, "out_of_memory", f"{NO_MEMORY} ({last_line(error)})")
        except errors.WorkerCrashedError:
            return self._autopsy.crashed(number)
        except errors.RuntimeEnvSetupError as error:
            return ChunkRefused(number, chunk.node, "of the cluster", last_line(error))
        except errors.RayTaskError as error:  # our own code failed on the worker
            if f"in {work.__name__}\n" not in str(error):  # it could not be imported, or the chunk not be read
                # Ray's subclass for errors of this kind lacks the attribute `ip`.
                return ChunkRefused(
                    number, chunk.node, getattr(error, "ip", None) or "of the cluster", last_line(error)
                )
            return ChunkLost(number, "failed", last_line(error), traceback=str(error)[-16_384:])
        except errors.RayError as error:
            return ChunkLost(number, "lost", f"{type(error).__name__}: {last_line(error)}")

    @_bounded("asking Ray for its nodes", CALL_S)
    def avoid(self, node_id: str) -> bool:
        """Send no more chunks to a node. Returns False if no other node runs."""
        self._refusing.add(node_id)
        self._slots.clear()
        return bool(self._health.nodes().keys() - self._refusing)

    def beats(self) -> Iterable[Beat]:
        """Return the latest heartbeat of each worker that sent one since the last call."""
        beats, self._beats = self._beats, []
        return beats

    def in_this_process(self) -> None:
        """Return None: cells run in Ray's workers, not in this process."""

    @_bounded("asking the autoscaler for news", SCALING_S)
    def waiting(self) -> list[Waiting]:
        """List the chunks that no living node can run, with one entry per demand.

        The list is empty if the cluster has no autoscaler, since no node would be started.
        """
        if self._scaling is None or not self._in_flight:
            return []
        now = time.monotonic()
        if now - self._waits[0] < LOOK_S:
            return self._waits[1]
        demands = {chunk.demand for chunk in self._in_flight.values()}
        unmet = {d for d in demands if not any(slots_of(offers, d) for offers in self._nodes_for(d).values())}
        self._waiting_since = {demand: self._waiting_since.get(demand, now) for demand in unmet}
        news = self._scaling.news() if unmet else ""
        waits = [
            Waiting(
                frozenset(number for number, chunk in self._in_flight.items() if chunk.demand == demand),
                f"a node with {needs(demand)}" + (f" ({news})" if news else ""),
                now - since,
            )
            for demand, since in self._waiting_since.items()
        ]
        self._waits = (now, waits)
        return waits

    def memory_gib(self) -> float | None:
        """Return the memory in GiB that Ray schedules on the largest node."""
        most = max((node.get("memory", 0.0) for node in self.nodes()), default=0.0)
        return most / 2**30 or None

    @_bounded("ending a cell's worker", CALL_S)
    def kill(self, number: int) -> None:
        """End a chunk's worker by force, and forget the chunk."""
        chunk = self._in_flight.pop(number, None)
        if chunk is not None:
            self._ray.cancel(chunk.ref, force=True)

    def interrupt(self) -> None:
        """Do nothing: cells run in other processes, and the driver cancels them."""

    def close(self) -> None:
        """End running chunks and disconnect, which ends an embedded Ray. A Ray that does not answer is killed."""
        self._connection.close(self._take_leave)

    def _take_leave(self) -> None:
        if not self._headless and self._health.answers():  # without a head these calls would hang
            for number in list(self._in_flight):
                self.kill(number)
            self._health.forget()
