"""The owner of a store: takeover, generation, heartbeat, and commits of single segments. A store has one at a time.

`writer` documents the protocol.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import pyarrow as pa

from raysweep.orchestrator.errors import Fenced, RaysweepError, StoreWriteFailed
from raysweep.orchestrator.store import lease
from raysweep.orchestrator.store.lease import epochs, marked, new_epoch, seal, take_over
from raysweep.orchestrator.store.reader import FOLDERS, FORMAT, MARK, Store
from raysweep.orchestrator.store.schema import SCHEMA_VERSION, TABLES
from raysweep.orchestrator.store.segments import (
    DetailCounts,
    Segment,
    encode,
    entries,
    finish,
    replaced_by,
    segment_name,
)
from raysweep.orchestrator.store.untrusted import MAX_VALUES
from raysweep.orchestrator.waits import waiting


class Owner:
    """A context manager that owns a store.

    Args:
        store: the store to own. It is created if it does not exist. Damaged files raise errors unless the store
            skips them.
        command: the owner's command line, which the error of a second launch shows.
        wait: whether to wait for a living owner to end, instead of raising.

    Raises:
        StoreBusy: another launch owns the store.
        InputError: this process cannot write to the store.
    """

    def __init__(self, store: Store, command: str = "", *, wait: bool = False) -> None:
        self.store, self.storage = store, store.storage
        self.storage.check_writable()
        self.storage.prepare(FOLDERS)
        self.storage.create(MARK, json.dumps({"format": FORMAT, "schema": SCHEMA_VERSION}).encode())
        store.check_format()
        with waiting(f"store {self.storage}, which another launch may own"):
            self._lock = take_over(self.storage, wait, store.skip)
        self._next = dict.fromkeys(TABLES, 0)
        self._closed = threading.Event()
        self.running: Callable[[], Mapping[str, float | None]] = dict
        self.is_fenced = False  # a later launch owns the store
        self.on_fenced: Callable[[], None] = lambda: None  # called once then, by the heartbeat's thread
        try:
            self.epoch = new_epoch(self.storage, command)
        except BaseException:
            self._lock.release()
            raise
        try:
            self._heart = threading.Thread(target=self._beat, name="raysweep-heartbeat", daemon=True)
            self._heart.start()  # before steps that may take longer than `DEAD_AFTER_S`
            self.storage.sweep_temporary()
            unfinished = [e for e in epochs(self.storage) if e < self.epoch and not marked(self.storage, e, "sealed")]
            for epoch in unfinished:
                for folder in TABLES:
                    seal(self.storage, folder, epoch, store.skip)
            for folder in TABLES:
                self._roll_forward_compaction(folder)
            self._begin(unfinished)
            for epoch in unfinished:
                self.storage.create(f"_epochs/{epoch:08d}.sealed", b"")
        except BaseException:
            self._closed.set()
            with contextlib.suppress(RaysweepError):  # the first error is the one to report
                self._release()
            raise

    def _begin(self, unfinished: list[int]) -> None:
        """Finish the interrupted work of earlier owners. `unfinished`: the generations that this owner sealed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the store, so that the next owner need not wait for this one to be presumed dead."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._heart.join()
        self._release()

    def _release(self) -> None:
        try:
            # If this fails (a full disk), observers on other machines wait until the heartbeat is silent.
            with contextlib.suppress(StoreWriteFailed):
                self.storage.create(f"_epochs/{self.epoch:08d}.released", b"")
        finally:
            self._lock.release()

    def _commit(
        self, folder: str, table: pa.Table, replaces: Sequence[Segment] = (), counts: DetailCounts | None = None
    ) -> None:
        if not table.num_rows and not replaces:
            return
        half = table.num_rows // 2
        if folder == "arrays" and half and not replaces and entries(table) > MAX_VALUES:  # readers refuse more
            self._commit(folder, table.slice(0, half))
            self._commit(folder, table.slice(half))
            return
        self._put(folder, encode(folder, table, replaces=replaces, detail_counts=counts))

    def _put(self, folder: str, encoded: io.BytesIO) -> None:
        name = segment_name(self.epoch, self._next[folder])
        if not self.storage.create(f"{folder}/{name}", finish(encoded, name)):
            raise self.fenced()
        self._next[folder] += 1

    def fenced(self) -> Fenced:
        """Return the error to raise in a launch whose store was taken over."""
        return Fenced(
            f"store {self.storage}: a later launch took it over while this one (epoch {self.epoch}) was paused; "
            "the commits of this one are safe, and the later launch runs the remaining cells"
        )

    def _roll_forward_compaction(self, folder: str) -> None:
        segments = self.store.every_segment(folder)  # a former owner that wakes may be deleting some right now
        for segment in filter(replaced_by(segments), segments):
            if not segment.seal:
                self.storage.delete(segment.path)

    # Heartbeat

    def _beat(self) -> None:
        count = 0
        while not self._closed.wait(lease.BEAT_S if count else 0):
            count += 1
            try:
                beat = {"beat": count, "epoch": self.epoch, "running": self.running()}
                self.storage.replace(f"_hb/{self.epoch:08d}", json.dumps(beat).encode())
                if marked(self.storage, self.epoch + 1, "json"):
                    self.is_fenced = True
                    self.on_fenced()
                    return
            except (OSError, RaysweepError):
                continue  # such as on a full disk: a lost beat matters only to observers on other machines
