"""The executor protocol. One contract test runs over every entry of `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from raysweep.orchestrator.run.messages import Beat, Chunk, Event


class Waiting(NamedTuple):
    """Chunks that wait for a node that does not exist yet."""

    chunks: frozenset[int]
    node: str  # description of the node that they need
    seconds: float  # how long no node has fitted their demand


class Executor(Protocol):
    """Runs chunks and reports how they ended. Never retries: the driver counts attempts."""

    def slots(self, cpus: float, gpus: float, memory_gib: float | None) -> int:
        """Number of chunks of this demand that can run at once now."""

    def fits(self, cpus: float, gpus: float, memory_gib: float | None) -> str | None:
        """The reason why no node can run a cell of this demand; None if one can."""

    def waiting(self) -> list[Waiting]:
        """Submitted chunks that no existing node can run."""

    def memory_gib(self) -> float | None:
        """Memory that a cell may request on the largest machine; None if memory is not scheduled."""

    def submit(self, chunk: Chunk) -> None:
        """Take a chunk; returns at once."""

    def poll(self, timeout: float) -> list[Event]:
        """Return the events since the last call; wait up to `timeout` seconds for the first. A chunk ends only once."""

    def avoid(self, node_id: str) -> bool:
        """Send no more chunks to a node. The result is false if no other node is left."""

    def beats(self) -> Iterable[Beat]:
        """The latest heartbeat of each worker that sent one since the last call."""

    def kill(self, number: int) -> None:
        """End a chunk by force; no event follows."""

    def interrupt(self) -> None:
        """Called by the handler of Ctrl-C: end a cell that runs in this process, and start no other."""

    def close(self) -> None:
        """End running chunks and release everything. May be called twice."""
