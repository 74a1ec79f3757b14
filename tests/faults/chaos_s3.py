"""`python -m tests.faults.chaos --store s3`: faults of an S3 server that holds the store.

Launches and workers reach the server through a gateway (`tests.faults.gateway`) that is killed and frozen, loses
requests and answers, forwards writes long after it has closed their connection, answers 503 and 403, and cuts answers
short. Each launch seems to be on a machine of its own: one that is frozen for longer than its heartbeat may be silent
counts as dead, and wakes up later. The checks here read from the server itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from raysweep.orchestrator.store.storage.storage import open_storage
from tests.faults.chaos import Chaos, lines
from tests.faults.cluster import signal_to
from tests.faults.gateway import Gateway
from tests.object_store import BUCKET, Server, variables

ENDS_WITHIN_S = 75.0  # after it woke: 15 s, and before them the minute for which it repeats a request to a dead service
WRITES = ("PUT", "POST", "DELETE")


class S3Chaos(Chaos):
    """`Chaos` with the store on an S3 server."""

    passing = (*Chaos.passing, "store s3://")
    """A service that has never answered the launch, or refuses access, ends it with exit code 2."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.server = Server()
        self.gateway = Gateway(self.server.port, str(folder / "requests.log"))
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(variables(self.gateway.endpoint), CHAOS_MACHINES="1")
        super().__init__(folder, seed)
        os.environ.update(variables(self.server.endpoint))
        self.at = f"s3://{BUCKET}/chaos"
        self.slept: list[tuple[float, subprocess.Popen[bytes]]] = []  # launches that count as dead; when they wake
        for gone in ("writes failed", "torn temporary file left"):
            del self.kinds[gone]
        more: dict[str, tuple[int, Callable[[], bool]]] = {
            "launch taken for dead": (6, self.outlive),
            "store killed": (8, self.kill_store),
            "store frozen": (6, self.freeze_store),
            "requests lost": (6, self.some("reset", *WRITES, "GET", "HEAD", most=4)),
            "answers lost": (16, self.some("drop", *WRITES, most=4)),
            "writes late": (12, self.be_late),
            "answers stalled": (4, self.some("stall", "PUT", most=2)),
            "answers cut": (6, self.some("cut", "GET", most=3)),
            "store answers 503": (6, self.for_a_while(503, *WRITES, "GET", "HEAD")),
            "writes denied": (2, self.for_a_while(403, "PUT")),
        }
        self.kinds |= more

    def some(self, what: str, *methods: str, most: int) -> Callable[[], bool]:
        """A fault of one or more of the next requests."""

        def do() -> bool:
            self.gateway.inject(what, *methods, times=self.chance.randrange(1, most + 1), seconds=10)
            return True

        return do

    def for_a_while(self, status: int, *methods: str) -> Callable[[], bool]:
        def do() -> bool:
            self.gateway.inject(status, *methods, seconds=self.chance.uniform(0.3, 4))
            return True

        return do

    def be_late(self) -> bool:
        """Forward writes only a while after their connection was closed."""
        self.gateway.inject("late", *WRITES, times=self.chance.randrange(1, 4), seconds=10)
        self.due.append((time.monotonic() + self.chance.uniform(0.5, 25), lambda: self.gateway.inject("release")))
        return True

    def kill_store(self) -> bool:
        """Kill the gateway; it comes back, mostly before a launch gives up."""
        if self.gateway.process.poll() is not None:
            return False
        self.gateway.kill()
        self.due.append((time.monotonic() + self.chance.choice([0.1, 1, 2, 3, 12]), self.gateway.start))
        return True

    def freeze_store(self) -> bool:
        if self.gateway.process.poll() is not None:
            return False
        self.gateway.freeze()
        self.due.append((time.monotonic() + self.chance.uniform(0.5, 5), self.gateway.thaw))
        return True

    def outlive(self) -> bool:
        """Freeze the launch for longer than its heartbeat may be silent; another begins at once and takes over."""
        if not self._drivers() or self.slept:
            return False
        assert self.driver is not None
        signal_to(self.driver.pid, signal.SIGSTOP)
        wakes = time.monotonic() + self.chance.uniform(7, 20)
        self._thaw_after([self.driver.pid], wakes - time.monotonic())
        self.slept.append((wakes, self.driver))
        self.driver = None
        return True

    def tend(self) -> None:
        """As `Chaos.tend`; also check that launches which count as dead end by themselves."""
        for wakes, driver in list(self.slept):
            if driver.poll() is not None:
                self.count_end(driver.returncode, "taken for dead, then ")
                self.slept.remove((wakes, driver))
            elif time.monotonic() > wakes + ENDS_WITHIN_S:
                self.wrong.append("a launch that was taken for dead goes on")
                driver.kill()
        super().tend()

    def tear_checkpoint(self) -> bool:
        storage = open_storage(self.at)
        for cell in self.chance.sample(cells := storage.names("checkpoints"), min(1, len(cells))):
            for name in self.chance.sample(names := storage.names(f"checkpoints/{cell}"), min(1, len(names))):
                storage.replace(f"checkpoints/{cell}/{name}", b"")
                return True
        return False

    def finish(self, seconds: float) -> bool:
        if self.gateway.process.poll() is not None:
            self.gateway.start()
        for _, driver in self.slept:
            driver.kill()
            driver.wait()
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
        self.gateway.behave()
        return super().finish(seconds)

    def run(self, faults: int, seconds: float) -> dict[str, object]:
        """As `Chaos.run`, with the faulty requests."""
        result = super().run(faults, seconds)
        return {**result, "requests": dict(Counter(lines(self.folder / "requests.log")))}

    def close(self) -> None:
        super().close()
        for _, driver in self.slept:
            driver.kill()
            driver.wait()
        self.gateway.close()
        self.server.close()
