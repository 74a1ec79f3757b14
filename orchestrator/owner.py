"""Stage 7, writing: the one owner of a store, its commits, and compaction.

The protocol (documented in `docs/store.md`):

1. *Liveness.* A launch takes the host-wide lock, which dies with its process. A holder on another machine
   is judged by its heartbeat counter, on the observer's own monotonic clock.
2. *Epoch.* It creates `_epochs/N.json` (create-if-absent): its segments are named `N-...`.
3. *Seal.* It occupies the next segment name of every earlier epoch, in every folder: a paused earlier
   owner that wakes finds its next name taken, and can never commit again.
4. *Commit.* Arrays, attempts, then cells; a cell is done when its `cells` row is there. A cell that is
   already done is never written again, so duplicates are impossible.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.cells import CellTable
from orchestrator.errors import Fenced, StoreBusy, StoreDamaged
from orchestrator.local_disk import LocalDisk, Lock
from orchestrator.record import Records
from orchestrator.schema import SCHEMA_VERSION, TABLES
from orchestrator.segments import Segment, encode, inspect, listed, parse_name, segment_name
from orchestrator.store import FOLDERS, FORMAT, MARK, Store, check_format, sweep_bytes

BEAT_S = 2.0
DEAD_AFTER_S = 15.0
SMALL_SEGMENT = 32 * 2**20
MERGED_SEGMENT = 128 * 2**20


class Owner:
    """The right to write to a store; a context manager.

    Args:
        store: what to own; made if it is new.
        command: said to a second launch that finds the store held.
        wait: wait for a living owner to end instead of raising.

    Raises:
        StoreBusy: another launch lives.
        InputError: the store cannot be written here.
    """

    def __init__(self, store: Store, command: str = "", *, wait: bool = False) -> None:
        self.store, self.disk = store, store.disk
        self.disk.check_writable()
        self.disk.prepare(FOLDERS)
        self.disk.create(MARK, json.dumps({"format": FORMAT, "schema": SCHEMA_VERSION}).encode())
        check_format(self.disk)
        self._lock = self._take_over(wait)
        self._next = dict.fromkeys(TABLES, 0)
        self._closed = threading.Event()
        self.running: Callable[[], Any] = lambda: None
        try:
            self.epoch = self._new_epoch(command)
            self.disk.sweep_temporary()
            unfinished = [e for e in self._epochs() if e < self.epoch and not self._mark(e, "sealed")]
            for epoch in unfinished:
                for folder in TABLES:
                    self._seal(folder, epoch)
            for folder in TABLES:
                self._roll_forward_compaction(folder)
            self.done: set[str] = set(store.cells.select("cell_id").collect()["cell_id"])
            self._roll_forward_cells(unfinished)
            for epoch in unfinished:
                self.disk.create(f"_epochs/{epoch:08d}.sealed", b"")
        except BaseException:
            self._lock.release()
            raise
        self._heart = threading.Thread(target=self._beat, name="raysweep-heartbeat", daemon=True)
        self._heart.start()

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the store back, so that the next owner need not wait for a silence."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._heart.join()
        try:
            self.disk.create(f"_epochs/{self.epoch:08d}.released", b"")
        finally:
            self._lock.release()

    # Commits

    def append(self, records: Records, replacing: frozenset[str] = frozenset()) -> int:
        """Commit; durable when it returns. The number of cells that became done.

        Args:
            records: rows of cells that are done already are dropped, save those of `replacing`.
            replacing: cells run again on purpose, whose new row takes the old one's place.

        Raises:
            Fenced: a later launch owns the store.
            StoreWriteFailed: nothing more can be written; what earlier commits wrote is safe.
        """
        ids: list[str] = records.cells["cell_id"].to_pylist()
        fresh, seen = [], set()
        for cell_id in ids:
            fresh.append(cell_id not in seen and (cell_id in replacing or cell_id not in self.done))
            seen.add(cell_id)
        cells = records.cells.filter(pa.array(fresh, pa.bool_()))
        self._commit("arrays", records.arrays)
        self._commit("attempts", records.attempts)
        new = [cell_id for cell_id, keep in zip(ids, fresh, strict=True) if keep]
        again = self.done & replacing & set(new)
        if again:
            self._swap(cells, again)
        else:
            self._commit("cells", cells)
        self.done.update(new)
        return len(new)

    def record_sweep(self, about: Mapping[str, Any], table: CellTable, digest: str) -> None:
        """Remember what was asked for, so that `resume` and `status` need no file; once for equal ones."""
        stamped = {**about, "recorded_at": datetime.now(UTC).isoformat(), "epoch": self.epoch}
        self.disk.create(f"_sweeps/{digest}.arrow", sweep_bytes(stamped, table))

    def _commit(self, folder: str, table: pa.Table, replaces: Iterable[str] = ()) -> None:
        if not table.num_rows and not replaces:
            return
        name = segment_name(self.epoch, self._next[folder])
        if not self.disk.create(f"{folder}/{name}", encode(folder, table, replaces=tuple(replaces))):
            raise Fenced(
                f"store {self.disk}: a later launch took it over while this one (epoch {self.epoch}) was paused; "
                "what it had committed is kept, the rest is the other launch's to run"
            )
        self._next[folder] += 1

    def _swap(self, cells: pa.Table, again: set[str]) -> None:
        """Put new rows in the place of old ones in one step: one segment that replaces those that held them."""
        out = pa.array(sorted(again))
        held, kept = [], [cells]
        for segment in self.store.segments("cells"):
            table = _read(self.store, segment)
            hit = pc.is_in(table["cell_id"], out)
            if pc.any(hit).as_py():
                held.append(segment.name)
                kept.append(table.filter(pc.invert(hit)))
        self._commit("cells", pa.concat_tables(kept), held)
        for name in held:
            self.disk.delete(f"cells/{name}")

    # Compaction

    def compact(self) -> dict[str, tuple[int, int]]:
        """Merge small segments; folder -> (segments before, after). Interrupted, the next owner finishes it."""
        report = {}
        for folder in TABLES:
            before = [s for s in self.store.segments(folder) if not s.seal]
            batch: list[Segment] = []
            for segment in [s for s in before if s.size < SMALL_SEGMENT]:
                batch.append(segment)
                if sum(s.size for s in batch) >= MERGED_SEGMENT:
                    self._merge(folder, batch)
                    batch = []
            if len(batch) > 1:
                self._merge(folder, batch)
            report[folder] = (len(before), len([s for s in self.store.segments(folder) if not s.seal]))
        return report

    def _merge(self, folder: str, batch: list[Segment]) -> None:
        merged = pa.concat_tables([_read(self.store, s) for s in batch])
        self._commit(folder, merged, [s.name for s in batch])
        for segment in batch:
            self.disk.delete(segment.path)

    def _roll_forward_compaction(self, folder: str) -> None:
        names = set(listed(self.disk, folder))
        for name in sorted(names):
            for replaced in inspect(self.disk, folder, name).replaces:
                if replaced in names and not inspect(self.disk, folder, replaced).seal:
                    self.disk.delete(f"{folder}/{replaced}")

    def _roll_forward_cells(self, epochs: list[int]) -> None:
        """Finish a commit that died between its attempts and its cells: the work is there, durable."""
        found = [s for s in self.store.segments("attempts") if s.epoch in epochs and s.rows]
        for segment in found[-1:] if len(epochs) == 1 else found:
            table = _read(self.store, segment)
            lost = [
                status == "done" and cell_id not in self.done
                for cell_id, status in zip(table["cell_id"].to_pylist(), table["status"].to_pylist(), strict=True)
            ]
            cells = table.filter(pa.array(lost, pa.bool_())).select(TABLES["cells"].names).cast(TABLES["cells"])
            self._commit("cells", cells)
            self.done.update(cells["cell_id"].to_pylist())

    # Lease

    def _take_over(self, wait: bool) -> Lock:
        while True:
            lock = self.disk.try_lock()
            if lock is not None:
                holder = self._living_elsewhere()
                if holder is None:
                    return lock
                lock.release()
            else:
                holder = self._holder()
            if not wait:
                raise StoreBusy(
                    f"store {self.disk} is held by another launch ({holder}); wait for it (--wait), or end it first"
                )
            time.sleep(0.5)

    def _epochs(self) -> list[int]:
        return [int(n[:8]) for n in self.disk.names("_epochs") if n.endswith(".json") and n[:8].isdigit()]

    def _mark(self, epoch: int, what: str) -> bool:
        return self.disk.read(f"_epochs/{epoch:08d}.{what}") is not None

    def _about(self, epoch: int) -> dict[str, Any]:
        try:
            about = json.loads(self.disk.read(f"_epochs/{epoch:08d}.json") or b"{}")
        except ValueError:
            raise StoreDamaged(f"_epochs/{epoch:08d}.json: torn or foreign") from None
        return about if isinstance(about, dict) else {}

    def _holder(self) -> str:
        epochs = self._epochs()
        return describe(self._about(max(epochs))) if epochs else "it has just begun"

    def _living_elsewhere(self) -> str | None:
        """Who holds the store on another machine; None if nobody lives."""
        epochs = self._epochs()
        if not epochs or self._mark(max(epochs), "released"):
            return None
        about = self._about(max(epochs))
        if about.get("boot") == boot_id():
            return None  # this machine's lock would be held if it lived
        beat = f"_hb/{max(epochs):08d}"
        first, until = self.disk.read(beat), time.monotonic() + DEAD_AFTER_S
        while time.monotonic() < until:
            time.sleep(0.5)
            if self.disk.read(beat) != first:
                return describe(about)
            if self._mark(max(epochs), "released"):
                return None
        return None

    def _new_epoch(self, command: str) -> int:
        about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot": boot_id(),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
        }
        epoch = max(self._epochs(), default=-1) + 1
        if not self.disk.create(f"_epochs/{epoch:08d}.json", json.dumps(about).encode()):
            raise StoreBusy(f"store {self.disk}: another launch took it at the same moment ({self._holder()})")
        return epoch

    def _seal(self, folder: str, epoch: int) -> None:
        """Occupy the epoch's next name. Whoever wins a name, the epoch ends in a seal."""
        while True:
            mine = [n for n in listed(self.disk, folder) if parse_name(folder, n)[0] == epoch]
            if mine and inspect(self.disk, folder, mine[-1]).seal:
                return
            following = parse_name(folder, mine[-1])[1] + 1 if mine else self._merged_up_to(folder, epoch)
            seal = encode(folder, TABLES[folder].empty_table(), seal=True)
            self.disk.create(f"{folder}/{segment_name(epoch, following)}", seal)

    def _merged_up_to(self, folder: str, epoch: int) -> int:
        """The first name an epoch without files never used, given what compactions say they merged."""
        merged = [
            parse_name(folder, name)[1]
            for other in listed(self.disk, folder)
            for name in inspect(self.disk, folder, other).replaces
            if parse_name(folder, name)[0] == epoch
        ]
        return max(merged, default=-1) + 1

    def _beat(self) -> None:
        count = 0
        while not self._closed.wait(BEAT_S if count else 0):
            count += 1
            try:
                self.disk.replace(
                    f"_hb/{self.epoch:08d}", json.dumps({"beat": count, "running": self.running()}).encode()
                )
            except OSError:
                continue  # a full disk: a lost beat matters only to observers on other machines


