"""Workers' leftovers on their own machines are removed after a while, and nothing else is."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from raysweep.orchestrator.executors import worker
from raysweep.orchestrator.store import checkpoints as checkpoint
from raysweep.orchestrator.store.checkpoints import Checkpoint, CheckpointLocation
from raysweep.orchestrator.store.storage import scratch

CELL, OTHER = "a" * 24, "b" * 24
LAUNCH = "0123456789ab"


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return scratch.scratch()


def age(path: Path, days: float) -> None:
    when = time.time() - days * 86_400
    for one in [path, *path.rglob("*")]:
        os.utime(one, (when, when), follow_symlinks=False)


def test_old_leftovers_go_and_nothing_else(ours: Path, tmp_path: Path) -> None:
    home = CheckpointLocation(
        str(tmp_path / "store"), "_epochs/00000000.json", "0" * 64
    )  # a store that this machine doesn't see
    for cell in (CELL, OTHER):
        kept = Checkpoint(home, cell, 1, "c" * 16)
        kept.save(cell.encode())
        assert kept.is_local
    checkpoints = checkpoint.local_folder(home) / "checkpoints"
    faults = worker.fault_path(LAUNCH, 3)
    faults.parent.mkdir()
    faults.write_text("0\n")
    precious = tmp_path / "precious"
    (precious / CELL).mkdir(parents=True)
    (precious / "file").write_text("")
    foreign = [ours / "launch-of-a-driver", ours / "faults-", ours / "something", checkpoints / "not a cell"]
    for folder in foreign:
        folder.mkdir()
    (ours / "faults-ffffffffffff").symlink_to(precious)
    linked = ours / f"store-{'f' * 16}"
    linked.mkdir()
    (linked / "checkpoints").symlink_to(precious)
    (checkpoints / ("c" * 24)).symlink_to(precious)
    age(tmp_path, scratch.KEPT_DAYS + 1)
    assert scratch.remove_old() == sorted([faults.parent, checkpoints / CELL, checkpoints / OTHER])
    assert all(folder.is_dir() for folder in [*foreign, precious / CELL])
    assert (precious / "file").exists()


def test_what_is_in_use_stays(ours: Path, tmp_path: Path) -> None:
    home = CheckpointLocation(str(tmp_path / "store"), "_epochs/00000000.json", "0" * 64)
    kept = Checkpoint(home, CELL, 1, "c" * 16)
    kept.save(b"first")
    faults = worker.fault_path(LAUNCH, 3)
    faults.parent.mkdir()
    age(tmp_path, scratch.KEPT_DAYS + 1)
    kept.save(b"second")  # a sign of life
    faults.write_text("0\n")
    assert scratch.remove_old() == []
    assert Checkpoint(home, CELL, 2, "c" * 16).load() == b"second"


def test_a_worker_tidies_once(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(worker, "remove_old", lambda: calls.append(1))
    worker._tidy.cache_clear()
    worker._tidy()
    worker._tidy()
    assert calls == [1]
    worker._tidy.cache_clear()
