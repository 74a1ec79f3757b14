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
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysweep.orchestrator.errors import Fenced, RaysweepError, StoreDamaged, StoreWriteFailed
from raysweep.orchestrator.launch.record import Records
from raysweep.orchestrator.process import held_off
from raysweep.orchestrator.store.checkpoints import FOLDER, CheckpointLocation, cells_with_checkpoints
from raysweep.orchestrator.store.compaction import Compactor, batches, runs
from raysweep.orchestrator.store.holder import BEAT_S, epochs, marked
from raysweep.orchestrator.store.id_set import IdSet
from raysweep.orchestrator.store.lease import new_epoch, seal, take_over
from raysweep.orchestrator.store.reader import FOLDERS, FORMAT, MARK, Store, check_format
from raysweep.orchestrator.store.schema import SCHEMA_VERSION, TABLES
from raysweep.orchestrator.store.segment_rows import entries, keys, parts, read_segment
from raysweep.orchestrator.store.segments import (
    MAX_ROWS,
    MAX_VALUES,
    Segment,
    encode,
    listed,
    replaced_by,
    segment_name,
)
from raysweep.orchestrator.store.sweeps import read_sweep, sweep_bytes
from raysweep.orchestrator.sweep.cells import CellTable

DEAD_AFTER_S = 15.0
SMALL_SEGMENT = 32 * 2**20
MERGED_SEGMENT = 128 * 2**20
READ_ROWS, PART_ROWS, PART_BYTES = 512, 8192, 8 * 2**20  # of a merge: read at a time, and held at most


