"""The commit protocol: acknowledged rows are there, once; a torn or foreign file is named, never skipped."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import time
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from raysweep.orchestrator.errors import Fenced, InputError, StoreBusy, StoreDamaged, StoreWriteFailed
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.launch.record import record
from raysweep.orchestrator.run.messages import Array, CompletedAttempt, Outcome, Worker
from raysweep.orchestrator.store import lease
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS, ATTEMPTS, CELLS, Records
from raysweep.orchestrator.store.segments import Segment, encode, finish, segment_name
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.cells import CellTable, expand
from raysweep.orchestrator.sweep.spec import Sweep
from tests.conftest import SWEEP, TINY, environment
from tests.orchestrator.store.altered_launch import ALTERED
from tests.orchestrator.store.owners import let_go

pytestmark = pytest.mark.usefixtures("place")
ON_A_DISK = pytest.mark.parametrize("place", ["local"], indirect=True)
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
        return record([CompletedAttempt(o, WORKER) for o in outcomes], table.cells, table.variants, epoch, {})

    return make


def test_committed_rows_are_read_back_once(folder: Path, table: CellTable, records) -> None:
    store = Store("results")
    with StoreWriter(store) as owner:
        assert owner.append(records(range(4))) == 4
        assert owner.append(records(range(2, 6))) == 2  # what is done already is dropped
    cells = store.cells.collect()
    assert cells["cell_id"].to_list() == table.cells["cell_id"][:6].to_list()
    assert store.check() == []
    assert globbed(store).height == 6


@ON_A_DISK
def test_duckdb_reads_it(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(6)))
    assert len(duckdb.sql("SELECT cell_id FROM 'results/cells/*.parquet'").fetchall()) == 6


def globbed(store: Store) -> pl.DataFrame:
    """Done cells as a plain reader sees them."""
    at = f"{store.storage.location}/cells/*.parquet"
    return pl.scan_parquet(at, storage_options=store.storage.reading, credential_provider=None).collect()


def test_schema_is_pinned() -> None:
    assert CELLS.names[:6] == ["cell_id", "sweep", "experiment", "workload", "workload_version", "method"]
    assert ATTEMPTS.names == [*CELLS.names, "error_type", "error_message", "traceback", "log_tail"]
    assert ARRAYS.names == ["cell_id", "attempt", "name", "step", "stride", "values", "values_f64"]
    assert str(CELLS.field("metrics").type) == "list<item: struct<name: string, value: double>>"


def test_second_owner_is_refused_by_a_message_that_names_the_first(folder: Path) -> None:
    with (
        StoreWriter(Store("results"), "raysweep launch first"),
        pytest.raises(StoreBusy, match="raysweep launch first"),
    ):
        StoreWriter(Store("results"))
    StoreWriter(Store("results")).close()


def test_a_paused_owner_is_fenced(folder: Path, records, monkeypatch: pytest.MonkeyPatch) -> None:
    zombie = StoreWriter(Store("results"))
    zombie.append(records(range(2)))
    let_go(zombie)
    with StoreWriter(Store("results")) as owner:
        with pytest.raises(Fenced, match="took it over"):
            zombie.append(records(range(2, 4)))
        owner.append(records(range(4, 5), owner.epoch))
    zombie.close()
    assert Store("results").cells.collect().height == 3
    assert Store("results").check() == []


def test_zombie_that_wins_the_race_for_a_name_is_sealed_behind(folder: Path, records) -> None:
    first = StoreWriter(Store("results"))
    let_go(first)
    first.append(records(range(1)))
    original = first.storage.create
    with StoreWriter(Store("results")) as second:
        assert original(f"cells/{segment_name(0, 1)}", b"") is False  # occupied by the seal
        assert set(second.done) == set(Store("results").cells.collect()["cell_id"])


def test_interrupted_commit_is_rolled_forward(folder: Path, table: CellTable, records) -> None:
    owner = StoreWriter(Store("results"))
    commit = records(range(3))
    owner._commit("arrays", commit.arrays)
    owner._commit("attempts", commit.attempts)  # killed here, before the cells
    let_go(owner)
    store = Store("results")
    assert store.cells.collect().height == 0
    StoreWriter(store).close()
    assert store.cells.collect()["cell_id"].to_list() == table.cells["cell_id"][:3].to_list()
    assert store.check() == []


def test_compaction_keeps_every_row(folder: Path, records) -> None:
    store = Store("results")
    with StoreWriter(store) as owner:
        for row in range(8):
            owner.append(records(range(row, row + 1)))
        assert owner.compact() == {"arrays": (8, 1), "attempts": (8, 1), "cells": (8, 1)}
    assert globbed(store)["cell_id"].n_unique() == 8
    assert store.arrays.collect().height == 8
    assert store.check() == []


def test_interrupted_compaction_is_honoured_reported_and_finished(folder: Path, records) -> None:
    store = Store("results")
    owner = StoreWriter(store)
    for row in range(3):
        owner.append(records(range(row, row + 1)))
    kept, owner.storage.delete = owner.storage.delete, lambda name: None  # killed before it deletes
    owner._merge("cells", store.segments("cells"))
    owner.storage.delete = kept
    let_go(owner)
    assert store.cells.collect().height == 3
    assert len([p for p in store.check() if "compaction was interrupted" in p]) == 1
    StoreWriter(Store("results")).close()
    assert Store("results").check() == []
    assert globbed(Store("results")).height == 3


def test_a_former_owner_may_delete_while_another_takes_over(folder: Path, records) -> None:
    paused = StoreWriter(Store("results"))
    for row in range(3):
        paused.append(records(range(row, row + 1)))
    removed: list[str] = []
    kept, paused.storage.delete = paused.storage.delete, removed.append
    paused._merge("cells", paused.store.segments("cells"))
    let_go(paused)
    store = Store("results")
    names = store.storage.names

    def listing(of: str) -> list[str]:
        listed = names(of)
        if of == "cells" and removed and any(name > segment_name(0, 3) for name in listed):  # it is sealed by now
            kept(removed.pop())
        return listed

    store.storage.names = listing
    StoreWriter(store).close()
    assert removed == []
    assert store.cells.collect().height == 3
    assert store.check() == []
    assert globbed(store).height == 3


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", b"x" * 100])
def test_torn_file_is_named(folder: Path, records, content: bytes) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(2)))
    name = segment_name(0, 7)
    Store("results").storage.replace(f"cells/{name}", content)
    with pytest.raises(StoreDamaged, match=name):
        Store("results").cells.collect()
    assert [name in p for p in Store("results").check()] == [True]


def test_foreign_files_and_schemas_are_named(folder: Path, records, cli) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(2)))
    pl.DataFrame({"a": [1]}).write_parquet("mine.parquet")
    for name in ("cells/mine.parquet", f"attempts/{segment_name(0, 9)}"):
        Store("results").storage.replace(name, Path("mine.parquet").read_bytes())
    problems = Store("results").check()
    assert len(problems) == 2
    assert "cells/mine.parquet" in " ".join(problems)
    assert segment_name(0, 9) in " ".join(problems)
    assert cli("store", "check").returncode == 1
    assert cli("query", "SELECT * FROM cells").returncode == 2


def test_replaced_names_can_reach_nothing_outside_the_folder(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(2)))
    elsewhere = Segment("cells", "../../precious.parquet", 0, 0, 0, 0, False, ())
    name = segment_name(5, 0)
    hostile = finish(encode("cells", CELLS.empty_table(), replaces=[elsewhere]), name)
    Store("results").storage.replace(f"cells/{name}", hostile)
    (folder / "precious.parquet").write_text("mine")
    with pytest.raises(StoreDamaged, match="list of replaced segments"):
        StoreWriter(Store("results"))
    assert (folder / "precious.parquet").read_text() == "mine"


@ON_A_DISK
@pytest.mark.parametrize(
    "runs",
    [
        [[0, 0, 0], [1, 2, 2]],  # itself
        [[1, 0, 5]],  # later ones
        [[2, 0, 0]],
        [[0, 0, 99_999_999]],  # no name is left for the seal of epoch 0
        [[0, 3, 1]],
        [[True, False, 1]],
        [[0, 0.0, 1]],
        [[0, -1, 1]],
        [[0, 1]],
        {"0": 1},
    ],
)
def test_only_what_was_there_before_can_have_been_replaced(folder: Path, records, runs: object) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(2)))
    metadata = {b"raysweep.replaces": b"[]", b"raysweep.replaced": json.dumps(runs).encode()}
    sink = io.BytesIO()
    pq.write_table(CELLS.empty_table().replace_schema_metadata(metadata), sink)
    Store("results").storage.replace(f"cells/{segment_name(1, 2)}", sink.getvalue())
    assert "list of replaced segments" in " ".join(Store("results").check())
    with pytest.raises(StoreDamaged, match="list of replaced segments"):
        StoreWriter(Store("results"))
    assert {segment_name(0, 0), segment_name(1, 2)} <= set(Store("results").storage.names("cells"))


def test_flipped_byte_is_found_by_check(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(8)))
    storage, name = Store("results").storage, f"cells/{segment_name(0, 0)}"
    data = bytearray(storage.read(name))
    with storage.open(name) as file:
        column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    storage.replace(name, bytes(data))
    assert len(Store("results").check()) >= 1


def test_newer_format_is_refused(folder: Path) -> None:
    storage = Store("results").storage
    storage.prepare(("_tmp",))
    storage.create("store.json", json.dumps({"format": 99, "schema": 1}).encode())
    with pytest.raises(InputError, match="upgrade"):
        Store("results")


@ON_A_DISK
def test_full_disk_acknowledges_nothing_it_lost(folder: Path, records, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysweep.orchestrator.store.storage import local

    store = Store("results")
    with StoreWriter(store) as owner:
        owner.append(records(range(2)))
        written = local._write_synced

        def full(path: Path, data: bytes) -> None:
            path.write_bytes(data[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(local, "_write_synced", full)
        with pytest.raises(StoreWriteFailed, match="No space left"):
            owner.append(records(range(2, 4)))
        monkeypatch.setattr(local, "_write_synced", written)
        assert owner.append(records(range(2, 4))) == 2
    assert Store("results").cells.collect().height == 4
    assert list((folder / "results/_tmp").iterdir()) == []


def test_rerun_replaces_the_row_in_one_step(folder: Path, table: CellTable, records) -> None:
    store = Store("results")
    with StoreWriter(store) as owner:
        owner.append(records(range(4)))
        again = frozenset(table.cells["cell_id"][:2].to_list())
        assert owner.append(records(range(2), attempt=2), again) == 2
    cells = store.cells.sort("cell_id").collect()
    assert cells.height == 4
    assert cells.filter(pl.col("cell_id").is_in(list(again)))["attempt"].to_list() == [2, 2]
    assert store.attempts.collect().height == 6
    assert store.check() == []


def half(owner: StoreWriter, commit: Records, *folders: str) -> None:
    """A commit that dies between its folders, with its process."""
    for folder in folders:
        owner._commit(folder, getattr(commit, folder))
    owner._closed.set()
    let_go(owner)


def heights(store: Store) -> list[int]:
    return [store.scan(folder).collect().height for folder in ("arrays", "attempts", "cells")]


def test_arrays_of_a_half_commit_are_reported_hidden_and_dropped(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(2)))
    half(StoreWriter(Store("results")), records(range(2, 4), 1), "arrays")
    store = Store("results")
    assert ["arrays but no row in attempts" in line for line in store.check()] == [True]
    assert store.sql("SELECT count(*) FROM arrays").item() == 2
    with StoreWriter(Store("results")) as owner:
        assert heights(store) == [2, 2, 2]
        owner.append(records(range(2, 5), owner.epoch))  # the same attempt numbers again
    assert heights(store) == [5, 5, 5]
    assert store.check() == []


def test_a_killed_commit_doubles_nothing(write, folder: Path) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    words = [*ALTERED, "die-in-commit", "launch", "tiny.toml", "--inline"]
    ended = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL
    assert launch(Sweep.load("tiny.toml"), "results", inline=True).exit_code == 0
    assert heights(Store("results")) == [8, 8, 8]
    assert Store("results").check() == []


@pytest.mark.parametrize("refused", ["arrays", "attempts", "cells"])
def test_a_batch_given_again_after_a_failure_is_there_once(
    folder: Path, records, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    with StoreWriter(Store("results")) as owner:
        create = owner.storage.create
        full = [True]

        def fails(name: str, data: bytes) -> bool:
            if full[0] and name.startswith(refused):
                raise StoreWriteFailed("full")
            return create(name, data)

        monkeypatch.setattr(owner.storage, "create", fails)
        with pytest.raises(StoreWriteFailed):
            owner.append(records(range(4)))
        full[0] = False
        assert owner.append(records(range(4, 6))) == 2
        assert owner.append(records(range(4))) == 4
    assert heights(Store("results")) == [6, 6, 6]
    assert Store("results").check() == []


def test_compaction_mends_half_commits_of_any_age(folder: Path, records) -> None:
    half(StoreWriter(Store("results")), records(range(2)), "arrays", "attempts")
    store = Store("results")
    assert ["have no row in cells" in line for line in store.check()] == [True]
    StoreWriter(store).close()
    (segment,) = [s for s in store.segments("cells") if s.rows]
    store.storage.delete(segment.path)
    store = Store("results")
    assert len(store.check()) == 1
    with StoreWriter(store) as owner:
        owner.compact()
    assert store.check() == []
    assert heights(store) == [2, 2, 2]


def test_doubled_rows_are_reported(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        for table in ("arrays", "attempts", "cells"):
            for _ in range(2):
                owner._commit(table, getattr(records(range(2)), table))
    assert [line.split(":")[0] for line in Store("results").check()] == ["cells", "attempts", "arrays"]


@pytest.mark.parametrize("table_name", ["cells", "attempts", "arrays"])
def test_damaged_pages_are_named_wherever_they_are_read(folder: Path, records, table_name: str) -> None:
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(8)))
    name = segment_name(0, 0)
    storage = Store("results").storage
    data = bytearray(storage.read(f"{table_name}/{name}"))
    for at in range(4, 12):
        data[at] ^= 0xFF
    storage.replace(f"{table_name}/{name}", bytes(data))
    store = Store("results")
    reads = {
        "arrays": [lambda: store.sql("SELECT * FROM arrays")],
        "attempts": [store.summary, lambda: store.sql("SELECT * FROM attempts")],
        "cells": [store.summary, lambda: store.sql("SELECT * FROM cells"), lambda: StoreWriter(Store("results"))],
    }
    for read in reads[table_name]:
        with pytest.raises(StoreDamaged, match=f"{table_name}/{name}"):
            read()


def test_compaction_of_damaged_pages_is_refused(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        for row in range(3):
            owner.append(records(range(row, row + 1)))
        name = f"arrays/{segment_name(0, 1)}"
        data = owner.storage.read(name)
        owner.storage.replace(name, data[:4] + b"\xff" * 40 + data[44:])
        with pytest.raises(StoreDamaged, match=f"arrays/{segment_name(0, 1)}"):
            owner.compact()
    assert len(Store("results").storage.names("arrays")) == 3


def test_a_reader_looks_again_when_segments_are_merged_away(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        for row in range(4):
            owner.append(records(range(row, row + 1)))
        store, looks = Store("results"), []

        def frame() -> pl.LazyFrame:
            lazy = store.cells
            if not looks:
                owner.compact()  # between the choice of files and their reading
            looks.append(1)
            return lazy

        assert store.collect(frame).height == 4
        assert len(looks) == (1 if store.storage.remote else 2)  # of objects the verified bytes are kept


def test_a_listing_that_changes_while_it_is_made_is_repeated(folder: Path, records) -> None:
    with StoreWriter(Store("results")) as owner:
        for row in range(4):
            owner.append(records(range(row, row + 1)))
        store = Store("results")
        names, seen = store.storage.names, []

        def torn(of: str) -> list[str]:
            if not seen:
                seen.append(names(of)[:1])  # the others are merged away before the listing comes to them
                owner.compact()
                return seen[0]
            return names(of)

        store.storage.names = torn
        assert store.cells.collect().height == 4


def test_an_owner_that_finds_damage_releases_the_store(folder: Path, records) -> None:
    """Within one process, such as a notebook: it lives on, and holds nothing."""
    with StoreWriter(Store("results")) as owner:
        owner.append(records(range(2)))
    storage = Store("results").storage
    storage.replace(f"cells/{segment_name(0, 5)}", b"torn")
    with pytest.raises(StoreDamaged, match="torn or not Parquet"):
        StoreWriter(Store("results"))
    assert lease.current_owner(storage) is None
    storage.delete(f"cells/{segment_name(0, 5)}")
    with StoreWriter(Store("results")) as owner:
        assert owner.append(records(range(3))) == 1


def test_each_owner_that_is_waited_for_is_reported_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = iter([lease.Ownership("a", {}), lease.Ownership("a", {}), lease.Ownership("b", {}), None])
    monkeypatch.setattr(lease, "current_owner", lambda storage, **_: next(owners))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    reported: list[str] = []
    lease.wait_till_free(Store("results").storage, True, reported.append)
    assert reported == ["a", "b"]


@pytest.mark.parametrize(
    ("heartbeat", "running"),
    [
        ({"a" * 24: 0.5, "b" * 24: None, "c" * 24: 7}, {"a" * 24: 0.5, "b" * 24: None, "c" * 24: 1.0}),
        (["a" * 24], {"a" * 24: None}),  # older versions recorded no progress
        ("odd", {}),
        ({"a" * 24: "much", "\ud800": 0.5, "<b>": 1}, {"a" * 24: None}),
    ],
)
def test_a_heartbeat_lists_running_cells(records, heartbeat: object, running: dict[str, float | None]) -> None:
    store = Store("results")
    with StoreWriter(store) as owner:
        owner._closed.set()
        owner._heart.join()
        store.storage.replace("_hb/00000000", json.dumps({"beat": 1, "running": heartbeat}).encode())
        ownership = lease.current_owner(store.storage)
        assert ownership is not None
        assert ownership.running == running
        owner._closed.clear()


@ON_A_DISK
def test_a_torn_epoch_leaves_the_store_unlocked(folder: Path) -> None:
    StoreWriter(Store("results")).close()
    storage = Store("results").storage
    storage.delete("_epochs/00000000.released")
    storage.replace("_epochs/00000000.json", b"torn")
    with pytest.raises(StoreDamaged, match=r"00000000\.json: torn"):
        StoreWriter(Store("results"))
    storage.delete("_epochs/00000000.json")
    StoreWriter(Store("results")).close()


def test_the_owner_is_found_without_touching_the_store(folder: Path, records, monkeypatch) -> None:
    storage = Store("results").storage
    assert lease.current_owner(storage) is None
    with StoreWriter(Store("results"), "raysweep launch x") as owner:
        for forbidden in ("try_lock", "create", "replace"):
            monkeypatch.setattr(storage, forbidden, None)
        ownership = lease.current_owner(storage)
        assert ownership is not None
        assert "raysweep launch x" in ownership.who
        fields = lease.read_note(storage, 0).fields
    assert lease.current_owner(storage) is None
    storage.delete("_epochs/00000000.released")
    assert lease.current_owner(storage) is not None  # as if killed, but this very process lives

    anew = Store("results").storage

    def owner_who_claims(**changes: object) -> lease.Ownership | None:
        anew.replace("_epochs/00000000.json", lease.note_bytes(0, {**fields, **changes}))
        return lease.current_owner(storage)

    assert owner_who_claims(process={**fields["process"], "started": "1"}) is None  # its number is another's now
    assert owner_who_claims(pid=2**22 + 5) is None
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    assert owner_who_claims(boot="another machine") is None  # no heartbeat
    assert owner.epoch == 0
