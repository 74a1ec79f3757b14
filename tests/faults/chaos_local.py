"""`python -m tests.faults.chaos --local`: launches that start Ray themselves, and faults of it and of its user.

Ray's head and raylet are killed and frozen, also while Ray starts; launches get SIGTERM, SIGHUP and Ctrl-C, once or
several times; the store is taken over from a frozen launch, which then wakes; temporary files are removed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.storage.storage import open_storage
from tests.command_line import PATHS
from tests.conftest import RAYSWEEP
from tests.faults.chaos import Chaos
from tests.faults.cluster import children, command, descendants, signal_to
from tests.orchestrator.store.owners import die

ENDS_WITHIN_S = {"fenced": 30.0, "interrupted": 60.0, "frozen": 180.0}
"""Why a launch has to end -> within how many seconds it does, however loaded this machine is."""


class LocalChaos(Chaos):
    """`Chaos` without a cluster."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.rows_before = 0
        self.must_end: list[tuple[str, float, subprocess.Popen[bytes]]] = []  # why, by when, the launch
        for gone in ("node killed", "node frozen"):
            del self.kinds[gone]
        self.kinds |= {
            "Ray killed": (5, lambda: not self.spared() and self._signal(self.ray(), signal.SIGKILL)),
            "Ray frozen for a while": (6, lambda: not self.spared() and self._freeze(self.ray(), 1, 12)),
            "Ray frozen for good": (2, self.freeze_ray),
            "launch signalled": (5, self.interrupt),
            "launch taken over": (4, self.take_over),
            "temporary files removed": (6, self.clean),
        }

    def begin(self) -> tuple[dict[str, str], list[str]]:
        temporary = self.folder / "t"  # leftovers of other launches are none of its business
        temporary.mkdir()
        return {**os.environ, "PYTHONPATH": PATHS, "TMPDIR": str(temporary)}, ["--address", "local"]

    def end(self) -> None:
        for _, _, driver in self.must_end:
            driver.kill()
            driver.wait()
        for entry in Path("/proc").glob("[0-9]*"):
            if str(self.folder) in command(int(entry.name)):
                signal_to(int(entry.name), signal.SIGKILL)

    def replace_nodes(self) -> None:
        """Nothing to do: there are no nodes."""

    def running(self) -> list[int]:
        return [self.driver.pid] if self.driver is not None and self.driver.poll() is None else []

    def drive(self) -> None:
        launches = self.launches
        super().drive()
        if self.launches > launches:
            self.rows_before = len(self.seen)

    def spared(self) -> bool:
        """Whether a launch that has recorded nothing so far is left alone, as most are: Ray takes long to start."""
        return len(self.seen) == self.rows_before and self.chance.random() < 0.9

    def _drivers(self) -> list[int]:
        return [] if self.spared() else super()._drivers()

    def workers(self) -> list[int]:
        return [p for pid in self.running() for p in descendants(pid) if command(p).startswith("ray::work")]

    def ray(self) -> list[int]:
        """Head and raylet of the launch, even while it starts."""
        return [
            p for pid in self.running() for p in children(pid)
            if command(p).split(" ")[0].endswith(("gcs_server", "raylet"))
        ]  # fmt: skip

    def _must_end(self, why: str) -> None:
        assert self.driver is not None
        self.must_end.append((why, time.monotonic() + ENDS_WITHIN_S[why], self.driver))
        self.driver = None

    def freeze_ray(self) -> bool:
        pids = self.ray()
        if not pids or not self._drivers():
            return False
        signal_to(self.chance.choice(pids), signal.SIGSTOP)
        self._must_end("frozen")
        return True

    def interrupt(self) -> bool:
        for pid in [] if self.spared() else self.running():
            for _ in range(self.chance.choice([1, 1, 2, 3])):
                signal_to(pid, self.chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
                time.sleep(self.chance.choice([0.0, 0.1, 1.0]))
            self._must_end("interrupted")
            return True
        return False

    def take_over(self) -> bool:
        """Freeze the launch, let another own the store meanwhile, and wake it."""
        notes = sorted((self.folder / "store/_epochs").glob("*.json"))
        if not self._drivers() or not notes or json.loads(notes[-1].read_bytes()).get("pid") != self.driver.pid:
            return False
        signal_to(self.driver.pid, signal.SIGSTOP)
        (self.folder / "store/_lock").unlink()
        die(open_storage(self.at), int(notes[-1].stem))
        second = subprocess.run(
            [*RAYSWEEP, "launch", "chaos.toml", "--store", self.at, "--inline", "--where", "seed < 5"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if second.returncode not in (0, 1):
            self.wrong.append(f"taking over: exit {second.returncode}: {second.stderr[-300:]}")
        signal_to(self.driver.pid, signal.SIGCONT)
        self._must_end("fenced")
        return True

    def clean(self) -> bool:
        folder = self.folder / "store/_tmp"
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            return True
        return False

    def tend(self) -> None:
        """As `Chaos.tend`; also check that launches which have to end do so by themselves."""
        for entry in list(self.must_end):
            why, until, driver = entry
            if driver.poll() is not None:
                self.count_end(driver.returncode, f"{why}, then ")
                self.must_end.remove(entry)
            elif time.monotonic() > until:
                self.wrong.append(
                    f"a launch that was {why} goes on for {ENDS_WITHIN_S[why]:.0f} s: {self.log_tail()[-800:]}"
                )
                driver.kill()
        if not self.must_end or Store(self.at).exists():
            super().tend()
