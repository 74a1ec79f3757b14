"""Checkpoints: a killed cell resumes from its last one, with the same numbers; they are removed at success."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from raysweep.orchestrator.errors import StoreDamaged, StoreWriteFailed
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.run.cell import NOT_SHARED, WorkerPosition, run_chunk
from raysweep.orchestrator.run.messages import Chunk, Task
from raysweep.orchestrator.store.checkpoints import KEPT, Checkpoint, CheckpointLocation, Preempted, local_folder
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.storage import local
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.spec import Sweep
from tests.conftest import RAYSWEEP, environment

pytestmark = pytest.mark.usefixtures("place")
ON_A_DISK = pytest.mark.parametrize("place", ["local"], indirect=True)
CELL, SOURCE = "0" * 24, "f" * 16


@pytest.fixture
def home(folder: Path) -> CheckpointLocation:
    with StoreWriter(Store("results")) as owner:
        return owner.checkpoint_home()


def at(home: CheckpointLocation, attempt: int = 1, source: str = SOURCE) -> Checkpoint:
    return Checkpoint(home, CELL, attempt, source)


def files() -> list[str]:
    storage = Store("results").storage
    return [
        f"checkpoints/{cell}/{name}"
        for cell in storage.names("checkpoints")
        for name in storage.names(f"checkpoints/{cell}")
    ]


def test_the_last_saved_is_loaded_and_two_are_kept(home: CheckpointLocation, folder: Path) -> None:
    assert at(home).load() is None
    for number in range(5):
        at(home).save(b"%d" % number)
    assert at(home, 2).load() == b"4"
    assert [Store("results").storage.read(name) for name in files()] == [b"3", b"4"]
    assert KEPT == 2


@pytest.mark.parametrize("damage", [b"", b"4x", b"torn"])
def test_a_damaged_one_falls_back_to_the_one_before(
    home: CheckpointLocation, folder: Path, damage: bytes, capsys
) -> None:
    for number in (3, 4):
        at(home).save(b"%d" % number)
    Store("results").storage.replace(files()[-1], damage)
    assert at(home, 2).load() == b"3"
    assert "damaged; trying the previous one" in capsys.readouterr().err
    Store("results").storage.replace(files()[0], damage)
    assert at(home, 2).load() is None


def test_a_late_checkpoint_of_an_earlier_attempt_is_not_loaded(home: CheckpointLocation, folder: Path) -> None:
    late = at(home, 1)
    late.save(b"early")
    for data in (b"a", b"b"):
        at(home, 2).save(data)
    late.save(b"late")
    assert at(home, 3).load() == b"b"
    assert len(files()) == KEPT


def test_a_checkpoint_of_other_code_is_not_loaded(home: CheckpointLocation, capsys) -> None:
    at(home).save(b"old")
    assert at(home, 2, "e" * 16).load() is None
    assert "written by other code" in capsys.readouterr().err
    assert at(home, 2).load() == b"old"


@ON_A_DISK
def test_a_save_that_fails_keeps_what_was_there(home: CheckpointLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    at(home).save(b"kept")

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "_write_synced", full)
    with pytest.raises(StoreWriteFailed, match="No space left"):
        at(home).save(b"never")
    assert at(home, 2).load() == b"kept"


def test_only_bytes_are_taken(home: CheckpointLocation) -> None:
    with pytest.raises(TypeError, match="takes bytes, not dict"):
        at(home).save({"step": 1})  # type: ignore[arg-type]


@ON_A_DISK
def test_a_link_in_a_strangers_store_leads_nowhere(home: CheckpointLocation, folder: Path) -> None:
    (folder / "precious").mkdir()
    name = f"000001-00000000-{SOURCE}-{hashlib.sha256(b'x').hexdigest()}"
    (folder / "precious" / name).write_bytes(b"x")
    (folder / "results/checkpoints" / CELL).symlink_to(folder / "precious")
    for act in (lambda: at(home).load(), lambda: at(home).save(b"y")):
        with pytest.raises(StoreDamaged, match="a link"):
            act()
    assert [path.name for path in (folder / "precious").iterdir()] == [name]


# Workers that do not see the store


def test_without_the_store_they_stay_on_the_machine(home: CheckpointLocation, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    elsewhere = home._replace(digest="0" * 64)  # a folder of the same name, that another launch made
    at(elsewhere).save(b"here")
    assert files() == []
    again = at(elsewhere, 2)
    assert again.load() == b"here"
    again.forget()
    assert list((local_folder(elsewhere) / "checkpoints").iterdir()) == []


def test_the_driver_hears_of_checkpoints_that_no_other_node_sees(
    home: CheckpointLocation, folder: Path, write, monkeypatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    write("saves.py", "def run(cell, context):\n    context.checkpoint.save(b'x')\n    return {}\n")
    for place, notes in ((home, ()), (home._replace(digest="0" * 64), (NOT_SHARED,)), (None, ())):
        result = run_chunk(chunk("saves:run", folder, place))
        assert result.notes == notes
    assert [o.status for o in result.outcomes] == ["failed"]  # without a launch


def chunk(workload: str, folder: Path, home: CheckpointLocation | None, cells: int = 1) -> Chunk:
    tasks = tuple(Task(i, f"{i:024d}", "m", None, i, "{}", 1, None) for i in range(cells))
    return Chunk(0, workload, "e", tasks, 1.0, 0.0, None, (str(folder),), "cpu", 30.0, home)


def test_cells_of_a_machine_that_is_drained_are_requeued(home: CheckpointLocation, folder: Path, write) -> None:
    write("saves.py", "def run(cell, context):\n    context.checkpoint.save(b'x')\n    return {}\n")
    position = WorkerPosition()
    position.drain()
    assert run_chunk(chunk("saves:run", folder, home, 3), position=position).requeued == (0, 1, 2)
    preempted = at(home)
    preempted.draining = True
    with pytest.raises(Preempted):
        preempted.save(b"saved")
    assert at(home, 2).load() == b"saved"


# Launches

STEPS = 12
COUNTS = f"""
    import json, os, time

    def run(cell, context):
        saved = context.checkpoint.load()
        step, total = json.loads(saved) if saved else (0, 0.0)
        while step < {STEPS}:
            total = total * 1.5 + cell.seed + step
            step += 1
            with open(f"steps-{{cell.seed}}", "a") as file:
                file.write(f"{{step}} {{os.getpid()}}\\n")
            if step % 3 == 0:
                context.checkpoint.save(json.dumps([step, total]).encode())
            time.sleep(0 if saved else cell.config["pause"])
        return {{"total": total, "resumed_from": json.loads(saved)[0] if saved else 0}}
