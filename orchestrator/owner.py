"""Stage 7, writing: the one owner of a store, its commits, and compaction.

The protocol (documented in `docs/store.md`):

1. *Liveness.* A launch takes the host-wide lock, which dies with its process. A holder on another machine
   is judged by its heartbeat counter, on the observer's own monotonic clock.
2. *Epoch.* It creates `_epochs/N.json` (create-if-absent): its segments are named `N-...`.
3. *Seal.* It occupies the next segment name of every earlier epoch, in every folder: a paused earlier
   owner that wakes finds its next name taken, and can never commit again.
4. *Commit.* Arrays, attempts, then cells; a cell is done when its `cells` row is there. A cell that is
   already done is never written again, so duplicates are impossible.
5. *Halves.* A commit that died in between is finished by the next owner, before it numbers attempts: done
   attempts become cells, and arrays whose attempt was never written go, for their cell will run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.cells import CellTable
from orchestrator.checkpoint import FOLDER, Home, cells_with_checkpoints
from orchestrator.compaction import Compactor, batches, runs
from orchestrator.disk import Lock, exists, read_at_most
from orchestrator.errors import Fenced, StoreBusy, StoreDamaged, StoreWriteFailed
from orchestrator.holder import (
    BEAT_BYTES,
    BEAT_S,
    LAST_EPOCH,
    about_epoch,
    boot_id,
    busy,
    describe,
    epochs,
    lives_here,
    newest_epoch,
    this_process,
)
from orchestrator.ids import Ids
from orchestrator.interrupts import held_off
from orchestrator.record import Records
from orchestrator.schema import SCHEMA_VERSION, TABLES
from orchestrator.segments import (
    MOST_ROWS,
    MOST_VALUES,
    Segment,
    encode,
    inspect,
    inspected,
    listed,
    parse_name,
    segment_name,
)
from orchestrator.store import FOLDERS, FORMAT, MARK, Store, check_format
from orchestrator.sweep_record import read_sweep, sweep_bytes

DEAD_AFTER_S = 15.0
SMALL_SEGMENT = 32 * 2**20
MERGED_SEGMENT = 128 * 2**20
READ_ROWS, PART_ROWS, PART_BYTES = 512, 8192, 8 * 2**20  # of a merge: read at a time, and held at most


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
        # (cell, attempt) that a commit which failed halfway has written to a folder: never twice.
        self._halves: dict[str, set[tuple[str, int]]] = {"arrays": set(), "attempts": set()}
        self._closed = threading.Event()
        self._writes = threading.RLock()  # commits, and what a merge takes away, one at a time
        self.compactor = Compactor(self._merge_due)
        self.running: Callable[[], Any] = lambda: None
        try:
            self.epoch = self._new_epoch(command)
            self._heart = threading.Thread(target=self._beat, name="raysweep-heartbeat", daemon=True)
            self._heart.start()  # what follows may take longer than a silence that means death
            self.disk.sweep_temporary()
            unfinished = [e for e in epochs(self.disk) if e < self.epoch and not self._mark(e, "sealed")]
            for epoch in unfinished:
                for folder in TABLES:
                    self._seal(folder, epoch)
            for folder in TABLES:
                self._roll_forward_compaction(folder)
            self.done = self._read_done()
            self._finish_commits(unfinished)
            for epoch in unfinished:
                self.disk.create(f"_epochs/{epoch:08d}.sealed", b"")
            kept = cells_with_checkpoints(self.disk)
            self._forget(itertools.compress(kept, self.done.has(kept)))
        except BaseException:
            self._closed.set()
            self._lock.release()
            raise

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the store back, so that the next owner need not wait for a silence."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.compactor.end()
        self._heart.join()
        try:
            # On a full disk it is not written: no more than a wait for observers on other machines.
            with contextlib.suppress(StoreWriteFailed):
                self.disk.create(f"_epochs/{self.epoch:08d}.released", b"")
        finally:
            self._lock.release()

    def _read_done(self) -> Ids:
        found = self.store.collect(lambda: self.store.cells.select("cell_id"))["cell_id"]
        try:
            return Ids(found)
        except (ValueError, TypeError):
            raise StoreDamaged(f"{self.disk}/cells: holds ids that are no cell's (24 hex characters)") from None

    # Commits

    def append(self, records: Records, replacing: frozenset[str] = frozenset()) -> int:
        """Commit; durable when it returns. The number of cells that became done.

        Interrupts wait till it has ended. After a failure the same rows may be given again: none is doubled.

        Args:
            records: rows of cells that are done already are dropped, save those of `replacing`.
            replacing: cells run again on purpose, whose new row takes the old one's place.

        Raises:
            Fenced: a later launch owns the store.
            StoreWriteFailed: nothing more can be written; what earlier commits wrote is safe.
        """
        with held_off(), self._writes:
            done = self._append(records, replacing)
        for folder in TABLES:
            self.compactor.committed(folder)
        return done

    def _append(self, records: Records, replacing: frozenset[str]) -> int:
        ids: list[str] = records.cells["cell_id"].to_pylist()
        fresh, seen = [], set()
        held = dict(zip(ids, self.done.has(ids), strict=True))
        for cell_id in ids:
            fresh.append(cell_id not in seen and (cell_id in replacing or not held[cell_id]))
            seen.add(cell_id)
        cells = records.cells.filter(pa.array(fresh, pa.bool_()))
        given = set(_keys(records.attempts))
        known = {key for key in _keys(records.cells) if held[key[0]] and key[0] not in replacing}
        for folder, table in (("arrays", records.arrays), ("attempts", records.attempts)):
            written = self._halves[folder]
            if drop := known | (written & given):
                table = table.filter(pa.array([key not in drop for key in _keys(table)], pa.bool_()))
            self._commit(folder, table)
            written |= given
        new = [cell_id for cell_id, keep in zip(ids, fresh, strict=True) if keep]
        again = {cell_id for cell_id in new if held[cell_id] and cell_id in replacing}
        if again:
            self._swap(cells, again)
        else:
            self._commit("cells", cells)
        self.done.update(new)
        for written in self._halves.values():
            written -= given
        self._forget(records.checkpointed)
        return len(new)

    def checkpoint_home(self) -> Home:
        """Where this launch's cells keep their checkpoints."""
        proof = f"_epochs/{self.epoch:08d}.json"
        return Home(self.disk.location, proof, hashlib.sha256(self.disk.read(proof) or b"").hexdigest())

    def _forget(self, cells: Iterable[str]) -> None:
        """Remove checkpoints of cells whose row is committed."""
        for cell_id in cells:
            self.disk.delete_folder(f"{FOLDER}/{cell_id}")

    def record_sweep(self, about: Mapping[str, Any], table: CellTable, digest: str) -> None:
        """Remember what was asked for, so that `resume` and `status` need no file; once for equal ones."""
        stamped = {**about, "recorded_at": datetime.now(UTC).isoformat(), "epoch": self.epoch}
        recorded = sweep_bytes(stamped, table)
        is_new = self.disk.create(f"_sweeps/{digest}.arrow", recorded)
        if not is_new and not any(
            read_sweep(self.disk, name).own for name in self.disk.names("_sweeps") if name.startswith(digest)
        ):  # somebody else's: this user's too, from now on
            self.disk.create(f"_sweeps/{digest}-{secrets.token_hex(4)}.arrow", recorded)

    def _commit(self, folder: str, table: pa.Table, replaces: Iterable[str] = ()) -> None:
        if not table.num_rows and not replaces:
            return
        half = table.num_rows // 2
        if folder == "arrays" and half and not replaces and _entries(table) > MOST_VALUES:  # no reader would take it
            self._commit(folder, table.slice(0, half))
            self._commit(folder, table.slice(half))
            return
        self._put(folder, encode(folder, table, replaces=tuple(replaces)))

    def _put(self, folder: str, segment: bytes) -> None:
        name = segment_name(self.epoch, self._next[folder])
        if not self.disk.create(f"{folder}/{name}", segment):
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
        """Merge small segments; folder -> (segments before, after). Interrupted, the next owner finishes it.

        It also finishes half commits of any age, which `Store.check` may have found.
        """
        with self._writes:
            return self._compact()

    def _compact(self) -> dict[str, tuple[int, int]]:
        report = {}
        self._finish_commits(epochs(self.disk))
        for folder in TABLES:
            before = [s for s in self.store.segments(folder) if not s.seal]
            for run in runs([s for s in before if s.size < SMALL_SEGMENT], MERGED_SEGMENT, MOST_ROWS):
                if len(run) > 1:
                    self._merge(folder, run)
            report[folder] = (len(before), len([s for s in self.store.segments(folder) if not s.seal]))
        return report

    def _merge_due(self, folder: str) -> None:
        """Merge what has gathered while a launch goes on; on the compactor's thread."""
        for batch in batches(self.store.segments(folder)):
            try:
                merged = self._merged(folder, batch)
            except FileNotFoundError:  # a swap has taken one away
                continue
            with self._writes:
                # Likewise since then, and its rows would come back.
                if {s.name for s in batch} <= set(listed(self.disk, folder)):
                    self._replace(folder, merged, batch)
            del merged
            pa.default_memory_pool().release_unused()

    def _merge(self, folder: str, batch: list[Segment]) -> None:
        self._replace(folder, self._merged(folder, batch), batch)

    def _merged(self, folder: str, batch: list[Segment]) -> bytes:
        """One segment of these; a part of their rows is held at a time, as what is held once stays with the process."""
        return encode(folder, _parts(self.store, batch), replaces=[s.name for s in batch])

    def _replace(self, folder: str, merged: bytes, batch: list[Segment]) -> None:
        self._put(folder, merged)
        for segment in batch:
            self.disk.delete(segment.path)

    def _roll_forward_compaction(self, folder: str) -> None:
        names = set(listed(self.disk, folder))
        for segment in inspected(self.disk, folder, sorted(names)):
            for replaced in segment.replaces:
                if replaced in names and not inspect(self.disk, folder, replaced).seal:
                    self.disk.delete(f"{folder}/{replaced}")

    def _finish_commits(self, epochs: list[int]) -> None:
        """Finish commits of these epochs that died between their folders."""

        def written(folder: str) -> list[Segment]:
            return [s for s in self.store.segments(folder) if s.epoch in epochs and s.rows]

        for segment in written("attempts"):
            ended = _read(self.store, segment, ["cell_id", "status"]).to_pydict()
            lost: dict[str, int] = {}
            held = self.done.has(ended["cell_id"])
            for row, (cell_id, status) in enumerate(zip(ended["cell_id"], ended["status"], strict=True)):
                if status == "done" and not held[row]:
                    lost.setdefault(cell_id, row)
            if lost:  # the work is there, durable
                table = _read(self.store, segment).take(pa.array(lost.values(), pa.int64()))
                self._commit("cells", table.select(TABLES["cells"].names).cast(TABLES["cells"]))
                self.done.update(list(lost))
        arrays = written("arrays")
        if not arrays:
            return
        known: set[tuple[str, int]] = set()
        for rows in (self.store.attempts, self.store.cells):
            known.update(self.store.collect(rows.select("cell_id", "attempt").lazy).iter_rows())
        for segment in arrays:
            kept = [key in known for key in _keys(_read(self.store, segment, ["cell_id", "attempt"]))]
            if not all(kept):  # their cell will run again, under the same attempt number
                table = _read(self.store, segment).filter(pa.array(kept, pa.bool_()))
                self._commit("arrays", table, [segment.name])
                self.disk.delete(segment.path)

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
                raise StoreBusy(busy(self.disk, holder))
            time.sleep(0.5)

    def _mark(self, epoch: int, what: str) -> bool:
        return exists(self.disk, f"_epochs/{epoch:08d}.{what}")

    def _holder(self) -> str:
        epoch = newest_epoch(self.disk)
        if epoch is None or self._mark(epoch, "released"):
            return "it has just begun"
        return describe(about_epoch(self.disk, epoch))

    def _living_elsewhere(self) -> str | None:
        """Who holds the store on another machine; None if nobody lives."""
        epoch = newest_epoch(self.disk)
        if epoch is None or self._mark(epoch, "released"):
            return None
        about = about_epoch(self.disk, epoch)
        if about.get("boot") == boot_id() and self.disk.locks:
            return None  # this machine's lock would be held if it lived
        alive = lives_here(about)
        if alive is not None:
            return describe(about) if alive else None
        beat = f"_hb/{epoch:08d}"
        first, until = read_at_most(self.disk, beat, BEAT_BYTES), time.monotonic() + DEAD_AFTER_S
        while time.monotonic() < until:
            time.sleep(0.5)
            if read_at_most(self.disk, beat, BEAT_BYTES) != first:
                return describe(about)
            if self._mark(epoch, "released"):
                return None
        return None

    def _new_epoch(self, command: str) -> int:
        about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot": boot_id(),
            "process": this_process(),
            "token": secrets.token_hex(8),  # of two owners that begin at once, each knows its own file
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
        }
        epoch = max(epochs(self.disk), default=-1) + 1
        if epoch > LAST_EPOCH:
            raise StoreDamaged(f"_epochs/{epoch - 1:08d}.json: foreign: no store has seen so many launches; remove it")
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
            for other in inspected(self.disk, folder, listed(self.disk, folder))
            for name in other.replaces
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
            except (OSError, StoreWriteFailed):
                continue  # a full disk: a lost beat matters only to observers on other machines


