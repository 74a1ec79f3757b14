"""The commit protocol: what is acknowledged stays, once; a torn or foreign file is named, never skipped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from orchestrator.cells import CellTable, expand
from orchestrator.chunk import Array, Outcome, Worker
from orchestrator.errors import Fenced, InputError, StoreBusy, StoreDamaged, StoreWriteFailed
from orchestrator.local_disk import Lock
from orchestrator.owner import Owner
from orchestrator.record import Finished, Records, record
from orchestrator.schema import ARRAYS, ATTEMPTS, CELLS
from orchestrator.segments import encode, segment_name
from orchestrator.spec import Sweep
from orchestrator.store import Store
from tests.conftest import SWEEP, TINY

WORKER = Worker("host", None, 1, "cpu", "digest", "path", "{}")


@pytest.fixture
def table(write) -> CellTable:
    write("tiny.py", TINY)
    return expand([Sweep.from_text(SWEEP)])


@pytest.fixture
def records(table: CellTable):
    def make(rows: range, epoch: int = 0, attempt: int = 1, status: str = "done") -> Records:
        curve = Array("curve", 0, 1, np.arange(3, dtype=np.float32))
        now = time.time()
        outcomes = [
            Outcome(r, attempt, status, now, now, 0.5, metrics={"value": float(r)}, arrays=(curve,)) for r in rows
        ]
        return record([Finished(o, WORKER) for o in outcomes], table.cells, table.variants, epoch, {})

    return make


def test_committed_rows_are_read_back_once(folder: Path, table: CellTable, records) -> None:
    store = Store("results")
    with Owner(store) as owner:
        assert owner.append(records(range(4))) == 4
        assert owner.append(records(range(2, 6))) == 2  # what is done already is dropped
    cells = store.cells.collect()
    assert cells["cell_id"].to_list() == table.cells["cell_id"][:6].to_list()
    assert store.check() == []
    for reader in (
        pl.scan_parquet("results/cells/*.parquet").select("cell_id").collect().height,
        duckdb.sql("SELECT cell_id FROM 'results/cells/*.parquet'").fetchall().__len__(),
    ):
        assert reader == 6


def test_schema_is_pinned() -> None:
    assert CELLS.names[:6] == ["cell_id", "sweep", "experiment", "workload", "workload_version", "method"]
    assert ATTEMPTS.names == [*CELLS.names, "error_type", "error_message", "traceback", "log_tail"]
    assert ARRAYS.names == ["cell_id", "attempt", "name", "step", "stride", "values", "values_f64"]
    assert str(CELLS.field("metrics").type) == "list<item: struct<name: string, value: double>>"


def test_second_owner_is_refused_and_told_by_whom(folder: Path) -> None:
    with Owner(Store("results"), "raysweep launch first"), pytest.raises(StoreBusy, match="raysweep launch first"):
        Owner(Store("results"))
    Owner(Store("results")).close()


def test_a_paused_owner_is_fenced(folder: Path, records, monkeypatch: pytest.MonkeyPatch) -> None:
    zombie = Owner(Store("results"))
    zombie.append(records(range(2)))
    zombie._lock.release()  # as if its machine were partitioned away: the lock is free, it lives on
    with Owner(Store("results")) as owner:
        with pytest.raises(Fenced, match="took it over"):
            zombie.append(records(range(2, 4)))
        owner.append(records(range(4, 5), owner.epoch))
    zombie._lock = Lock(-1)
    zombie._lock._descriptor = None
    zombie.close()
    assert Store("results").cells.collect().height == 3
    assert Store("results").check() == []


def test_zombie_that_wins_the_race_for_a_name_is_sealed_behind(folder: Path, records) -> None:
    first = Owner(Store("results"))
    first._lock.release()
    first.append(records(range(1)))
    original = first.disk.create
    with Owner(Store("results")) as second:
        assert original(f"cells/{segment_name(0, 1)}", b"") is False  # occupied by the seal
        assert second.done == set(Store("results").cells.collect()["cell_id"])


def test_interrupted_commit_is_rolled_forward(folder: Path, table: CellTable, records) -> None:
    owner = Owner(Store("results"))
    made = records(range(3))
    owner._commit("arrays", made.arrays)
    owner._commit("attempts", made.attempts)  # killed here, before the cells
    owner._lock.release()
    store = Store("results")
    assert store.cells.collect().height == 0
    Owner(store).close()
    assert store.cells.collect()["cell_id"].to_list() == table.cells["cell_id"][:3].to_list()
    assert store.check() == []


def test_compaction_keeps_every_row(folder: Path, records) -> None:
    store = Store("results")
    with Owner(store) as owner:
        for row in range(8):
            owner.append(records(range(row, row + 1)))
        assert owner.compact() == {"arrays": (8, 1), "attempts": (8, 1), "cells": (8, 1)}
    assert pl.read_parquet("results/cells/*.parquet")["cell_id"].n_unique() == 8
    assert store.arrays.collect().height == 8
    assert store.check() == []


def test_interrupted_compaction_is_honoured_said_and_finished(folder: Path, records) -> None:
    store = Store("results")
    owner = Owner(store)
    for row in range(3):
        owner.append(records(range(row, row + 1)))
    kept, owner.disk.delete = owner.disk.delete, lambda name: None  # killed before it deletes
    owner._merge("cells", store.segments("cells"))
    owner.disk.delete = kept
    owner._lock.release()
    assert store.cells.collect().height == 3
    assert len([p for p in store.check() if "compaction was interrupted" in p]) == 1
    Owner(Store("results")).close()
    assert Store("results").check() == []
    assert pl.read_parquet("results/cells/*.parquet").height == 3


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", b"x" * 100])
def test_torn_file_is_named(folder: Path, records, content: bytes) -> None:
    with Owner(Store("results")) as owner:
        owner.append(records(range(2)))
    name = segment_name(0, 7)
    (folder / "results/cells" / name).write_bytes(content)
    with pytest.raises(StoreDamaged, match=name):
        Store("results").cells.collect()
    assert [name in p for p in Store("results").check()] == [True]


def test_foreign_files_and_schemas_are_named(folder: Path, records, cli) -> None:
    with Owner(Store("results")) as owner:
        owner.append(records(range(2)))
    pl.DataFrame({"a": [1]}).write_parquet("results/cells/mine.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(f"results/attempts/{segment_name(0, 9)}")
    said = Store("results").check()
    assert len(said) == 2
    assert "cells/mine.parquet" in " ".join(said)
    assert segment_name(0, 9) in " ".join(said)
    assert cli("store", "check").returncode == 1
    assert cli("query", "SELECT * FROM cells").returncode == 2


def test_replaced_names_can_reach_nothing_outside_the_folder(folder: Path, records) -> None:
    with Owner(Store("results")) as owner:
        owner.append(records(range(2)))
    hostile = encode("cells", CELLS.empty_table(), replaces=["../../precious.parquet"])
    (folder / "results/cells" / segment_name(5, 0)).write_bytes(hostile)
    (folder / "precious.parquet").write_text("mine")
    with pytest.raises(StoreDamaged, match="list of replaced segments"):
        Owner(Store("results"))
    assert (folder / "precious.parquet").read_text() == "mine"


def test_flipped_byte_is_found_by_check(folder: Path, records) -> None:
    with Owner(Store("results")) as owner:
        owner.append(records(range(8)))
    path = folder / "results/cells" / segment_name(0, 0)
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert len(Store("results").check()) >= 1


def test_newer_format_is_refused(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "results/store.json").write_text(json.dumps({"format": 99, "schema": 1}))
    with pytest.raises(InputError, match="upgrade"):
        Store("results")


def test_full_disk_acknowledges_nothing_it_lost(folder: Path, records, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import local_disk

    store = Store("results")
    with Owner(store) as owner:
        owner.append(records(range(2)))
        written = local_disk._write_synced

        def full(path: Path, data: bytes) -> None:
            path.write_bytes(data[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(local_disk, "_write_synced", full)
        with pytest.raises(StoreWriteFailed, match="No space left"):
            owner.append(records(range(2, 4)))
        monkeypatch.setattr(local_disk, "_write_synced", written)
        assert owner.append(records(range(2, 4))) == 2
    assert Store("results").cells.collect().height == 4
    assert list((folder / "results/_tmp").iterdir()) == []


def test_rerun_replaces_the_row_in_one_step(folder: Path, table: CellTable, records) -> None:
    store = Store("results")
    with Owner(store) as owner:
        owner.append(records(range(4)))
        again = frozenset(table.cells["cell_id"][:2].to_list())
        assert owner.append(records(range(2), attempt=2), again) == 2
    cells = store.cells.sort("cell_id").collect()
    assert cells.height == 4
    assert cells.filter(pl.col("cell_id").is_in(list(again)))["attempt"].to_list() == [2, 2]
    assert store.attempts.collect().height == 6
    assert store.check() == []