"""


def expected(seed: int) -> float:
    total = 0.0
    for step in range(STEPS):
        total = total * 1.5 + seed + step
    return total


def sweep(pause: float, seeds: str = "[1]") -> str:
    return f'name="c"\nworkload="counts:run"\nseeds={seeds}\n[config]\npause={pause}\n[[grid]]\nmethod="m"\n'


def steps(folder: Path, seed: int = 1) -> list[tuple[int, int]]:
    path = folder / f"steps-{seed}"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(step), int(pid)) for step, pid in (line.split() for line in lines)]


def test_at_success_nothing_is_left(write, folder: Path) -> None:
    write("counts.py", COUNTS)
    assert launch(Sweep.from_text(sweep(0.0, "[1, 2]")), inline=True).exit_code == 0
    assert Store("results").storage.names("checkpoints") == []
    rows = Store().sql("SELECT seed, total, resumed_from FROM cells ORDER BY seed").rows()
    assert rows == [(1, expected(1), 0), (2, expected(2), 0)]


def test_checkpoints_of_done_cells_are_removed_by_the_next_owner(write, folder: Path, home: CheckpointLocation) -> None:
    write("counts.py", COUNTS)
    launch(Sweep.from_text(sweep(0.0)), inline=True)
    (cell_id,) = Store().cells.collect()["cell_id"]
    Checkpoint(home, cell_id, 1, SOURCE).save(b"killed between the commit and the removal")
    at(home).save(b"of a cell that is not done")
    StoreWriter(Store()).close()
    assert [name.split("/")[1] for name in files()] == [CELL]


def test_a_cell_resumes_in_the_next_launch_after_its_driver_was_killed(write, folder: Path, cli) -> None:
    write("counts.py", COUNTS)
    write("c.toml", sweep(0.2))
    driver = subprocess.Popen(
        [*RAYSWEEP, "launch", "c.toml", "--inline"], cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: len(steps(folder)) >= 5)
    driver.kill()
    driver.wait()
    before = len(steps(folder))
    assert "1 cell will resume from a checkpoint" in cli("plan", "c.toml").stdout
    write("counts.py", COUNTS + "\n    # other code, which begins anew\n")
    assert "checkpoint" not in cli("plan", "c.toml").stdout
    write("counts.py", COUNTS)
    assert cli("launch", "c.toml", "--inline").returncode == 0
    check_resumed(folder, before)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["local", "s3"], indirect=True)
def test_a_cell_resumes_in_the_next_attempt_after_its_worker_was_killed(write, folder: Path) -> None:
    write("counts.py", COUNTS)
    write("c.toml", sweep(0.3))
    driver = subprocess.Popen(
        [*RAYSWEEP, "launch", "c.toml"], cwd=folder, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(lambda: len(steps(folder)) >= 5)
    os.kill(steps(folder)[-1][1], signal.SIGKILL)
    before = len(steps(folder))
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, output
    check_resumed(folder, before)
    tried = Store().attempts.sort("attempt").select("attempt", "status").collect().rows()
    assert tried == [(1, "crashed"), (2, "done")]


def check_resumed(folder: Path, before: int) -> None:
    done = [step for step, _ in steps(folder)]
    begun_at = done[before]
    assert begun_at % 3 == 1
    assert 3 < begun_at <= before + 1  # at the last checkpoint, not at the beginning
    assert done[before:] == list(range(begun_at, STEPS + 1))
    total, resumed_from = Store().sql("SELECT total, resumed_from FROM cells").row(0)
    assert (total, resumed_from) == (expected(1), begun_at - 1)
    (log,) = Store().attempts.filter(status="done").select("log_tail").collect()["log_tail"]
    assert log == "raysweep: resumed from a checkpoint of attempt 1\n"
    assert Store("results").storage.names("checkpoints") == []
    assert Store("results").storage.names("_tmp") == []


def wait_for(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