def _read(store: Store, segment: Segment, columns: list[str] | None = None) -> pa.Table:
    """A segment's rows.

    Raises:
        StoreDamaged: its pages are.
    """
    with _damage_of(segment), store.disk.open(segment.path) as opened:
        table = pq.read_table(opened, columns=columns, partitioning=None, page_checksum_verification=True)
    return table.replace_schema_metadata(None)


def _entries(arrays: pa.Table) -> int:
    """Entries of the longer of the two columns of values, and a value for each null."""
    lengths = (pc.sum(pc.list_value_length(arrays[name])).as_py() or 0 for name in ("values", "values_f64"))
    return int(arrays.num_rows + max(lengths))


def _parts(store: Store, segments: Iterable[Segment]) -> Iterator[pa.Table]:
    """Their rows in order, in tables of about `PART_ROWS` rows or `PART_BYTES`.

    Raises:
        StoreDamaged: pages are.
    """
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for segment in segments:
        for batch in _batches(store, segment):
            batches.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= PART_ROWS or size >= PART_BYTES:
                yield pa.Table.from_batches(batches)
                batches, rows, size = [], 0, 0
    if batches:
        yield pa.Table.from_batches(batches)


def _batches(store: Store, segment: Segment) -> Iterator[pa.RecordBatch]:
    # On this thread alone: memory that others have given back is not used again by this one.
    with (
        _damage_of(segment),
        store.disk.open(segment.path) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        yield from file.iter_batches(READ_ROWS, use_threads=False)


@contextlib.contextmanager
def _damage_of(segment: Segment) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise StoreDamaged(f"{segment.path}: damaged: {str(error).splitlines()[0][:200]}") from None


def _keys(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["cell_id"].to_pylist(), table["attempt"].to_pylist(), strict=True))