def _read(store: Store, segment: Segment) -> pa.Table:
    return pq.read_table(store.disk.locate(segment.path), partitioning=None).replace_schema_metadata(None)


def holder(disk: LocalDisk) -> tuple[str, list[str]] | None:
    """Who holds the store on this machine, and the ids of the cells that its last heartbeat says run; None: nobody."""
    lock = disk.try_lock()
    if lock is not None:
        lock.release()
        return None
    epochs, beats = [n for n in disk.names("_epochs") if n.endswith(".json")], disk.names("_hb")
    about = json.loads(disk.read(f"_epochs/{epochs[-1]}") or b"{}") if epochs else {}
    try:
        found = json.loads(disk.read(f"_hb/{beats[-1]}") or b"{}").get("running") if beats else None
    except ValueError:
        found = None  # half a heartbeat on a disk without atomic renames; the next one is seconds away
    return describe(about), [str(cell_id) for cell_id in found or ()]


def describe(about: Mapping[str, Any]) -> str:
    """An owner as a message names it."""
    return f"pid {about.get('pid')} on {about.get('host')}, since {about.get('started_at')}" + (
        f": {about['command']}" if about.get("command") else ""
    )


def boot_id() -> str:
    """One running kernel: processes that share it share its locks."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else socket.gethostname()
