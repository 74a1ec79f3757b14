"""Owners, commits, merges, crashes, take-overs and late writes in any order, against a model of the store.

The model is what the owners were told: the rows that were acknowledged, and those of an interrupted operation, which
may be there or not. Each submitted row has a serial number of its own, which its arrays repeat; so a row of a lost
attempt cannot pass for another.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from raysweep.orchestrator.errors import Fenced, StoreBusy
from raysweep.orchestrator.launch.record import record
from raysweep.orchestrator.run.messages import Array, CompletedAttempt, Outcome, Worker
from raysweep.orchestrator.store import compaction, reader
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import Records
from raysweep.orchestrator.store.storage.local import LocalStorage
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.cells import CellTable, expand
from raysweep.orchestrator.sweep.spec import Sweep
from tests.conftest import TINY
from tests.memory_store import MemoryStorage
from tests.orchestrator.store.owners import die, let_go

CELLS = 4
FAN = 2
WORKER = Worker("host", None, 1, "cpu", "digest", "path", "{}")
SWEEP = f'name = "p"\nworkload = "tiny:run"\nseeds = "0..{CELLS - 1}"\n[[grid]]\nmethod = "m"\n'
CHANGES = ("create", "exchange", "delete")
FOLDERS = ("cells", "attempts", "arrays")


class Killed(BaseException):
    """The process dies here."""


class Mortal:
    """An owner's view of the storage: it dies before a chosen change, which may still take effect later.

    Args:
        storage: the storage.
        late: changes that may take effect later; this view appends to it.
        sent: the segments that were created; this view appends to it.
    """

    def __init__(self, storage: Storage, late: list[tuple[str, Any]], sent: list[tuple[str, bytes]]) -> None:
        self._storage, self._late, self._sent = storage, late, sent
        self.left: int | None = None  # changes before death; None: no death
        self.is_late = False

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._storage, name)
        if name not in CHANGES or threading.current_thread() is not threading.main_thread():
            return operation

        def change(*arguments: Any) -> Any:
            if self.left == 0:
                if self.is_late:
                    self._late.append((name, arguments))
                raise Killed
            if self.left is not None:
                self.left -= 1
            if name == "create" and arguments[0].startswith(FOLDERS):
                self._sent.append(arguments)
            return operation(*arguments)

        return change

    def __str__(self) -> str:
        return str(self._storage)


@dataclass
class Process:
    """An owner, and what it knows of the number of attempts per cell."""

    owner: StoreWriter
    view: Mortal
    attempts: dict[str, int]
    superseded: bool = False  # a later owner has begun


@dataclass
class Model:
    """What may be read: serial numbers of the rows by cell."""

    done: dict[str, int] = field(default_factory=dict)  # acknowledged, or seen
    possible: dict[str, set[int]] = field(default_factory=dict)  # of interrupted operations
    attempts: dict[tuple[str, int], int] = field(default_factory=dict)  # acknowledged: (cell, attempt) -> serial
    submitted: set[int] = field(default_factory=set)


class Protocol(RuleBasedStateMachine):
    """A store on `storage`, which each subclass makes."""

    table: CellTable

    def make_storage(self) -> Storage:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.storage = self.make_storage()
        self.ids = self.table.cells["cell_id"].to_list()
        self.model = Model()
        self.serial = itertools.count(1)
        self.current: Process | None = None
        self.zombies: list[Process] = []
        self.late: list[tuple[str, Any]] = []
        self.sent: list[tuple[str, bytes]] = []

    def opened(self, storage: Any = None) -> Store:
        with mock.patch.object(reader, "open_storage", return_value=storage or self.storage):
            return Store("results")

    def rows(self, process: Process, rows: set[int], status: str) -> tuple[Records, dict[str, int]]:
        """Records of the next attempts at these cells, and their serial numbers."""
        outcomes, serials = [], {}
        for row in sorted(rows):
            cell = self.ids[row]
            serial = next(self.serial)
            serials[cell] = serial
            arrays = (
                Array("a", 0, 1, np.full(2, serial, np.float32)),
                Array("b", 0, 1, np.full(1, serial, np.float64)),
            )
            attempt = process.attempts.get(cell, 0) + 1
            outcomes.append(
                Outcome(row, attempt, status, 1.0, 2.0, float(serial), metrics={"n": serial}, arrays=arrays)
            )
        self.model.submitted |= set(serials.values())
        completed = [CompletedAttempt(outcome, WORKER) for outcome in outcomes]
        return record(completed, self.table.cells, self.table.variants, process.owner.epoch, {}), serials

    def bury(self, process: Process) -> None:
        """End a process that has died."""
        process.owner._closed.set()
        process.owner._lock.release()
        die(self.storage, process.owner.epoch)
        if process is self.current:
            self.current = None
        else:
            self.zombies.remove(process)

    def doomed(self, process: Process, changes: int | None, is_late: bool) -> None:
        process.view.left, process.view.is_late = changes, is_late

    # Rules. What dies has rules of its own: of one rule with a chance of death, the search tries too few deaths.

    cells = st.sets(st.integers(0, CELLS - 1), min_size=1, max_size=2)

    @rule()
    def take_over(self) -> None:
        if self.current is None:
            self.begin_owner(None, False)
            return
        with pytest.raises(StoreBusy):
            StoreWriter(self.opened())

    @precondition(lambda self: self.current is None)
    @rule(changes=st.integers(0, 15), is_late=st.booleans())
    def die_in_a_take_over(self, changes: int, is_late: bool) -> None:
        self.begin_owner(changes, is_late)

    def begin_owner(self, changes: int | None, is_late: bool) -> None:
        view = Mortal(self.storage, self.late, self.sent)
        view.left, view.is_late = changes, is_late
        before = self.storage.names("_epochs")
        try:
            owner = StoreWriter(self.opened(view))
        except Killed:
            for name in set(self.storage.names("_epochs")) - set(before):
                if name.endswith(".json"):
                    die(self.storage, int(name[:8]))
            return
        summary = self.opened().summary()
        attempts = dict(summary.select("cell_id", "attempts").iter_rows())
        view.left = None
        self.current = Process(owner, view, attempts)
        for zombie in self.zombies:
            zombie.superseded = True

    @precondition(lambda self: self.current is not None)
    @rule()
    def freeze(self) -> None:
        """The owner is presumed dead, but is not."""
        let_go(self.current.owner)
        self.zombies.append(self.current)
        self.current = None

    def processes(self) -> list[Process]:
        return [*([self.current] if self.current else []), *self.zombies]

    @precondition(lambda self: self.processes())
    @rule(which=st.integers(0, 1), cells=cells, status=st.sampled_from(["done", "done", "failed"]), rerun=st.booleans())
    def commit(self, which: int, cells: set[int], status: str, rerun: bool) -> None:
        """Append rows; of cells that are done, too, if they are run again on purpose."""
        self.append(which, cells, status, rerun, None, False)

    @precondition(lambda self: self.processes())
    @rule(which=st.integers(0, 1), cells=cells, rerun=st.booleans(), changes=st.integers(0, 2), is_late=st.booleans())
    def die_in_a_commit(self, which: int, cells: set[int], rerun: bool, changes: int, is_late: bool) -> None:
        """Die before the rows of `arrays`, `attempts` or `cells` are written."""
        self.append(which, cells, "done", rerun, changes, is_late)

    def append(self, which: int, cells: set[int], status: str, rerun: bool, changes: int | None, is_late: bool) -> None:
        process = self.processes()[which % len(self.processes())]
        rows = {row for row in cells if rerun or self.ids[row] not in process.owner.done}
        if not rows:
            return
        status = "done" if rerun else status
        records, serials = self.rows(process, rows, status)
        again = frozenset(cell for cell in serials if cell in process.owner.done) if rerun else frozenset[str]()
        self.doomed(process, changes, is_late)
        try:
            process.owner.append(records, again)
        except Fenced:
            assert any(e > process.owner.epoch for e in map(int, (n[:8] for n in self.storage.names("_epochs"))))
            self.bury(process)
            return
        except Killed:
            if status == "done":
                for cell, serial in serials.items():
                    self.model.possible.setdefault(cell, set()).add(serial)
            self.bury(process)
            return
        assert not process.superseded, "an owner has committed after another took its store over"
        process.view.left = None
        for cell, serial in serials.items():
            process.attempts[cell] = process.attempts.get(cell, 0) + 1
            self.model.attempts[cell, process.attempts[cell]] = serial
            if status == "done":
                self.model.done[cell] = serial
                self.model.possible.pop(cell, None)

    @precondition(lambda self: self.processes())
    @rule(which=st.integers(0, 1), folder=st.sampled_from(FOLDERS))
    def merge(self, which: int, folder: str) -> None:
        """Merge what is due, as a launch does."""
        self.merged(which, lambda owner: owner._merge_due(folder), None, False)

    @precondition(lambda self: self.current is not None)
    @rule()
    def compact(self) -> None:
        """Merge all segments, as `store compact` does."""
        self.merged(0, StoreWriter.compact, None, False)

    @precondition(lambda self: self.processes())
    @rule(which=st.integers(0, 1), changes=st.integers(0, 15), is_late=st.booleans())
    def die_in_a_merge(self, which: int, changes: int, is_late: bool) -> None:
        self.merged(which, StoreWriter.compact, changes, is_late)

    def merged(self, which: int, merge: Callable[[StoreWriter], object], changes: int | None, is_late: bool) -> None:
        process = self.processes()[which % len(self.processes())]
        self.doomed(process, changes, is_late)
        try:
            merge(process.owner)
        except (Killed, Fenced):
            self.bury(process)
            return
        process.view.left = None

    @precondition(lambda self: self.current is not None)
    @rule()
    def close(self) -> None:
        self.current.owner.close()
        self.current = None

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 9))
    def late_change_takes_effect(self, which: int) -> None:
        name, arguments = self.late.pop(which % len(self.late))
        getattr(self.storage, name)(*arguments)

    def merged_away(self) -> list[tuple[str, bytes]]:
        """Segments of which no file is left."""
        names = {folder: set(self.storage.names(folder)) for folder in FOLDERS}
        return [(path, data) for path, data in self.sent if path.split("/")[1] not in names[path.split("/")[0]]]

    @precondition(lambda self: self.merged_away())
    @rule(which=st.integers(0, 9))
    def old_write_arrives_again(self, which: int) -> None:
        """A network may deliver a request twice, the second time long after."""
        gone = self.merged_away()
        self.storage.create(*gone[which % len(gone)])

    @precondition(lambda self: self.current is None and self.storage.names("_epochs"))
    @rule()
    def settle(self) -> None:
        """The next owner leaves a sound store, in which a plain glob reads each row once."""
        with StoreWriter(self.opened()) as owner:
            owner.compact()
        for zombie in self.zombies:
            zombie.superseded = True
        store = self.opened()
        assert store.check() == []
        for folder in ("cells", "attempts"):
            assert all(segment.seal or segment in store.segments(folder) for segment in store.every_segment(folder))

    # What each reader sees at each moment

    @invariant()
    def each_acknowledged_row_is_there_once(self) -> None:
        if not hasattr(self, "storage") or not self.storage.names("cells"):
            return
        store = self.opened()
        cells = store.cells.collect()
        assert cells["cell_id"].is_duplicated().sum() == 0
        rows = {cell: int(seconds) for cell, seconds in cells.select("cell_id", "seconds").iter_rows()}
        for cell, serial in rows.items():
            known = {self.model.done.get(cell), *self.model.possible.get(cell, ())}
            assert serial in known, f"{cell}: row {serial}, of which the model knows {known}"
            if serial != self.model.done.get(cell):
                self.model.possible[cell].discard(serial)
                self.model.done[cell] = serial  # seen once, it stays
        assert self.model.done.keys() <= rows.keys(), "an acknowledged row is gone"
        attempts = store.attempts.select("cell_id", "attempt", "seconds").collect()
        assert attempts.select("cell_id", "attempt").is_duplicated().sum() == 0
        recorded = {(cell, attempt): int(seconds) for cell, attempt, seconds in attempts.iter_rows()}
        assert self.model.attempts.items() <= recorded.items(), "an acknowledged attempt is gone or another"
        first = pl.coalesce(pl.col("values").list.first().cast(pl.Float64), pl.col("values_f64").list.first())
        arrays = store.arrays.join(store.cells, on=["cell_id", "attempt"], how="semi").select("cell_id", "name", first)
        expected = sorted((cell, name, float(serial)) for cell, serial in rows.items() for name in "ab")
        assert sorted(arrays.collect().iter_rows()) == expected

    def teardown(self) -> None:
        for process in self.processes() if hasattr(self, "zombies") else ():
            process.owner._closed.set()
            process.owner._heart.join()
            process.owner._lock.release()


class OnDisk(Protocol):
    def make_storage(self) -> Storage:
        self.folder = tempfile.mkdtemp()
        return LocalStorage(str(Path(self.folder) / "store"))

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


class InBucket(Protocol):
    def make_storage(self) -> Storage:
        return MemoryStorage()


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """Small merges, the workload's module in a folder, and no thread where one would do nothing but wait."""
    (folder / "tiny.py").write_text(textwrap.dedent(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        Protocol.table = expand([Sweep.from_text(SWEEP)])
        patch.setattr("os.fsync", lambda descriptor: None)  # here processes die, and machines do not
        patch.setattr(MemoryStorage, "readers", 1)
        patch.setattr(compaction, "FAN", FAN)
        patch.setattr(compaction.Compactor, "committed", lambda self, folder: None)  # a rule merges
        patch.setenv("AWS_REGION", "us-east-1")
        yield


@pytest.fixture(autouse=True)
def _prepared(folder: Path) -> Iterator[None]:
    with prepared(folder):
        yield


@pytest.mark.parametrize(
    ("examples", "steps"), [(5, 12), pytest.param(1000, 30, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("machine", [OnDisk, InBucket])
def test_any_order_of_events_loses_and_doubles_nothing(machine: type[Protocol], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), print_blob=False,
        ),
    )  # fmt: skip
