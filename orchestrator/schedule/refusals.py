"""Nodes that refuse chunks because their environment is broken or they have other code than this launch sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.run.messages import ChunkRefused
from raysweep.orchestrator.sweep.loading.workload import Workload

MAX_REFUSALS = 3
"""Number of chunks in a row that a node may refuse before it gets no more."""
MAX_IN_A_ROW = 1000
"""The launch stops when one node has refused this number of chunks in a row.

A node gets no more chunks long before that, but those that were already sent to it count, too.
"""
MAX_NODES = 3
"""Number of refusing nodes at which the launch stops, unless another node has run a chunk."""


class Refusals:
    """Counts refused chunks by node, and decides which nodes get no more chunks and when the launch stops.

    Args:
        executor: the executor, which is told which nodes to avoid.
        workloads: name -> workload as this process loaded it.
    """

    def __init__(self, executor: Executor, workloads: Mapping[str, Workload]) -> None:
        self._executor, self._workloads = executor, workloads
        self._in_a_row: Counter[str | None] = Counter()  # by node; None: not known
        self._avoided: set[str | None] = set()
        self._any_accepted = False
        self.count = 0

    def accepted(self, node_id: str | None) -> None:
        """Note that a node has run a chunk."""
        self._any_accepted = True
        self._in_a_row.pop(node_id, None)
        self._in_a_row.pop(None, None)

    def add(self, workload: str, event: ChunkRefused) -> tuple[str | None, str | None]:
        """Count a refused chunk, and return two texts, each of which may be None.

        The first is a note that the chunk's node is avoided from now on; the second is the reason why the launch has to
        stop.
        """
        self.count += 1
        self._in_a_row[event.node_id] += 1
        reason = self._reason(workload, event)
        if self._in_a_row[event.node_id] >= MAX_IN_A_ROW:
            return None, f"node {event.place} cannot run {workload}, and no other node takes its cells: {reason}"
        if self._in_a_row[event.node_id] < MAX_REFUSALS or event.node_id in self._avoided:
            return None, None
        self._avoided.add(event.node_id)
        others = event.node_id is not None and self._executor.avoid(event.node_id)
        if not others:
            return None, f"no node is left that can run {workload}: {reason}"
        if len(self._avoided) >= MAX_NODES and not self._any_accepted:
            return None, f"{MAX_NODES} nodes cannot run {workload}: {reason}"
        return f"node {event.place} gets no more cells: {reason}", None

    def _reason(self, name: str, event: ChunkRefused) -> str:
        workload = self._workloads.get(name)
        if event.problem or workload is None:
            return event.problem or f"it has other code of {name} than this launch sent"
        sent = workload.code.file_digests()
        files = sorted(file for file in sent.keys() | event.files.keys() if sent.get(file) != event.files.get(file))
        more = f", and {len(files) - 1} more" if len(files) > 1 else ""
        state = "differs from" if files[0] in event.files else "is missing there, unlike in"
        state = state if files[0] in sent else "is there, but not in"
        return f"{files[0]}{more} on {event.place} {state} the code that this launch sent"
