"""Random faults on a cluster of several nodes during launches, and a count of lost rows: `make chaos`.

    python -m tests.faults.chaos [--faults 200] [--seed N] [--minutes 20] [--store s3] [--local]

Kills (-9) and freezes workers, nodes and drivers, launches twice, lets writes fail as on a full disk, tears
checkpoints, leaves torn temporary files, kills drivers in the middle of a commit and of a merge, and sets the clock of
each driver wrong. Meanwhile it reads: each row that it has ever seen must be there at the end, once, with the value of
its cell; so must the files that cells left, and no process that a cell started may have outlived its worker. Each
launch must end with a documented exit code, and none may stand still. Prints the seed first and the counts last; exit 1
if anything was lost, doubled or wrong.

With `--local` each launch has a Ray of its own on this machine, with faults of its own (`tests.faults.chaos_local`).
With `--store s3` the store lies on an S3 server, behind a gateway with faults of its own (`tests.faults.chaos_s3`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.executors.worker import state_of
from raysweep.orchestrator.store.artifacts import read_content
from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP
from tests.faults.cluster import Cluster, NodeDidNotStart, children, command, signal_to

CELLS = """
    import os, subprocess, time

    def value(seed):
        return seed * 2654435761 % 1000003 / 7

    def first(cell):
        try:
            os.close(os.open(f"{os.environ['CHAOS_MARKS']}/{cell.cell_id}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def run(cell, context):
        children = []
        if cell.seed % 4 == 0:  # two processes: a child in a session of its own, and one whose parent ends at once
            (context.folder / "values").mkdir()
            (context.folder / "values" / "seed.txt").write_text(str(cell.seed))
            children.append(subprocess.Popen(["sleep", "900"], start_new_session=True))
            said = subprocess.run(["sh", "-c", "sleep 900 > /dev/null 2>&1 & echo $!"], capture_output=True, text=True)
            print("children", children[0].pid, said.stdout, flush=True)
            time.sleep(0.3)  # long enough to be met by a fault
        try:
            return computed(cell, context)
        finally:
            for child in children:
                child.kill()
                child.wait()
                os.kill(int(said.stdout), 9)

    def computed(cell, context):
        print("cell", cell.seed, flush=True)
        context.log(0, seed=cell.seed)
        if cell.seed % 50 in (7, 8) and first(cell):
            os._exit(3)
        if cell.seed % 50 == 11 and first(cell):
            time.sleep(1000)
        if cell.seed % 50 == 13 and first(cell):
            raise ValueError("once")
        if cell.seed % 10 == 3:  # a long one, in steps
            saved = context.checkpoint.load()
            step = int(saved) if saved else 0
            while step < 8:
                time.sleep(0.2)
                step += 1
                context.checkpoint.save(b"%d" % step)
        else:
            time.sleep(0.1 + 0.02 * (cell.seed % 10))
        context.array("a", [float(cell.seed)])
        return {"value": value(cell.seed)}
"""
SWEEP = """
name = "chaos"
workload = "chaos_cells:run"
seeds = "0..{last}"
[resources]
timeout_s = 5
retries = 3
[[grid]]
method = "m"
"""
NODES = 2
STEP = 600  # cells that are added when few are left
EXIT_CODES = {0, 1, 2, 3, 130, -signal.SIGKILL}
"""The documented ones, and that of a launch that was killed here."""
PATIENT, MAX_WAITING = ("worker killed", "worker with children killed"), 4
"""Kinds of faults that wait for a target. While so many wait, no others are drawn: they would outnumber these."""
STILL_S = 240.0
"""Seconds without a new row after which a launch that runs has outlived its watchdog."""


class Chaos:
    """One run.

    Args:
        folder: an empty folder.
        seed: of all random choices.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.at = str(folder / "store")
        (folder / "marks").mkdir()
        (folder / "chaos_cells.py").write_text(textwrap.dedent(CELLS))
        self.last = STEP - 1
        (folder / "chaos.toml").write_text(SWEEP.format(last=self.last))
        os.environ["CHAOS_MARKS"] = str(folder / "marks")
        self.environment, self.where = self.begin()
        self.driver: subprocess.Popen[bytes] | None = None
        self.log = (folder / "drivers.log").open("wb")
        self.faults: Counter[str] = Counter()
        self.launches = 0
        self.ended: Counter[str] = Counter()  # launches by exit code
        self.moved = time.monotonic()  # when the last launch began, or the last new row was seen
        self.seen: dict[str, float] = {}
        self.wrong: list[str] = []
        self.gone: list[str] = []  # rows that were seen once, and then not
        self.due: list[tuple[float, Callable[[], None]]] = []  # when to do what: thaw a process, say
        self.waiting: list[str] = []  # kinds of faults of `PATIENT` that had no target when they were drawn
        self.kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "worker killed": (30, self.kill_worker),
            "worker with children killed": (20, self.kill_parent),
            "worker frozen": (12, self.freeze_worker),
            "node killed": (4, self.kill_node),
            "node frozen": (4, self.freeze_node),
            "driver killed": (6, self.kill_driver),
            "driver frozen": (6, self.freeze_driver),
            "launched twice": (4, self.launch_twice),
            "writes failed": (5, self.fill_disk),
            "checkpoint torn": (8, self.tear_checkpoint),
            "torn temporary file left": (6, self.leave_torn),
        }

    def begin(self) -> tuple[dict[str, str], list[str]]:
        """Start what launches need; their environment, and the options that lead them there."""
        self.cluster = Cluster(*[{"num_cpus": 2}] * NODES)
        return self.cluster.environment, ["--address", self.cluster.address]

    passing = ("the largest node offers",)
    """Reasons for which a launch may be refused: all nodes may be dead at this moment."""

    # Launches and checks

    def drive(self) -> None:
        """Start a launch if none runs."""
        if self.driver is not None:
            if self.driver.poll() is None:
                return
            self.count_end(self.driver.returncode)
            if self.driver.returncode == 2 and not any(word in self.log_tail()[-500:] for word in self.passing):
                raise SystemExit(f"the driver's input was wrong:\n{self.log_tail()}")
        if self.launches >= 20 and not self.seen:
            raise SystemExit(f"no launch gets anywhere:\n{self.log_tail()}")
        self.launches += 1
        self.moved = time.monotonic()
        at = [*self.where, "--store", self.at, "--wait", "--max-alike", "0"]
        again = [sys.executable, "-m", "tests.faults.driver", str(self.chance.randrange(2**31)), "resume"]
        self.driver = subprocess.Popen(
            [*again, "chaos.toml", "--seeds", f"0..{self.last}", *at], cwd=self.folder,
            env=self.environment, stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def count_end(self, code: int, how: str = "") -> None:
        """Count the exit code of a launch."""
        self.ended[f"{how}{code}"] += 1
        if code not in EXIT_CODES:
            self.wrong.append(f"a launch ended with exit code {code}: {self.log_tail()[-1000:]}")

    def end_still(self) -> None:
        """Report and kill a launch that stands still, though no process of it is frozen."""
        if self.due:
            self.moved = max(self.moved, time.monotonic() - STILL_S / 2)
        elif self.driver is not None and self.driver.poll() is None and time.monotonic() - self.moved > STILL_S:
            self.wrong.append(f"a launch stood still for {STILL_S:.0f} s: {self.log_tail()[-1000:]}")
            self.driver.kill()
            self.driver.wait()

    def log_tail(self) -> str:
        """The end of the drivers' output."""
        return (self.folder / "drivers.log").read_text(errors="replace")[-3000:]

    def read(self) -> int:
        """Record the rows in the store, and those that are lost or changed; the number of rows."""
        try:
            store = Store(self.at)
            if not store.exists():
                return 0
            frame = store.collect(lambda: store.cells.select("cell_id", "seed", "metrics"))
        except RaysweepError as error:
            self.wrong.append(f"a reader was refused: {error}")
            return len(self.seen)
        now = {i: m[0]["value"] for i, m in zip(frame["cell_id"], frame["metrics"].to_list(), strict=True)}
        if len(now) != frame.height:
            self.wrong.append(f"{frame.height - len(now)} rows twice")
        self.gone += [i for i in self.seen if i not in now]
        self.wrong += [f"{i} was lost or changed" for i, v in self.seen.items() if now.get(i) != v]
        self.wrong += [
            f"seed {s} has {now[i]}" for i, s in zip(frame["cell_id"], frame["seed"], strict=True)
            if now[i] != s * 2654435761 % 1000003 / 7
        ]  # fmt: skip
        if len(now) > len(self.seen):
            self.moved = time.monotonic()
        self.seen |= now
        return len(now)

    def tend(self) -> None:
        """Thaw processes that are due, replace dead nodes, keep a launch running with cells to run."""
        now = time.monotonic()
        for entry in [entry for entry in self.due if entry[0] <= now]:
            self.due.remove(entry)
            entry[1]()
        self.replace_nodes()
        if self.read() > self.last - STEP // 3:
            self.last += STEP
        self.end_still()
        self.drive()

    def replace_nodes(self) -> None:
        """Start a node for each that died: killed, or frozen until Ray declared it dead."""
        for node, raylet in list(self.cluster.nodes.items()):
            if state_of(raylet) in {"", "Z"}:
                self.cluster.kill(node)
        for _ in range(NODES - len(self.cluster.nodes)):
            with contextlib.suppress(NodeDidNotStart):  # the next look tries again
                self.cluster.add(num_cpus=2)

    # Faults: each returns whether it had a target

    def workers(self) -> list[int]:
        return [pid for node in self.cluster.nodes for pid in self.cluster.workers(node)]

    def kill_worker(self) -> bool:
        return self._signal(self.workers(), signal.SIGKILL)

    def kill_parent(self) -> bool:
        """Kill a worker whose cell has children and a file."""
        has_child = [pid for pid in self.workers() if any(map(_is_cells, children(pid)))]
        return self._signal(has_child, signal.SIGKILL)

    def freeze_worker(self) -> bool:
        return self._freeze(self.workers(), 0.5, 4)

    def kill_node(self) -> bool:
        nodes = list(self.cluster.nodes)
        if nodes:
            self.cluster.kill(self.chance.choice(nodes))
        return bool(nodes)

    def freeze_node(self) -> bool:
        nodes = list(self.cluster.nodes)
        if nodes:
            self._thaw_after(self.cluster.freeze(self.chance.choice(nodes)), self.chance.uniform(3, 25))
        return bool(nodes)

    def kill_driver(self) -> bool:
        return self._signal(self._drivers(), signal.SIGKILL)

    def freeze_driver(self) -> bool:
        return self._freeze(self._drivers(), 0.5, 6)

    def _drivers(self) -> list[int]:
        return [self.driver.pid] if self.driver and self.driver.poll() is None and Store(self.at).exists() else []

    def launch_twice(self) -> bool:
        if not self._drivers():
            return False
        ended = subprocess.run(
            [*RAYSWEEP, "launch", "chaos.toml", "--store", self.at, "--inline", "--where", "seed < 50"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        refused = ended.returncode == 2 and any(word in ended.stderr for word in self.passing)
        if ended.returncode not in (0, 1, 3) and not refused:  # 0, 1: the first launch had just ended
            self.wrong.append(f"a second launch: exit {ended.returncode}: {ended.stderr[-300:]}")
        return ended.returncode == 3

    def fill_disk(self) -> bool:
        """Limit the driver's files to a few KiB: a segment is written in part, and fails."""
        for pid in self._drivers():
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (self.chance.randrange(100, 6000), -1))
            except ProcessLookupError:
                return False
            return True
        return False

    def tear_checkpoint(self) -> bool:
        files = [p for p in (self.folder / "store/checkpoints").glob("*/*") if p.is_file()]
        for path in self.chance.sample(files, min(1, len(files))):
            try:
                os.truncate(path, 0)
            except FileNotFoundError:
                return False
            return True
        return False

    def leave_torn(self) -> bool:
        folder = self.folder / "store/_tmp"
        if folder.is_dir():
            (folder / f"torn-{secrets.token_hex(4)}").write_bytes(b"PAR1" + self.chance.randbytes(50))
        return folder.is_dir()

    def _signal(self, pids: list[int], number: int) -> bool:
        if pids:
            signal_to(self.chance.choice(sorted(pids)), number)
        return bool(pids)

    def _freeze(self, pids: list[int], least: float, most: float) -> bool:
        if pids:
            pid = self.chance.choice(sorted(pids))
            signal_to(pid, signal.SIGSTOP)
            self._thaw_after([pid], self.chance.uniform(least, most))
        return bool(pids)

    def _thaw_after(self, pids: list[int], seconds: float) -> None:
        def thaw() -> None:
            for pid in pids:
                signal_to(pid, signal.SIGCONT)

        self.due.append((time.monotonic() + seconds, thaw))

    # The run

    def run(self, faults: int, seconds: float) -> dict[str, object]:
        """Inject so many faults, then let the sweep finish, and check the store."""
        began = time.monotonic()
        names, weights = list(self.kinds), [weight for weight, _ in self.kinds.values()]
        while self.count() < faults and time.monotonic() - began < seconds:
            self.tend()
            name = self.chance.choices(names, weights)[0]
            drawn = [*self.waiting[:1], *([name] if len(self.waiting) < MAX_WAITING else [])]
            self.waiting = self.waiting[1:]
            for kind in drawn:
                if self.kinds[kind][1]():
                    self.faults[kind] += 1
                elif kind in PATIENT:
                    self.waiting.append(kind)
            time.sleep(self.chance.uniform(0.2, 1.5))
        faulted = time.monotonic() - began
        while self.due:
            self.due.pop()[1]()
        finished = self.finish(seconds)
        self.read()
        store = Store(self.at)
        self.wrong += store.check()
        log = (self.folder / "drivers.log").read_text(errors="replace")
        if (at := log.find('orchestrator/cli/app.py", line')) >= 0:
            self.wrong.append(f"a launch ended in a traceback: {log[at : at + 12000]}")
        cells = store.collect(lambda: store.cells.select("cell_id"))["cell_id"]
        attempts = dict(store.attempts.collect().group_by("status").len().iter_rows())
        left = store.storage.names("checkpoints")
        self.wrong += [f"checkpoints of {len(left)} done cells are left"] if left and finished else []
        files = self.check_files(store) if finished else 0
        return {
            "faults": self.count(), "by kind": dict(self.counted()), "launches": self.launches,
            "exit codes": dict(self.ended), "long waits": log.count("\nwaiting for "),
            "seconds": round(faulted), "seconds with the rest of the sweep": round(time.monotonic() - began),
            "cells": self.last + 1, "artifacts": files, "orphans": self.orphans(),
            "rows": cells.len(), "not run": self.last + 1 - cells.n_unique(),
            "lost": len(self.gone),
            "twice": cells.len() - cells.n_unique(), "attempts": attempts, "finished": finished,
            "wrong": self.wrong[:20],
        }  # fmt: skip

    def check_files(self, store: Store) -> int:
        """Compare artifacts, logged values and contents with the done cells; the number of artifacts."""
        seeds = dict(store.collect(lambda: store.cells.select("cell_id", "seed")).iter_rows())
        rows = [row for row in store.artifacts().to_dicts() if row["status"] == "done"]
        files = {row["cell_id"]: read_content(store.storage, row).decode() for row in rows}
        right = {cell_id: str(seed) for cell_id, seed in seeds.items() if seed % 4 == 0}
        if files != right or len(rows) != len(right):
            self.wrong.append(
                f"{len(rows)} artifacts of {len(right)} cells, {len(files.items() ^ right.items())} wrong"
            )
        logged = store.sql("SELECT cell_id, values_f64[1] AS seed FROM arrays WHERE name = 'seed'")
        if dict(logged.iter_rows()) != seeds or logged.height != len(seeds):
            self.wrong.append(f"{logged.height} logged values of {len(seeds)} cells")
        subprocess.run([*RAYSWEEP, "store", "compact", "--store", self.at], env=self.environment, check=True)
        named = set(store.scan("artifacts").collect()["sha256"])
        kept = [name for epoch in store.storage.names("files") for name in store.storage.names(f"files/{epoch}")]
        if any(name.rpartition("-")[2] not in named for name in kept):
            self.wrong.append("contents without a row are left")
        if left := store.storage.names("_live"):
            self.wrong.append(f"{len(left)} states of cells that no longer run are left")
        return len(rows)

    def orphans(self) -> int:
        """Number of processes of dead workers' cells."""
        mark = f"CHAOS_MARKS={os.environ['CHAOS_MARKS']}".encode()
        count = 0
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                count += words[:2] == [b"sleep", b"900"] and mark in (entry / "environ").read_bytes().split(b"\0")
        if count:
            self.wrong.append(f"{count} processes of cells have outlived their workers")
        return count

    def counted(self) -> Counter[str]:
        """Faults by kind, including those that drivers inject into themselves."""
        died = self.folder / "died"
        own = Counter(f"driver killed {line.split(',')[0].split(' of ')[0]}" for line in lines(died))
        return self.faults + own

    def count(self) -> int:
        return self.counted().total()

    def finish(self, seconds: float) -> bool:
        """Launch without faults until all cells are done."""
        until = time.monotonic() + max(600.0, seconds)
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
        words = ["resume", "chaos.toml", "--seeds", f"0..{self.last}", "--store", self.at, "--wait"]
        while time.monotonic() < until:
            self.replace_nodes()
            command = [*RAYSWEEP, *words, *self.where, "--max-alike", "0"]
            self.driver = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=self.log, stderr=subprocess.STDOUT
            )
            while self.driver.poll() is None and time.monotonic() < until:
                self.replace_nodes()
                time.sleep(1)
            if self.driver.returncode == 0:
                return True
        return False

    def close(self) -> None:
        """End everything."""
        while self.due:
            self.due.pop()[1]()
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
        self.end()
        self.log.close()

    def end(self) -> None:
        """End what `begin` has started."""
        self.cluster.close()


def _is_cells(pid: int) -> bool:
    """Whether a process is one that a cell has started."""
    return command(pid).startswith("sleep 900")


def lines(path: Path) -> list[str]:
    """Lines of a file; empty if it does not exist."""
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=20.0, help="of faults, at most")
    parser.add_argument("--store", choices=("folder", "s3"), default="folder", help="where the store lies")
    parser.add_argument("--local", action="store_true", help="each launch starts a Ray of its own")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    if arguments.store == "s3":
        from tests.faults.chaos_s3 import S3Chaos

        kind: type[Chaos] = S3Chaos
    elif arguments.local:
        from tests.faults.chaos_local import LocalChaos

        kind = LocalChaos
    else:
        kind = Chaos
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        chaos = kind(Path(folder), seed)
        try:
            result = chaos.run(arguments.faults, arguments.minutes * 60)
        except BaseException:
            print(chaos.log_tail())
            raise
        finally:
            chaos.close()
    print(json.dumps(result, indent=2))
    sound = not (result["wrong"] or result["lost"] or result["twice"]) and result["finished"]
    print("nothing lost, nothing twice, the sweep finished" if sound else "NOT SOUND")
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
