"""What became of workers that Ray says nothing of: frozen, unreachable, about to go; and whether the head lives.

Ray resolves a task on a frozen node after minutes only, or never, and tells a cell nothing of its node being
drained. So workers give a sign of life each second, through the cluster's key-value store. Silence alone proves
nothing: native code may hold the interpreter. A silent worker's node is asked (by a task that must run there)
what the process is at; a node that does not answer is given up, and gets no more cells till it does.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysweep.orchestrator.errors import ClusterUnavailable
from raysweep.orchestrator.executors.ray.worker import key_prefix, leave_key, state_of
from raysweep.orchestrator.executors.resources import Demand
from raysweep.orchestrator.run.messages import Beat

LOOK_S = 1.0
SILENT_S = 40.0  # without a sign of life, before the worker's node is asked
ANSWER_S = 15.0  # that the node has for an answer; with the above within a minute
GONE_S = 5.0  # for Ray to say itself that a task went with its node
UNHEARD_S = 10.0  # after which a chunk that may have gone to a given-up node is taken back
HEAD_S = 10.0  # that nothing answers at the head's address, before the launch ends
_RPC_S = 5.0
_ALIVE = 0  # GcsNodeInfo.ALIVE


@dataclass
class InFlight:
    """A chunk on its way, and what was last heard of its worker."""

    number: int
    ref: Any
    submitted: float
    size: Demand
    node: str | None = None
    pid: int = 0
    heard: float = 0.0


@dataclass
class News:
    """What one look found."""

    beats: list[Beat] = field(default_factory=list)
    given_up: dict[int, str] = field(default_factory=dict)  # chunk -> why
    back: list[int] = field(default_factory=list)  # chunks that never began, and won't where they are


class HealthMonitor:
    """One launch's eye on its workers.

    Args:
        ray: the module, connected.
        launch: names the launch's keys.
        drains: whether nodes may be drained: not of an embedded Ray.
    """

    def __init__(self, ray: Any, launch: str, *, drains: bool) -> None:
        from ray.experimental import internal_kv

        store: Any = internal_kv.global_gcs_client
        self._ray, self._launch, self._drains = ray, launch, drains
        self.store = store
        self._values: dict[bytes, bytes] = {}
        self._looked = 0.0
        self._asked: dict[str, tuple[Any, int, float]] = {}  # node -> question's ref, about which process, when
        self._dead_since: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._nodes: dict[str, dict[str, float]] = {}
        self._nodes_at = 0.0
        self._shunned_at = 0.0
        self.shunned: set[str] = set()  # nodes that do not answer
        self._head = Head(store.address)

    def look(self, flights: Mapping[int, InFlight]) -> News:
        """News of these chunks; at most once a second.

        Raises:
            ClusterUnavailable: the head is gone.
        """
        seen, now = News(), time.monotonic()
        if now - self._looked < LOOK_S:
            return seen
        self._looked = now
        if not self._head.answers():
            return seen
        try:
            self._hear(flights, seen, now)
            if self._drains:
                self._tell_leaving()
        except self._ray.exceptions.RayError:
            return seen  # the head went between two questions: it will be missed at the next look
        alive = set(self.nodes())
        self.shunned &= alive
        self._miss_dead(flights, alive, seen, now)
        self._ask_silent(flights, alive, seen, now)
        for flight in flights.values():
            if flight.node is None and flight.submitted < self._shunned_at and now - flight.submitted > UNHEARD_S:
                seen.back.append(flight.number)
        return seen

    def nodes(self) -> dict[str, dict[str, float]]:
        """The resources of each node that is alive, by id; while the head does not answer, as they last were.

        Not by `ray.nodes()`: that hangs without a head, till Ray ends the process after a minute.
        """
        now = time.monotonic()
        if now - self._nodes_at > LOOK_S and self._head.answers():
            try:
                found = self.store.get_all_node_info(timeout=_RPC_S, state_filter=_ALIVE)
            except self._ray.exceptions.RayError:
                return self._nodes
            self._nodes = {node.hex(): dict(about.resources_total) for node, about in found.items()}
            self._nodes_at = now
        return self._nodes

    def answers(self) -> bool:
        """Whether the head does now; that it is gone for good, `look` says."""
        try:
            return self._head.answers()
        except ClusterUnavailable:
            return False

    def forget(self) -> None:
        """Remove the launch's keys."""
        self.store.internal_kv_del(key_prefix(self._launch), True, None, _RPC_S)

    def _hear(self, flights: Mapping[int, InFlight], seen: News, now: float) -> None:
        keys = self.store.internal_kv_keys(key_prefix(self._launch) + b"beat:", None, _RPC_S)
        for key, value in (self.store.internal_kv_multi_get(keys, None, _RPC_S) if keys else {}).items():
            if value is None or self._values.get(key) == value:
                continue
            self._values[key] = value
            said = json.loads(value)
            flight = flights.get(said["chunk"])
            if flight is not None:
                flight.node, flight.pid, flight.heard = said["node"], said["pid"], now
            seen.beats.append(Beat(said["chunk"], said["position"], said["seconds"], said["progress"]))

    def _tell_leaving(self) -> None:
        """Say to workers of nodes that are being drained that their time is short."""
        for node in self.store.get_draining_nodes(timeout=_RPC_S):
            if node not in self._leaving:
                self.store.internal_kv_put(leave_key(self._launch, node), b"1", True, None, _RPC_S)
                self._leaving.add(node)

    def _miss_dead(self, flights: Mapping[int, InFlight], alive: set[str], seen: News, now: float) -> None:
        for flight in flights.values():
            if flight.node is not None and flight.node not in alive:
                since = self._dead_since.setdefault(flight.node, now)
                if now - since > GONE_S:
                    seen.given_up[flight.number] = "its node is dead"

    def _ask_silent(self, flights: Mapping[int, InFlight], alive: set[str], seen: News, now: float) -> None:
        for node, (ref, pid, asked) in list(self._asked.items()):
            if self._ray.wait([ref], timeout=0)[0]:
                del self._asked[node]
                self.shunned.discard(node)
                self._take_answer(ref, node, pid, flights, seen, now)
            elif node not in alive:
                del self._asked[node]
            elif now - asked > ANSWER_S and node not in self.shunned:
                self.shunned.add(node)
                self._shunned_at = now
        for flight in flights.values():
            if flight.node is None or now - flight.heard < SILENT_S or flight.number in seen.given_up:
                continue
            if flight.node in self.shunned:
                seen.given_up[flight.number] = f"its node has not answered for {now - flight.heard:.0f} s"
            elif flight.node not in self._asked and flight.node in alive:
                self._asked[flight.node] = (self._question(flight.node, flight.pid), flight.pid, now)

    def _question(self, node: str, pid: int) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        ask = self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(state_of)
        return ask.remote(pid)

    def _take_answer(
        self, ref: Any, node: str, pid: int, flights: Mapping[int, InFlight], seen: News, now: float
    ) -> None:
        try:
            state = self._ray.get(ref)
        except self._ray.exceptions.RayError:
            return  # the node went meanwhile: it will be missed
        for flight in flights.values():
            if flight.node != node or flight.pid != pid or now - flight.heard < SILENT_S:
                continue
            if state in {"", "T", "t", "Z", "X"}:
                what = "is gone" if state in {"", "Z", "X"} else "is stopped"
                seen.given_up[flight.number] = f"silent for {now - flight.heard:.0f} s, and its worker process {what}"
            else:
                flight.heard = now  # at work, and holds the interpreter


class Head:
    """Whether anything answers at the address of the cluster's head."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._answered = time.monotonic()

    def answers(self) -> bool:
        """Whether it does now.

        Raises:
            ClusterUnavailable: nothing has answered for a while. Ray itself would end the process, later.
        """
        try:
            socket.create_connection(self._address, timeout=1.0).close()
            self._answered = time.monotonic()
            return True
        except OSError as error:
            silent = time.monotonic() - self._answered
            if silent > HEAD_S:
                raise ClusterUnavailable(
                    f"the cluster's head is gone ({error}); what finished before is committed, "
                    "`raysweep resume` runs the rest"
                ) from None
            return False


def killed_beside_another(message: str, pid: int) -> bool:
    """Whether Ray's word on a node out of memory names another process that used far more than this one.

    It kills several at once, and lists "PID MEM(GB) COMMAND" of the largest.
    """
    used: dict[int, float] = {}
    for line in message.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].isdecimal():
            try:
                used[int(words[0])] = float(words[1])
            except ValueError:
                continue
    others = [gib for other, gib in used.items() if other not in (pid, os.getpid())]
    return bool(pid and others) and used.get(pid, 0.0) < 0.25 * max(others)
