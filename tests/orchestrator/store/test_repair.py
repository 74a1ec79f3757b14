"""`store repair`: damaged files are moved aside, and the next launch runs exactly the cells whose results they held."""

from __future__ import annotations

import itertools
import json
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.errors import InputError, StoreBusy, StoreDamaged
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.store.reader import FOLDERS
from raysweep.orchestrator.store.repair import Repair, survey
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.segments import encode, finish, read_segment
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.text import count_cells
from tests.azure_store import PROGRAM
from tests.command_line import forget_users
from tests.orchestrator.store.owners import die

EVERYWHERE = ["local", *(pytest.param(place, marks=pytest.mark.slow) for place in ("s3", *(["az"] if PROGRAM else [])))]
pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.parametrize("place", EVERYWHERE, indirect=True)]
WORKLOAD = """
    def run(cell, context):
        with open("runs.txt", "a") as file:
            print(cell.method, cell.seed, file=file)
        if cell.method == "failing":
            raise ValueError("always")
        for number in range({"plain": 0, "curve": 1, "curves": 2}[cell.method]):
            context.array(f"a{number}", [float(cell.seed)] * 20)
        return {"x": cell.seed * 0.5}
"""
SWEEP = """
    name = "s"
    workload = "damaged_cells:run"
    seeds = "0..{last}"
    [resources]
    retries = 0
    [[grid]]
    method = ["plain", "curve", "curves"]
    [[grid]]
    method = ["failing"]
"""
EVERY = {(method, seed) for method in ("plain", "curve", "curves") for seed in range(4)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a sound store: two launches, of two seeds and of two more, with a few cells per segment."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "damaged_cells.py").write_text(textwrap.dedent(WORKLOAD))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("os.fsync", lambda descriptor: None)
        patch.setattr(launcher, "FLUSH_OUTCOMES", 4)
        patch.setattr("raysweep.orchestrator.schedule.driver.CHUNK_CELLS", 4)
        for last in (1, 3):
            launch(a_sweep(folder, last), folder / "results", inline=True)
        forget_users()
    return contents(Store(folder / "results").storage)


def a_sweep(folder: Path, last: int) -> Sweep:
    path = folder / "s.toml"
    path.write_text(textwrap.dedent(SWEEP).format(last=last))
    return Sweep.load(path)


@pytest.fixture
def sweep(sound: dict[str, bytes], write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep of which all cells have run, in the store `results`."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # here processes die, and machines do not
    write("damaged_cells.py", WORKLOAD)
    storage = Store("results").storage
    storage.prepare(FOLDERS)
    reset(storage, sound)
    return a_sweep(folder, 3)


def segments(folder: str) -> list[str]:
    """Paths of the segments with rows, in order."""
    return [s.path for s in Store("results").segments(folder) if s.rows]


def damage(path: str, change: Callable[[bytes], bytes] = lambda data: data[:-30]) -> None:
    storage = Store("results").storage
    data = storage.read(path)
    assert data is not None
    storage.replace(path, change(data))


def cells_in(path: str) -> set[tuple[str, int]]:
    """Method and seed of the done cells with rows in a segment."""
    store, (folder, name) = Store("results"), path.split("/")
    segment = next(s for s in store.segments(folder) if s.name == name)
    ids = read_segment(store.storage, segment, ["cell_id"])["cell_id"].to_pylist()
    rows = store.sql("SELECT cell_id, method, seed FROM cells WHERE status = 'done'").rows()
    return {(method, seed) for cell_id, method, seed in rows if cell_id in ids}


def repair() -> None:
    store = Store("results", skip_damaged=True)
    with Repair(Store("results", skip_damaged=True)) as owner:
        owner.apply(survey(store))


def run_now(sweep: Sweep) -> set[tuple[str, int]]:
    """Method and seed of the cells that a launch runs now, without those that fail."""
    Path("runs.txt").unlink(missing_ok=True)
    launch(sweep, "results", inline=True)
    lines = Path("runs.txt").read_text().split("\n")[:-1] if Path("runs.txt").exists() else []
    assert len(set(lines)) == len(lines)
    return {(line.split()[0], int(line.split()[1])) for line in lines if not line.startswith("failing")}


def check_whole() -> None:
    """Each cell is done once, with its values and arrays, and the store is sound."""
    store = Store("results")
    assert store.check() == []
    rows = store.sql("SELECT method, seed, x FROM cells WHERE status = 'done' ORDER BY ALL").rows()
    assert rows == sorted((method, seed, seed * 0.5) for method, seed in EVERY)
    arrays = store.sql(
        "SELECT method, seed, name, values[1] FROM arrays JOIN cells USING (cell_id) ORDER BY ALL"
    ).rows()
    names = {"curve": ["a0"], "curves": ["a0", "a1"], "plain": []}
    assert arrays == sorted((m, s, name, float(s)) for m, s in EVERY for name in names[m])
    assert store.arrays.collect().height == len(arrays)


def flip(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


@pytest.mark.parametrize("change", [flip, lambda data: data[:-30], lambda data: b""], ids=["page", "footer", "empty"])
def test_a_lost_file_of_arrays_is_run_again(sweep: Sweep, change: Callable[[bytes], bytes]) -> None:
    path = segments("arrays")[1]
    lost = cells_in(path)
    assert 0 < len(lost) < len(EVERY)
    damage(path, change)
    with pytest.raises(StoreDamaged):
        Store("results").arrays.collect()
    repair()
    assert Store("results").check() == []
    assert run_now(sweep) == lost
    check_whole()


@pytest.mark.parametrize("table", ["cells", "attempts"])
def test_a_row_that_stands_in_another_table_too_is_restored(sweep: Sweep, table: str) -> None:
    damage(segments(table)[0])
    repair()
    assert Store("results").check() == []
    assert run_now(sweep) == set()
    check_whole()


def test_a_row_lost_from_both_tables_is_run_again(sweep: Sweep) -> None:
    lost = cells_in(segments("cells")[0])
    damage(segments("cells")[0])
    damage(segments("attempts")[0])
    repair()
    assert Store("results").check() == []
    assert run_now(sweep) == lost
    check_whole()


@pytest.mark.parametrize("change", [flip, lambda data: data[:-30]], ids=["page", "footer"])
def test_what_a_damaged_merge_had_replaced_does_not_come_back(sweep: Sweep, change: Callable[[bytes], bytes]) -> None:
    storage = Store("results").storage
    before = {path: storage.read(path) for folder in TABLES for path in segments(folder)}
    with StoreWriter(Store("results")) as owner:
        owner.compact()
    merged = segments("arrays")[-1]
    damage(merged, change)
    with_arrays = {cell for cell in EVERY if cell[0] != "plain"}
    repair()
    assert run_now(sweep) == with_arrays
    for path, data in before.items():  # late writes
        if path.startswith("arrays/"):
            storage.create(path, data)
    assert Store("results").arrays.collect().height == 4 + 8
    StoreWriter(Store("results")).close()
    check_whole()
    damaged = finish(encode("arrays", TABLES["arrays"].empty_table()), merged.partition("/")[2])
    assert not storage.create(merged, damaged)  # its name stays taken


def test_a_damaged_file_without_rows_is_moved_and_nothing_runs_again(sweep: Sweep) -> None:
    store = Store("results")
    seal = next(s for s in store.every_segment("arrays") if s.seal)
    damage(seal.path, lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:])
    (problem,) = Store("results").check()
    assert problem.startswith(f"{seal.path}: damaged: checksum mismatch in its pages")
    with Repair(Store("results", skip_damaged=True)) as owner:
        found = survey(Store("results", skip_damaged=True))
        assert (list(found.files), found.run_again.height, found.unknown) == ([seal.path], 0, 0)
        owner.apply(found)
    assert Store("results").check() == []
    assert run_now(sweep) == set()


def test_the_command_lists_asks_and_repairs(sweep: Sweep, cli) -> None:
    path = segments("arrays")[0]
    lost = cells_in(path)
    damage(path)
    ended = cli("store", "repair")
    assert ended.returncode == 2
    assert "needs --yes" in ended.stderr
    assert path in ended.stdout
    assert (
        f"{count_cells(len(lost))} to run again ({len(lost)} without their arrays, texts or artifacts)" in ended.stdout
    )
    assert cli("store", "check").returncode == 1
    document = json.loads(cli("store", "repair", "--json", "--yes").stdout)
    assert document["repaired"] is True
    assert [entry["path"] for entry in document["damaged"]] == [path]
    assert len(document["run_again"]) == len(lost)
    assert cli("store", "check").returncode == 0
    assert "nothing to repair" in cli("store", "repair").stdout
    assert [name.startswith("arrays-00000000") for name in Store("results").storage.names("_damaged")].count(True) == 1
    ended = cli("resume", "s.toml", "--inline")
    assert ended.returncode == 1  # some cells always fail
    check_whole()


def test_other_files_are_mended_or_moved(sweep: Sweep) -> None:
    storage = Store("results").storage
    request = storage.names("_sweeps")[0]
    damage(f"_sweeps/{request}")
    damage("_epochs/00000000.json")
    damage("store.json", lambda data: b"{")
    storage.replace("cells/notes.txt", b"mine")
    found = survey(Store("results", skip_damaged=True))
    assert list(found.files) == ["_epochs/00000000.json", f"_sweeps/{request}", "cells/notes.txt", "store.json"]
    assert found.lost_requests
    repair()
    assert Store("results").check() == []
    assert len(storage.names("_damaged")) == 4
    assert run_now(sweep) == set()


def test_a_launch_that_runs_is_left_alone(sweep: Sweep, cli) -> None:
    damage(segments("attempts")[0])
    with Repair(Store("results", skip_damaged=True)):
        with pytest.raises(StoreBusy):
            repair()
        assert cli("store", "repair", "--yes").returncode == 3


def test_a_repair_is_refused_if_the_store_has_changed_since_the_survey(sweep: Sweep) -> None:
    arrays, cells = segments("arrays")[0], segments("cells")[0]
    damage(arrays)
    old = survey(Store("results", skip_damaged=True))
    damage(cells)
    with Repair(Store("results", skip_damaged=True)) as owner, pytest.raises(InputError, match="has changed since"):
        owner.apply(old)
    assert Store("results").storage.names("_damaged") == []


class Killed(BaseException):
    pass


class Deadly:
    """A storage whose process dies before its n-th change."""

    def __init__(self, storage: Storage, changes: int) -> None:
        self._storage, self._left = storage, changes

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._storage, name)
        if name not in {"create", "exchange", "delete"}:
            return operation

        def change(path: str, *rest: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                if self._left == 0:
                    raise Killed
                self._left -= 1
            return operation(path, *rest)

        return change


@pytest.mark.slow
def test_a_repair_that_is_killed_anywhere_ends_the_same_when_it_is_repeated(sweep: Sweep) -> None:
    storage = Store("results").storage
    chosen = [segments("arrays")[0], segments("cells")[1], segments("attempts")[2]]
    lost = cells_in(chosen[0]) | cells_in(chosen[1])
    for path in chosen:
        damage(path)
    original = contents(storage)
    results = set()
    for changes in itertools.count():
        reset(storage, original)
        is_whole = killed_after(changes)
        if not is_whole:
            die(storage, 2)
            repair()
        assert Store("results").check() == []
        results.add(rows_of_all_tables())
        if is_whole:
            break
    assert changes > 15
    assert len(results) == 1
    assert run_now(sweep) == lost
    check_whole()


def killed_after(changes: int) -> bool:
    """Repair the store, and die before another change than so many; return whether it ended before."""
    store = Store("results", skip_damaged=True)
    storage, owner = store.storage, None
    store.storage = Deadly(storage, changes)  # type: ignore[assignment]
    try:
        found = survey(store)
        owner = Repair(store)
        owner.apply(found)
    except Killed:
        if owner is not None:
            owner._closed.set()
            owner._heart.join()
            owner._lock.release()
        return False
    owner.storage = storage
    owner.close()
    return True


def rows_of_all_tables() -> str:
    store = Store("results")
    return "".join(store.scan(folder).collect().sort("cell_id", "attempt").write_json() for folder in TABLES)


def contents(storage: Storage) -> dict[str, bytes]:
    return {
        f"{folder}/{name}": storage.read(f"{folder}/{name}") or b""
        for folder in ("arrays", "attempts", "cells", "_sweeps", "_epochs", "_hb", "_damaged")
        for name in storage.names(folder)
    } | {"store.json": storage.read("store.json") or b""}


def reset(storage: Storage, files: dict[str, bytes]) -> None:
    for path in contents(storage).keys() - files.keys():
        storage.delete(path)
    for path, data in files.items():
        storage.replace(path, data)
