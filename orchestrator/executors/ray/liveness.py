"""Detection of dead or frozen workers, nodes and heads that Ray reports late or never.

If a node freezes, Ray reports the end of its tasks after minutes or never. Ray also does not tell a cell that its
node is being drained. So each worker writes a heartbeat every second to the cluster's key-value store.

Silence alone proves nothing, since native code may hold the interpreter. After `SILENT_S` seconds without a
heartbeat, the worker is probed: a Ray task that is pinned to the worker's node reads the state of the worker's
process. If the node does not run this task in time, the node's chunks count as lost, and the node gets no more cells
until it answers.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysweep.orchestrator.errors import ClusterUnavailable
from raysweep.orchestrator.executors.ray.connection import SAFE
from raysweep.orchestrator.executors.ray.worker import drain_key, key_prefix, live_key
from raysweep.orchestrator.executors.resources import Demand
from raysweep.orchestrator.executors.worker import state_of
from raysweep.orchestrator.run.messages import Beat, CellState

LOOK_S = 1.0  # between two checks
SILENT_S = 40.0  # without a heartbeat, before the worker's node is probed
ANSWER_S = 15.0  # for the node to answer; with SILENT_S less than a minute
GONE_S = 5.0  # for Ray itself to report that a task died with its node
UNHEARD_S = 10.0  # after which a chunk that may be on an unresponsive node is taken back
HEAD_S = 10.0  # without a connection to the head, before the launch ends
DEAF_S = 30.0  # of requests that a connected head does not answer, before the launch ends: it is frozen
_RPC_S = 5.0
_ALIVE = 0  # GcsNodeInfo.ALIVE


@dataclass
class InFlight:
    """A submitted chunk, and the last heartbeat of its worker."""

    number: int
    ref: Any
    submitted: float
    demand: Demand
    node: str | None = None
    pid: int = 0
    last_beat: float = 0.0  # when it arrived


@dataclass
class News:
    """The result of one check of the workers."""

    beats: list[Beat] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)  # chunk -> reason
    returned: list[int] = field(default_factory=list)  # chunks that have not begun, and may be on an unresponsive node


class HealthMonitor:
    """Checks the workers of one launch for signs of life.

    Args:
        ray: the Ray module, connected.
        launch: id of the launch, which is part of its keys in the cluster's key-value store.
        drains: whether nodes may be drained; False for an embedded Ray.
    """

    def __init__(self, ray: Any, launch: str, *, drains: bool) -> None:
        from ray.experimental import internal_kv

        store: Any = internal_kv.global_gcs_client
        self._ray, self._launch, self._drains = ray, launch, drains
        self.store = store
        self._values: dict[bytes, bytes] = {}
        self._states: dict[bytes, tuple[int, int]] = {}  # key of a heartbeat -> chunk, number of its last state
        self._checked_at = 0.0
        self._probes: dict[str, tuple[Any, int, float]] = {}  # node -> ref, process, when submitted
        self._dead_since: dict[str, float] = {}
        self._draining: set[str] = set()
        self._nodes: dict[str, dict[str, float]] = {}
        self._nodes_at = 0.0
        self._unresponsive_at = 0.0
        self.unresponsive: set[str] = set()  # nodes that did not answer a probe
        self._head = Head(store.address)
        self._deaf_since: float | None = None
        self._had_nodes = False

    def check(self, in_flight: Mapping[int, InFlight]) -> News:
        """Return what has changed about the submitted chunks; nothing if the last check was less than a second ago.

        Raises:
            ClusterUnavailable: the head is dead or frozen, or the only node of an embedded Ray is dead.
        """
        news, now = News(), time.monotonic()
        if now - self._checked_at < LOOK_S:
            return news
        self._checked_at = now
        if not self._head.answers():
            return news
        try:
            self._read_beats(in_flight, news, now)
            if self._drains:
                self._announce_draining()
        except self._ray.exceptions.RayError:
            self._require_answers(time.monotonic())
            return news  # the head has just died: the next check reports it
        self._deaf_since = None
        alive = set(self.nodes())
        self._had_nodes = self._had_nodes or bool(alive)
        if self._had_nodes and not alive and not self._drains:
            raise ClusterUnavailable(f"Ray's node on this machine is dead or frozen; {SAFE}")
        self.unresponsive &= alive
        self._miss_dead(in_flight, alive, news, now)
        self._probe_silent(in_flight, alive, news, now)
        for chunk in in_flight.values():
            if chunk.node is None and chunk.submitted < self._unresponsive_at and now - chunk.submitted > UNHEARD_S:
                news.returned.append(chunk.number)
        return news

    def _require_answers(self, now: float) -> None:
        if self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since > DEAF_S:
            raise ClusterUnavailable(f"Ray's head has not answered for {DEAF_S:g} s: it is frozen; {SAFE}")

    def nodes(self) -> dict[str, dict[str, float]]:
        """Return the resources of each living node by its id; the last known resources if the head does not answer.

        Without a head, `ray.nodes()` would hang until Ray ends the process after a minute.
        """
        now = time.monotonic()
        if now - self._nodes_at > LOOK_S and self._head.answers():
            try:
                nodes = self.store.get_all_node_info(timeout=_RPC_S, state_filter=_ALIVE)
            except self._ray.exceptions.RayError:
                return self._nodes
            self._nodes = {node.hex(): dict(info.resources_total) for node, info in nodes.items()}
            self._nodes_at = now
        return self._nodes

    def answers(self) -> bool:
        """Tell whether the head answers now. Unlike `check`, does not raise if the head is dead."""
        try:
            return self._head.answers()
        except ClusterUnavailable:
            return False

    def forget(self) -> None:
        """Remove the launch's keys from the key-value store."""
        self.store.internal_kv_del(key_prefix(self._launch), True, None, _RPC_S)

    def _read_beats(self, in_flight: Mapping[int, InFlight], news: News, now: float) -> None:
        keys = self.store.internal_kv_keys(key_prefix(self._launch) + b"beat:", None, _RPC_S)
        for key, value in (self.store.internal_kv_multi_get(keys, None, _RPC_S) if keys else {}).items():
            if value is None or self._values.get(key) == value:
                continue
            self._values[key] = value
            beat = json.loads(value)
            chunk = in_flight.get(beat["chunk"])
            if chunk is not None:
                chunk.node, chunk.pid, chunk.last_beat = beat["node"], beat["pid"], now
            state = self._state(key, beat["chunk"], beat["live"])
            news.beats.append(Beat(beat["chunk"], beat["position"], beat["seconds"], beat["progress"], state))

    def _state(self, beat: bytes, chunk: int, number: int) -> CellState | None:
        """Return the state of a running cell that a worker has sent since the last call; None if there is none.

        Args:
            beat: the key of the worker's heartbeat.
            chunk: the worker's chunk.
            number: how many states the worker has sent for this chunk so far.
        """
        if not number or self._states.get(beat) == (chunk, number):
            return None
        self._states[beat] = (chunk, number)
        value = self.store.internal_kv_get(live_key(beat), None, _RPC_S)
        if value is None:
            return None
        cell_id, attempt, state = value.split(b" ", 2)
        return CellState(cell_id.decode(), int(attempt), state)

    def _announce_draining(self) -> None:
        """Write one key per draining node to the key-value store. The node's workers look for it."""
        for node in self.store.get_draining_nodes(timeout=_RPC_S):
            if node not in self._draining:
                self.store.internal_kv_put(drain_key(self._launch, node), b"1", True, None, _RPC_S)
                self._draining.add(node)

    def _miss_dead(self, in_flight: Mapping[int, InFlight], alive: set[str], news: News, now: float) -> None:
        for chunk in in_flight.values():
            if chunk.node is not None and chunk.node not in alive:
                since = self._dead_since.setdefault(chunk.node, now)
                if now - since > GONE_S:
                    news.lost[chunk.number] = "its node is dead"

    def _probe_silent(self, in_flight: Mapping[int, InFlight], alive: set[str], news: News, now: float) -> None:
        for node, (ref, pid, since) in list(self._probes.items()):
            if self._ray.wait([ref], timeout=0)[0]:
                del self._probes[node]
                self.unresponsive.discard(node)
                self._take_answer(ref, node, pid, in_flight, news, now)
            elif node not in alive:
                del self._probes[node]
            elif now - since > ANSWER_S and node not in self.unresponsive:
                self.unresponsive.add(node)
                self._unresponsive_at = now
        for chunk in in_flight.values():
            if chunk.node is None or now - chunk.last_beat < SILENT_S or chunk.number in news.lost:
                continue
            if chunk.node in self.unresponsive:
                news.lost[chunk.number] = f"its node has not answered for {now - chunk.last_beat:.0f} s"
            elif chunk.node not in self._probes and chunk.node in alive:
                self._probes[chunk.node] = (self._probe(chunk.node, chunk.pid), chunk.pid, now)

    def _probe(self, node: str, pid: int) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        on_node = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        task = self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_node)(state_of)
        return task.remote(pid)

    def _take_answer(
        self, ref: Any, node: str, pid: int, in_flight: Mapping[int, InFlight], news: News, now: float
    ) -> None:
        try:
            state = self._ray.get(ref)
        except self._ray.exceptions.RayError:
            return  # the node has just died: `_miss_dead` reports it
        for chunk in in_flight.values():
            if chunk.node != node or chunk.pid != pid or now - chunk.last_beat < SILENT_S:
                continue
            if state in {"", "T", "t", "Z", "X"}:
                what = "is dead" if state in {"", "Z", "X"} else "is stopped"
                news.lost[chunk.number] = f"silent for {now - chunk.last_beat:.0f} s, and its worker process {what}"
            else:
                chunk.last_beat = now  # the process runs, and native code holds the interpreter


class Head:
    """Checks whether the cluster's head accepts connections at its address."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._answered = time.monotonic()

    def answers(self) -> bool:
        """Tell whether the head answers now.

        Raises:
            ClusterUnavailable: the head has not answered for `HEAD_S` seconds. Ray itself would end this process a
                little later.
        """
        try:
            socket.create_connection(self._address, timeout=1.0).close()
            self._answered = time.monotonic()
            return True
        except OSError as error:
            silent = time.monotonic() - self._answered
            if silent > HEAD_S:
                raise ClusterUnavailable(f"the cluster's head is gone ({error}); {SAFE}") from None
            return False
