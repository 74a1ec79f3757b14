"""Stage 7, writing: the owner of a store, its commits, and compaction.

The protocol (documented in `docs/store.md`):

1. *Liveness.* A launch takes the host-wide lock, which is freed when its process dies. An owner on another
   machine is alive if its heartbeat counter changes within a time that the observer measures with its own
   monotonic clock.
2. *Generation.* The launch creates `_epochs/N.json`, if absent. Its segments are then named `N-...`.
3. *Seal.* The launch occupies the next segment name of every earlier generation, in every folder. A paused
   earlier owner that wakes finds its next name taken, and can never commit again.
4. *Commit.* Details, such as arrays, are written first, then attempts, then cells. A cell is done when its row in
   `cells` exists. A cell that is already done is never written again, so duplicates are impossible.
5. *Half commits.* A commit may be interrupted between folders. The next owner finishes it before any new attempt
   is numbered. A done attempt without a row in `cells` gets this row. Details whose attempt was never written
   are removed, since their cell will run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from raysweep.orchestrator.code.source import Source
from raysweep.orchestrator.errors import InputError, StoreDamaged, StoreWriteFailed
from raysweep.orchestrator.process import held_off
from raysweep.orchestrator.store import artifacts, documents, live
from raysweep.orchestrator.store.checkpoints import FOLDER, CheckpointLocation, cells_with_checkpoints
from raysweep.orchestrator.store.columns import column
from raysweep.orchestrator.store.compaction import Compactor, batches, runs
from raysweep.orchestrator.store.id_set import IdSet
from raysweep.orchestrator.store.lease import epochs
from raysweep.orchestrator.store.owner import Owner
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import COUNTED, DETAILS, TABLES, Records
from raysweep.orchestrator.store.segments import (
    Segment,
    encode,
    keys,
    listed,
    parts,
    read_segment,
    run_lengths,
)
from raysweep.orchestrator.store.sweeps import is_own_record, sweep_bytes
from raysweep.orchestrator.store.untrusted import MAX_ROWS
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.waits import waiting

SMALL_SEGMENT, MERGED_SEGMENT = 32 * 2**20, 128 * 2**20
"""Sizes in bytes. `compact` merges segments smaller than the first into segments of at most the second."""


class StoreWriter(Owner):
    """An owner that commits the outcomes of cells and merges segments."""

    def __init__(self, store: Store, command: str = "", *, wait: bool = False) -> None:
        if store.skip_damaged:  # cells whose rows cannot be read would run a second time
            raise InputError(f"store {store.storage}: opened with skip_damaged, and so only for reading")
        # (cell, attempt) pairs that a failed commit has written to a folder; they are not written again.
        self._half_written: dict[str, set[tuple[str, int]]] = {folder: set() for folder in (*DETAILS, "attempts")}
        self._environments: set[str] = set()  # digests of those that are recorded
        self._writes = threading.RLock()  # serialises commits and the deletions of merges
        self.compactor = Compactor(self._merge_due)
        super().__init__(store, command, wait=wait)

    def _begin(self, unfinished: list[int]) -> None:
        self.done = self._read_done()
        self._finish_commits(unfinished)
        self._remove_unnamed(unfinished)
        for name in self.storage.names(live.FOLDER):
            self.storage.delete(f"{live.FOLDER}/{name}")
        checkpointed = cells_with_checkpoints(self.storage)
        self._forget(itertools.compress(checkpointed, self.done.has(checkpointed)))

    def close(self) -> None:
        """Release the store, so that the next owner need not wait for this one to be presumed dead."""
        with waiting(f"the last write to store {self.storage}"):
            self.compactor.end()
            super().close()

    def _read_done(self) -> IdSet:
        ids = self.store.collect(lambda: self.store.cells.select("cell_id"))["cell_id"]
        try:
            return IdSet(ids)
        except (ValueError, TypeError):
            raise StoreDamaged(f"{self.storage}/cells: contains cell ids that are not 24 hex characters") from None

    # Commits

    def append(self, records: Records, replacing: frozenset[str] = frozenset()) -> int:
        """Commit rows durably, and return the number of cells that became done.

        Ctrl-C and other signals are deferred until the commit has ended. After a failure the same rows may be passed
        again: no row is written twice.

        Args:
            records: the rows. Rows of cells that are done already are dropped, except for cells in `replacing`.
            replacing: ids of cells that were run again on purpose; their new rows replace the old ones.

        Raises:
            Fenced: a later launch owns the store.
            StoreWriteFailed: the storage cannot be written to; earlier commits are safe.
        """
        with held_off(), self._writes, waiting(f"a commit to store {self.storage}"):
            done = self._append(records, replacing)
        for folder in TABLES:
            self.compactor.committed(folder)
        return done

    def _append(self, records: Records, replacing: frozenset[str]) -> int:
        ids: list[str] = records.cells["cell_id"].to_pylist()
        is_new, seen = [], set()
        is_done = dict(zip(ids, self.done.has(ids), strict=True))
        for cell_id in ids:
            is_new.append(cell_id not in seen and (cell_id in replacing or not is_done[cell_id]))
            seen.add(cell_id)
        cells = records.cells.filter(column(is_new, pa.bool_()))
        attempts = set(keys(records.attempts))
        details = Counter(key for folder in COUNTED for key in keys(getattr(records, folder)))
        repeated = {key for key in keys(records.cells) if is_done[key[0]] and key[0] not in replacing}
        for path, content in records.contents.items():
            artifacts.keep(self.storage, path, content)
        for folder in (*DETAILS, "attempts"):
            table = getattr(records, folder)
            written = self._half_written[folder]
            if drop := repeated | (written & attempts):
                table = table.filter(column([key not in drop for key in keys(table)], pa.bool_()))
            counts = run_lengths(details[key] for key in keys(table)) if folder == "attempts" else None
            self._commit(folder, table, (), counts)
            written |= attempts
        new = list(itertools.compress(ids, is_new))
        rerun = {cell_id for cell_id in new if is_done[cell_id] and cell_id in replacing}
        if rerun:
            self._swap(cells, rerun)
        else:
            self._commit("cells", cells)
        self.done.update(new)
        for written in self._half_written.values():
            written -= attempts
        self._forget(records.checkpointed)
        for cell_id, attempt in records.live:
            self.storage.delete(live.path_of(cell_id, attempt))
        return len(new)

    def checkpoint_home(self) -> CheckpointLocation:
        """Return the location where this launch's cells store checkpoints."""
        proof = f"_epochs/{self.epoch:08d}.json"
        return CheckpointLocation(
            self.storage.location, proof, hashlib.sha256(self.storage.read(proof) or b"").hexdigest()
        )

    def publish(self, cell_id: str, attempt: int, state: bytes) -> None:
        """Publish the state of a running cell for a worker that cannot reach the store."""
        with contextlib.suppress(OSError, StoreWriteFailed):  # such as on a full disk: the next state follows
            self.storage.replace(live.path_of(cell_id, attempt), state)

    def _forget(self, cells: Iterable[str]) -> None:
        """Remove the checkpoints of these cells, whose rows are committed."""
        for cell_id in cells:
            self.storage.delete_folder(f"{FOLDER}/{cell_id}")

    def record_sweep(self, metadata: Mapping[str, Any], table: CellTable, digest: str) -> None:
        """Record the requested cells, so that `resume` and `status` need no sweep file.

        A record with the same digest is written only once per user.
        """
        stamped = {**metadata, "recorded_at": datetime.now(UTC).isoformat(), "epoch": self.epoch, "digest": digest}
        names = [name for name in self.storage.names("_sweeps") if name.startswith(digest)]
        if any(is_own_record(self.storage, name) for name in names):
            return
        recorded = sweep_bytes(stamped, table)
        if not self.storage.create(f"_sweeps/{digest}.arrow", recorded):  # only other users have recorded it
            self.storage.create(f"_sweeps/{digest}-{secrets.token_hex(4)}.arrow", recorded)

    def record_environment(self, document: bytes) -> None:
        """Record the environment of a worker before rows refer to it. Each environment is written only once."""
        digest = hashlib.sha256(document).hexdigest()[:16]
        if document and digest not in self._environments:
            documents.write(self.storage, documents.ENVIRONMENTS, digest, document)
            self._environments.add(digest)

    def record_source(self, digest: str, source: Source) -> None:
        """Record a source before rows refer to its digest. Each source is written only once."""
        documents.write_source(self.storage, digest, source)

    def _swap(self, cells: pa.Table, rerun: set[str]) -> None:
        """Commit rows of rerun cells in one step: one new segment replaces all segments that hold their old rows."""
        import pyarrow.compute as pc

        replaced_ids = pa.array(sorted(rerun))
        replaced, tables = [], [cells]
        for segment in self.store.segments("cells"):
            table = read_segment(self.storage, segment)
            is_old = pc.is_in(table["cell_id"], replaced_ids)
            if pc.any(is_old).as_py():
                replaced.append(segment)
                tables.append(table.filter(pc.invert(is_old)))
        self._commit("cells", pa.concat_tables(tables), replaced)
        for segment in replaced:
            self.storage.delete(segment.path)

    # Compaction

    def compact(self) -> dict[str, tuple[int, int]]:
        """Merge small segments, and return the numbers of segments before and after, by folder.

        Before that, finish interrupted commits of all generations. If a merge is interrupted, the next owner finishes
        it.
        """
        report = {}
        with self._writes:
            self._finish_commits(epochs(self.storage))
            self._remove_unnamed([epoch for epoch in epochs(self.storage) if epoch < self.epoch])
            for folder in TABLES:
                before = [s for s in self.store.segments(folder) if not s.seal]
                for run in runs([s for s in before if s.size < SMALL_SEGMENT], MERGED_SEGMENT, MAX_ROWS):
                    if len(run) > 1:
                        self._merge(folder, run)
                if before:
                    report[folder] = (len(before), len([s for s in self.store.segments(folder) if not s.seal]))
        return report

    def _merge_due(self, folder: str) -> None:
        """Merge the groups of the folder's segments that are due (see `batches`). Runs on the compactor's thread."""
        for batch in batches(self.store.segments(folder)):
            try:
                merged = self._merged(folder, batch)
            except FileNotFoundError:  # a swap has deleted a segment
                continue
            with self._writes:
                # A swap may have deleted a segment since: its old rows must not come back.
                if {s.name for s in batch} <= set(listed(self.storage, folder)):
                    self._replace(folder, merged, batch)
            del merged
            pa.default_memory_pool().release_unused()

    def _merge(self, folder: str, batch: list[Segment]) -> None:
        self._replace(folder, self._merged(folder, batch), batch)

    def _merged(self, folder: str, batch: list[Segment]) -> io.BytesIO:
        """Encode these segments as one.

        They are read in parts: the process never gives back memory that Arrow has used.
        """
        return encode(folder, parts(self.storage, batch), replaces=batch)

    def _replace(self, folder: str, merged: io.BytesIO, batch: list[Segment]) -> None:
        self._put(folder, merged)
        for segment in batch:
            self.storage.delete(segment.path)

    def _finish_commits(self, generations: list[int]) -> None:
        """Finish the commits of these generations that were interrupted between folders."""

        def written(folder: str) -> list[Segment]:
            return [s for s in self.store.segments(folder) if s.epoch in generations and s.rows]

        for segment in written("attempts"):
            ended = pl.DataFrame(pl.from_arrow(read_segment(self.storage, segment, ["cell_id", "status"])))
            done = ended.with_row_index("row").filter(pl.col("status") == "done")
            is_done = pl.Series(self.done.has(done["cell_id"]), dtype=pl.Boolean)
            lost = done.filter(~is_done).unique("cell_id", keep="first", maintain_order=True)
            if lost.height:  # done, but without a row in `cells`
                rows = column(lost["row"].to_list(), pa.int64())
                table = read_segment(self.storage, segment).take(rows)
                self._commit("cells", table.select(TABLES["cells"].names).cast(TABLES["cells"]))
                self.done.update(lost["cell_id"])
        details = {folder: segments for folder in DETAILS if (segments := written(folder))}
        if not details:
            return
        recorded: set[tuple[str, int]] = set()
        for rows in (self.store.attempts, self.store.cells):
            recorded.update(self.store.collect(rows.select("cell_id", "attempt").lazy).iter_rows())
        for folder, segments in details.items():
            for segment in segments:
                keep = [key in recorded for key in keys(read_segment(self.storage, segment, ["cell_id", "attempt"]))]
                if not all(keep):  # the cell will run again, under the same attempt number
                    table = read_segment(self.storage, segment).filter(pa.array(keep, pa.bool_()))
                    self._commit(folder, table, [segment])
                    self.storage.delete(segment.path)

    def _remove_unnamed(self, generations: list[int]) -> None:
        """Remove the contents of artifacts that these generations wrote without committing their rows."""
        if any(self.storage.names(f"{artifacts.FOLDER}/{epoch:08d}") for epoch in generations):
            rows = self.store.collect(lambda: self.store.scan("artifacts"))
            for epoch in generations:
                artifacts.remove_unnamed(self.storage, epoch, rows)
