"""Files in a cell's folder become artifacts: with its row or not at all, within limits, and safe to fetch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from raysweep import Store, launch
from raysweep.orchestrator.errors import InputError, StoreDamaged
from raysweep.orchestrator.store.artifacts import named_by, problem_of, read_content, save
from raysweep.orchestrator.store.repair import Repair, survey
from raysweep.orchestrator.store.writer import StoreWriter
from tests.command_line import Ended
from tests.orchestrator.sweeps import sweep_of

FILES = """
    import os

    def run(cell, context):
        assert not any(context.folder.iterdir())
        (context.folder / "plots").mkdir()
        (context.folder / "plots/loss.png").write_bytes(b"picture %d" % cell.seed)
        (context.folder / "big.bin").write_bytes(b"x" * 3_000_000)
        (context.folder / "notes.txt").write_text("seed %d" % cell.seed)
        os.symlink("/etc/passwd", context.folder / "link")
        os.mkfifo(context.folder / "pipe")
        if cell.seed == 2:
            raise ValueError("after its files")
        print(context.folder)
        return {"loss": float(cell.seed)}
"""
LIMITS = 'artifacts = {exclude = ["big*"]}\n[resources]\nretries = 0'


@pytest.fixture
def store(write, place: str) -> Store:
    """A store with artifacts of two done cells and a failed one."""
    write("files.py", FILES)
    launch(sweep_of("files:run", LIMITS, seeds='"0..2"'), place, inline=True)
    return Store(place)


def id_of_seed(store: Store, seed: int) -> str:
    """The id of the cell of a seed."""
    return str(store.known().cells.filter(pl.col("seed") == seed)["cell_id"].item())


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_files_are_artifacts_of_done_and_failed_cells(store: Store, cli: Callable[..., Ended], folder: Path) -> None:
    rows = store.sql("SELECT status, path, bytes, kind FROM artifacts ORDER BY ALL").rows()
    assert rows[:4] == [
        ("done", "link", 11, "not kept: is a link"),
        ("done", "link", 11, "not kept: is a link"),
        ("done", "notes.txt", 6, "text/plain"),
        ("done", "notes.txt", 6, "text/plain"),
    ]
    assert ("failed", "plots/loss.png", 9, "image/png") in rows
    assert ("done", "pipe", 0, "not kept: is not a regular file") in rows
    assert not any(path == "big.bin" for _, path, *_ in rows)
    assert "plots/loss.png" in cli("artifacts", "ls").stdout
    cell_id = id_of_seed(store, 1)
    one = json.loads(cli("artifacts", "ls", cell_id[:8], "--json").stdout)
    assert {row["cell_id"] for row in one} == {cell_id}
    for options, problem in [
        (["--name", "*.zip"], "--name '*.zip': no path matches; there are: link, notes.txt, pipe, plots/loss.png"),
        (["--where", "loss > 5"], "--where 'loss > 5': no cell matches"),
        (["zz"], "cell 'zz': no such cell"),
    ]:
        for command in (["ls"], ["ls", "--json"], ["get", "--to", "out"]):
            refused = cli("artifacts", *command, *options)
            assert (refused.returncode, refused.stdout, problem in refused.stderr) == (2, "", True), refused.stderr
    assert not (folder / "out").exists()
    fetched = cli("artifacts", "get", "--where", "loss > 0", "--name", "*.png", "--to", "out")
    assert fetched.stdout == "1 file of 1 cell in out (0.0 MiB), 1 of them new\n"
    (file,) = (path for path in (folder / "out").rglob("*") if path.is_file())
    assert file.read_bytes() == b"picture 1"
    again = cli("artifacts", "get", "--where", "loss > 0", "--name", "*.png", "--to", "out")
    assert "0 of them new" in again.stdout
    file.write_bytes(b"mine")
    refused = cli("artifacts", "get", "--where", "loss > 0", "--name", "*.png", "--to", "out")
    assert (refused.returncode, "exists with another content" in refused.stderr) == (2, True)
    logs = store.attempts.filter(status="done").collect()["log_tail"].to_list()
    assert not any(Path(log.strip()).exists() for log in logs)  # the folders are removed
    assert store.check() == []


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_a_missing_or_damaged_content_is_named(store: Store, cli: Callable[..., Ended]) -> None:
    missing, damaged, *_ = sorted((Path("results/files/00000000")).iterdir())
    missing.unlink()
    damaged.write_bytes(bytes(damaged.stat().st_size))
    problems = {line.partition(": ")[0]: line.partition(": ")[2] for line in store.check()}
    assert problems.keys() == {f"files/00000000/{name}" for name in (missing.name, damaged.name)}
    assert problems[f"files/00000000/{missing.name}"].startswith("is missing")
    assert problems[f"files/00000000/{damaged.name}"].startswith("damaged")
    refused = cli("artifacts", "get", "--to", "out")
    assert (refused.returncode, "missing" in refused.stderr or "damaged" in refused.stderr) == (2, True)


@pytest.mark.parametrize("is_missing", [False, True], ids=["damaged", "missing"])
def test_a_repair_moves_contents_aside_and_a_launch_runs_their_cells(
    store: Store, place: str, is_missing: bool
) -> None:
    storage = store.storage
    rows = store.artifacts().filter(path="notes.txt").sort("status", "cell_id").to_dicts()
    lost, failed = rows[0], rows[-1]
    assert (lost["status"], failed["status"]) == ("done", "failed")
    for row in (lost, failed):
        if is_missing:
            storage.delete(named_by(row))
        else:
            storage.replace(named_by(row), b"seed 7")
    (cells, *_) = (segment.path for segment in store.segments("cells") if segment.rows)
    storage.replace(cells, (storage.read(cells) or b"")[:-9])  # contents are checked beside any other damage
    paths = {named_by(row) for row in (lost, failed)}
    assert {line.partition(": ")[0] for line in Store(place).check()} == {cells, *paths}
    found = survey(Store(place, skip_damaged=True))
    assert found.files.keys() == {cells, *paths}
    assert found.run_again.rows() == [(lost["cell_id"], "details")]
    with Repair(Store(place, skip_damaged=True)) as repair:
        repair.apply(found)
    repaired = Store(place)
    assert repaired.check() == []
    kinds = repaired.artifacts().filter(cell_id=failed["cell_id"]).select("path", "kind").rows()
    assert ("plots/loss.png", "image/png") in kinds
    assert next(kind for path, kind in kinds if path == "notes.txt").startswith("not kept: its content was damaged")
    moved = [name for name in storage.names("_damaged") if name.startswith("files-")]
    assert len(moved) == (0 if is_missing else 2)
    done = repaired.cells.select("cell_id").collect()["cell_id"].to_list()
    assert len(done) == 1
    assert lost["cell_id"] not in done
    launch(sweep_of("files:run", LIMITS, seeds='"0..1"'), place, inline=True)
    assert Store(place).cells.collect().height == 2
    again = Store(place).artifacts().filter(cell_id=lost["cell_id"], path="notes.txt").row(0, named=True)
    assert (again["epoch"], read_content(storage, again)) == (2, b"seed %d" % _seed(lost))
    assert Store(place).check() == []


def _seed(row: dict[str, object]) -> int:
    return next(seed for seed in range(3) if hashlib.sha256(b"seed %d" % seed).hexdigest() == row["sha256"])


def test_contents_without_a_row_are_never_seen_and_removed_by_the_next_owner(place: str, write) -> None:
    write("files.py", FILES)
    launch(sweep_of("files:run", LIMITS, seeds="[0]"), place, inline=True)
    store = Store(place)
    kept = store.storage.names("files/00000000")
    store.storage.create(f"files/00000000/{'ab' * 12}-000001-{'0' * 64}", b"of a killed launch")
    assert store.artifacts()["path"].to_list() == ["link", "notes.txt", "pipe", "plots/loss.png"]
    with StoreWriter(store):
        assert store.storage.names("files/00000000") == kept
    assert store.artifacts().filter(path="notes.txt")["bytes"].to_list() == [6]
    assert store.check() == []


def test_rows_of_an_interrupted_commit_are_removed_with_their_contents(place: str, write, monkeypatch) -> None:
    """The process dies after the rows of artifacts, and before the row of the attempt."""
    write("files.py", FILES)

    class Killed(BaseException):
        pass

    commit = StoreWriter._commit

    def dies(self: StoreWriter, name: str, *arguments) -> None:
        if name == "attempts":
            raise Killed
        commit(self, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "_commit", dies)
        with pytest.raises(Killed):
            launch(sweep_of("files:run", LIMITS, seeds="[0]"), place, inline=True)
    store = Store(place)
    assert store.scan("artifacts").collect().height == 4
    assert store.artifacts().is_empty()
    with StoreWriter(store):
        assert store.scan("artifacts").collect().is_empty()
        assert store.storage.names("files/00000000") == []
    launch(sweep_of("files:run", LIMITS, seeds="[0]"), place, inline=True)
    assert store.artifacts().height == 4
    assert store.check() == []


def test_a_worker_that_cannot_reach_the_store_sends_the_content(write, monkeypatch) -> None:
    write("files.py", FILES)
    monkeypatch.setattr("raysweep.orchestrator.run.collect.reachable", lambda location: (None, None))
    launch(sweep_of("files:run", LIMITS, seeds="[0]"), inline=True)
    assert Store().check() == []
    assert len(list(Path("results/files/00000000").iterdir())) == 2


@pytest.mark.parametrize(
    ("limits", "reasons"),
    [
        ("{max_mib = 1}", {"big.bin": "not kept: is beyond the limit of MiB per cell", "notes.txt": "text/plain"}),
        ('{include = ["*.txt", "*.png"], max_files = 1}',
         {"notes.txt": "text/plain", "plots/loss.png": "not kept: is beyond the limit of 1 files"}),
    ],
)  # fmt: skip
def test_files_beyond_the_limits_are_listed_without_content(write, limits: str, reasons: dict[str, str]) -> None:
    write("files.py", FILES)
    assert launch(sweep_of("files:run", f"artifacts = {limits}", seeds="[0]"), inline=True).done == 1
    kinds = dict(Store().artifacts().select("path", "kind").iter_rows())
    assert kinds.items() >= reasons.items()


@pytest.mark.parametrize(
    "change",
    [{"cell_id": None}, {"sha256": "../../../../etc/passwd"}, {"bytes": 2**60}, {"path": None}, {"cell_id": "../x"}],
)
def test_a_strangers_row_reads_no_other_file(change: dict[str, object], folder: Path) -> None:
    row = {"epoch": 0, "cell_id": "ab" * 12, "attempt": 1, "sha256": "0" * 64, "bytes": 1, "path": "x", **change}
    with pytest.raises(StoreDamaged, match=r"lacks a value|no artifact has such"):
        read_content(Store("results").storage, row)


@pytest.mark.parametrize("path", ["../up", "/etc/x", "a//b", "a/../b", "", ".", "a\\b", "a\nb", "\udcff", "x" * 300])
def test_a_path_that_leaves_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    assert problem_of(path) is not None
    with pytest.raises(InputError):
        save(b"x", tmp_path, path)
    assert not list(tmp_path.rglob("*"))


def test_a_link_in_the_destination_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "to" / "a")
    os.symlink(tmp_path / "elsewhere" / "new", tmp_path / "to" / "b")
    for path in ("a/x", "b"):
        with pytest.raises(InputError):
            save(b"x", tmp_path / "to", path)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_bad_keys_are_named_all_at_once() -> None:
    sweep = sweep_of("files:run", 'nan = "maybe"\nartifacts = {max_mib = -1, includes = [], exclude = "x"}')
    assert len(sweep.problems) == 4