class StoreWriter:
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
        self.store, self.storage = store, store.storage
        self.storage.check_writable()
        self.storage.prepare(FOLDERS)
        self.storage.create(MARK, json.dumps({"format": FORMAT, "schema": SCHEMA_VERSION}).encode())
        check_format(self.storage)
        self._lock = take_over(self.storage, wait)
        self._next = dict.fromkeys(TABLES, 0)
        # (cell, attempt) that a commit which failed halfway has written to a folder: never twice.
        self._halves: dict[str, set[tuple[str, int]]] = {"arrays": set(), "attempts": set()}
        self._closed = threading.Event()
        self._writes = threading.RLock()  # commits, and what a merge takes away, one at a time
        self.compactor = Compactor(self._merge_due)
        self.running: Callable[[], Mapping[str, float | None]] = dict
        try:
            self.epoch = new_epoch(self.storage, command)
        except BaseException:
            self._lock.release()
            raise
        try:
            self._heart = threading.Thread(target=self._beat, name="raysweep-heartbeat", daemon=True)
            self._heart.start()  # what follows may take longer than a silence that means death
            self.storage.sweep_temporary()
            unfinished = [e for e in epochs(self.storage) if e < self.epoch and not marked(self.storage, e, "sealed")]
            for epoch in unfinished:
                for folder in TABLES:
                    seal(self.storage, folder, epoch)
            for folder in TABLES:
                self._roll_forward_compaction(folder)
            self.done = self._read_done()
            self._finish_commits(unfinished)
            for epoch in unfinished:
                self.storage.create(f"_epochs/{epoch:08d}.sealed", b"")
            kept = cells_with_checkpoints(self.storage)
            self._forget(itertools.compress(kept, self.done.has(kept)))
        except BaseException:
            self._closed.set()
            with contextlib.suppress(RaysweepError):  # the first one counts
                self._give_back()
            raise

    def __enter__(self) -> StoreWriter:
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
        self._give_back()

    def _give_back(self) -> None:
        try:
            # On a full disk it is not written: no more than a wait for observers on other machines.
            with contextlib.suppress(StoreWriteFailed):
                self.storage.create(f"_epochs/{self.epoch:08d}.released", b"")
        finally:
            self._lock.release()

    def _read_done(self) -> IdSet:
        found = self.store.collect(lambda: self.store.cells.select("cell_id"))["cell_id"]
        try:
            return IdSet(found)
        except (ValueError, TypeError):
            raise StoreDamaged(f"{self.storage}/cells: holds ids that are no cell's (24 hex characters)") from None

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
        given = set(keys(records.attempts))
        known = {key for key in keys(records.cells) if held[key[0]] and key[0] not in replacing}
        for folder, table in (("arrays", records.arrays), ("attempts", records.attempts)):
            written = self._halves[folder]
            if drop := known | (written & given):
                table = table.filter(pa.array([key not in drop for key in keys(table)], pa.bool_()))
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

    def checkpoint_home(self) -> CheckpointLocation:
        """Where this launch's cells keep their checkpoints."""
        proof = f"_epochs/{self.epoch:08d}.json"
        return CheckpointLocation(
            self.storage.location, proof, hashlib.sha256(self.storage.read(proof) or b"").hexdigest()
        )

    def _forget(self, cells: Iterable[str]) -> None:
        """Remove checkpoints of cells whose row is committed."""
        for cell_id in cells:
            self.storage.delete_folder(f"{FOLDER}/{cell_id}")

    def record_sweep(self, about: Mapping[str, Any], table: CellTable, digest: str) -> None:
        """Remember what was asked for, so that `resume` and `status` need no file; once for equal ones."""
        stamped = {**about, "recorded_at": datetime.now(UTC).isoformat(), "epoch": self.epoch}
        recorded = sweep_bytes(stamped, table)
        is_new = self.storage.create(f"_sweeps/{digest}.arrow", recorded)
        if not is_new and not any(
            read_sweep(self.storage, name).own for name in self.storage.names("_sweeps") if name.startswith(digest)
        ):  # somebody else's: this user's too, from now on
            self.storage.create(f"_sweeps/{digest}-{secrets.token_hex(4)}.arrow", recorded)

    def _commit(self, folder: str, table: pa.Table, replaces: Sequence[Segment] = ()) -> None:
        if not table.num_rows and not replaces:
            return
        half = table.num_rows // 2
        if folder == "arrays" and half and not replaces and entries(table) > MAX_VALUES:  # no reader would take it
            self._commit(folder, table.slice(0, half))
            self._commit(folder, table.slice(half))
            return
        self._put(folder, encode(folder, table, replaces=replaces))

    def _put(self, folder: str, segment: bytes) -> None:
        name = segment_name(self.epoch, self._next[folder])
        if not self.storage.create(f"{folder}/{name}", segment):
            raise Fenced(
                f"store {self.storage}: a later launch took it over while this one (epoch {self.epoch}) was paused; "
                "what it had committed is kept, the rest is the other launch's to run"
            )
        self._next[folder] += 1

    def _swap(self, cells: pa.Table, again: set[str]) -> None:
        """Put new rows in the place of old ones in one step: one segment that replaces those that held them."""
        out = pa.array(sorted(again))
        held, kept = [], [cells]
        for segment in self.store.segments("cells"):
            table = read_segment(self.store, segment)
            hit = pc.is_in(table["cell_id"], out)
            if pc.any(hit).as_py():
                held.append(segment)
                kept.append(table.filter(pc.invert(hit)))
        self._commit("cells", pa.concat_tables(kept), held)
        for segment in held:
            self.storage.delete(segment.path)

    # Compaction

    def compact(self) -> dict[str, tuple[int, int]]:
        """Merge small segments; folder -> (segments before, after). Interrupted, the next owner finishes it.

        It also finishes half commits of any age, which `Store.check` may have found.
        """
        with self._writes:
            return self._compact()

    def _compact(self) -> dict[str, tuple[int, int]]:
        report = {}
        self._finish_commits(epochs(self.storage))
        for folder in TABLES:
            before = [s for s in self.store.segments(folder) if not s.seal]
            for run in runs([s for s in before if s.size < SMALL_SEGMENT], MERGED_SEGMENT, MAX_ROWS):
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
                if {s.name for s in batch} <= set(listed(self.storage, folder)):
                    self._replace(folder, merged, batch)
            del merged
            pa.default_memory_pool().release_unused()

    def _merge(self, folder: str, batch: list[Segment]) -> None:
        self._replace(folder, self._merged(folder, batch), batch)

    def _merged(self, folder: str, batch: list[Segment]) -> bytes:
        """One segment of these; a part of their rows is held at a time, as what is held once stays with the process."""
        return encode(folder, parts(self.store, batch), replaces=batch)

    def _replace(self, folder: str, merged: bytes, batch: list[Segment]) -> None:
        self._put(folder, merged)
        for segment in batch:
            self.storage.delete(segment.path)

    def _roll_forward_compaction(self, folder: str) -> None:
        segments = self.store.every_segment(folder)  # a former owner that wakes may be removing some right now
        for segment in filter(replaced_by(segments), segments):
            if not segment.seal:
                self.storage.delete(segment.path)

    def _finish_commits(self, of: list[int]) -> None:
        """Finish commits of these epochs that died between their folders."""

        def written(folder: str) -> list[Segment]:
            return [s for s in self.store.segments(folder) if s.epoch in of and s.rows]

        for segment in written("attempts"):
            ended = read_segment(self.store, segment, ["cell_id", "status"]).to_pydict()
            lost: dict[str, int] = {}
            held = self.done.has(ended["cell_id"])
            for row, (cell_id, status) in enumerate(zip(ended["cell_id"], ended["status"], strict=True)):
                if status == "done" and not held[row]:
                    lost.setdefault(cell_id, row)
            if lost:  # the work is there, durable
                table = read_segment(self.store, segment).take(pa.array(lost.values(), pa.int64()))
                self._commit("cells", table.select(TABLES["cells"].names).cast(TABLES["cells"]))
                self.done.update(list(lost))
        arrays = written("arrays")
        if not arrays:
            return
        known: set[tuple[str, int]] = set()
        for rows in (self.store.attempts, self.store.cells):
            known.update(self.store.collect(rows.select("cell_id", "attempt").lazy).iter_rows())
        for segment in arrays:
            kept = [key in known for key in keys(read_segment(self.store, segment, ["cell_id", "attempt"]))]
            if not all(kept):  # their cell will run again, under the same attempt number
                table = read_segment(self.store, segment).filter(pa.array(kept, pa.bool_()))
                self._commit("arrays", table, [segment])
                self.storage.delete(segment.path)

    # Heartbeat

    def _beat(self) -> None:
        count = 0
        while not self._closed.wait(BEAT_S if count else 0):
            count += 1
            try:
                self.storage.replace(
                    f"_hb/{self.epoch:08d}", json.dumps({"beat": count, "running": self.running()}).encode()
                )
            except (OSError, StoreWriteFailed):
                continue  # a full disk: a lost beat matters only to observers on other machines
