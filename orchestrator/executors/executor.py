"""What an executor is: a place to run chunks. One contract test runs over every entry of `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from raysweep.orchestrator.run.messages import Beat, Chunk, Event


class Waiting(NamedTuple):
    """Chunks that wait for a node which is not there yet."""

    chunks: frozenset[int]
    what: str  # they wait for
    seconds: float  # since there was none


class Executor(Protocol):
    """Runs chunks and says how they ended. Never retries: attempts are counted by the driver."""

    def slots(self, cpus: float, gpus: float, memory_gib: float | None) -> int:
        """How many chunks of this size can run at once now; 0 where none can."""

    def fits(self, cpus: float, gpus: float, memory_gib: float | None) -> str | None:
        """Why no node can run a cell of this size; None where one can."""

    def waiting(self) -> list[Waiting]:
        """Submitted chunks that no node can run before another one comes."""

    def memory_gib(self) -> float | None:
        """What cells may ask for on the largest machine; None where it is not reckoned."""

    def submit(self, chunk: Chunk) -> None:
        """Take a chunk; returns at once, or (in process) when it has run."""

    def poll(self, timeout: float) -> list[Event]:
        """What ended, waiting up to `timeout` seconds for the first. Each chunk ends once."""

    def beats(self) -> Iterable[Beat]:
        """The latest sign of life of each worker heard from since the last call."""

    def kill(self, number: int) -> None:
        """End a chunk by force; no event follows."""

    def interrupt(self) -> None:
        """Ctrl-C came, and this runs in its handler: end a cell that runs in this very process, begin no other."""

    def close(self) -> None:
        """Give everything back; running chunks are ended. May be called twice."""
