"""The protocol of executors. One contract test runs over every entry of `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from raysweep.orchestrator.run.messages import Beat, Chunk, Event


class Waiting(NamedTuple):
    """Submitted chunks that need a node which does not exist yet."""

    chunks: frozenset[int]
    node: str  # description of the node that they need
    seconds: float  # how long no node has fitted their demand


class Executor(Protocol):
    """Runs chunks and reports how they ended. It never retries a cell: the driver counts attempts."""

    def slots(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> int:
        """Return how many chunks of this demand may be submitted at the same time."""

    def fits(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> str | None:
        """Return the reason why no node can run a cell of this demand; None if one can."""

    def waiting(self) -> list[Waiting]:
        """List the submitted chunks that no existing node can run."""

    def memory_gib(self) -> float | None:
        """Return the memory in GiB that a cell may request on the largest machine; None if memory is not scheduled."""

    def submit(self, chunk: Chunk) -> None:
        """Accept a chunk and return at once; the chunk runs later."""

    def poll(self, timeout: float) -> list[Event]:
        """Return the events since the last call. Waits up to `timeout` seconds for the first one."""

    def avoid(self, node_id: str) -> bool:
        """Send no more chunks to a node. Return False if no other node is left."""

    def beats(self) -> Iterable[Beat]:
        """Return the latest heartbeat of each worker that sent one since the last call."""

    def in_this_process(self) -> Beat | None:
        """Return the state of the cell that runs in this process; None if no cell runs here. Any thread may call it."""

    def kill(self, number: int) -> None:
        """End a chunk by force. No event about this chunk follows."""

    def interrupt(self) -> None:
        """End a cell that runs in this process, and start no other. Called by the handler of Ctrl-C."""

    def close(self) -> None:
        """End running chunks and release everything. May be called twice."""
