"""Worker processes on this machine: real kills, freezes and lacks of memory, and what is left after them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.executors import machine, memory
from raysweep.orchestrator.executors.processes import executor as module
from raysweep.orchestrator.executors.processes.executor import ProcessExecutor
from raysweep.orchestrator.executors.worker import state_of
from raysweep.orchestrator.launch.launch import Launch, executor_of
from raysweep.orchestrator.launch.request import Options, from_sweeps
from raysweep.orchestrator.run.messages import Chunk, ChunkDone, ChunkLost, ChunkReturned, Event, Task
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import Sweep
from tests.conftest import RAYSWEEP, environment

CELLS = """
    import os, subprocess, sys, time
    from pathlib import Path

    def run(cell, context):
        if cell.method == "sleep":
            far = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
            Path(f"pids-{cell.seed}").write_text(f"{os.getpid()} {far.pid}")
            time.sleep(300)
        threads = float(os.environ["OMP_NUM_THREADS"])
        return {"pid": os.getpid(), "threads": threads, "staged": float("launch-" in __file__)}
"""
SWEEP = 'workload = "apart:run"\nseeds = "0..1"\n[[grid]]\nmethod = "sleep"\n'


def chunk(number: int, method: str, cpus: float = 1.0, seed: int = 0) -> Chunk:
    task = Task(0, f"{number:024d}", method, None, seed, "{}", 1, None)
    return Chunk(number, "apart:run", "e", (task,), cpus, 0.0, None, ("staged",), "cpu", 30.0)


@pytest.fixture
def executor(write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessExecutor]:
    """An executor on a machine of two CPUs."""
    write("apart.py", CELLS)
    monkeypatch.setattr(module, "this_machine", lambda: {"CPU": 2.0, "memory": 2.0**32})
    opened = ProcessExecutor({str(folder): {}})
    yield opened
    opened.close()


def events(executor: ProcessExecutor, count: int = 1) -> list[Event]:
    received: list[Event] = []
    until = time.monotonic() + 60
    while len(received) < count and time.monotonic() < until:
        received += executor.poll(0.2)
    return received


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def processes_of(path: Path) -> list[int]:
    """PIDs of a worker and of the process that its cell has started, once the cell has written them."""
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)
    return [int(pid) for pid in path.read_text().split()]


def is_gone(pid: int) -> bool:
    return state_of(pid) in {"", "Z"}


@pytest.fixture
def start(write, folder: Path, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A function that starts a launch. Its temporary folder is its own: others' launches remove leftovers, too."""
    write("apart.py", CELLS)
    write("s.toml", SWEEP)
    started: list[subprocess.Popen[bytes]] = []

    def launch() -> subprocess.Popen[bytes]:
        words = [*RAYSWEEP, "launch", "s.toml", "--jobs", "1"]
        variables = {**environment(), "TMPDIR": str(tmp_path)}
        started.append(subprocess.Popen(words, cwd=folder, env=variables))
        return started[-1]

    yield launch
    for process in started:
        process.kill()
        process.wait()


def launch_folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("raysweep-*/launch-*"))


def test_a_killed_driver_leaves_no_process(start, write, folder: Path, tmp_path: Path) -> None:
    first = start()
    pids = processes_of(folder / "pids-0")
    assert not any(map(is_gone, pids))
    first.kill()
    first.wait()
    wait_until(lambda: all(map(is_gone, pids)))
    (left,) = launch_folders(tmp_path)
    write("apart.py", CELLS.replace("sleep(300)", "sleep(0)"))
    second = start()
    assert second.wait(60) == 0
    assert not left.exists()
    assert Store().check() == []


def test_an_interrupted_launch_leaves_no_process_and_no_folder(start, folder: Path, tmp_path: Path) -> None:
    launch = start()
    pids = processes_of(folder / "pids-0")
    launch.send_signal(signal.SIGINT)
    assert launch.wait(60) == 130
    wait_until(lambda: all(map(is_gone, pids)))
    assert launch_folders(tmp_path) == []


def test_a_killed_worker_is_a_lost_chunk_and_another_worker_runs_the_next(
    executor: ProcessExecutor, folder: Path
) -> None:
    executor.submit(chunk(0, "sleep"))
    executor.poll(0)
    worker, far = processes_of(folder / "pids-0")
    wait_until(lambda: executor.poll(0.1) == [] and [beat.chunk for beat in executor.beats()] == [0])
    os.kill(worker, signal.SIGKILL)
    (lost,) = events(executor)
    assert isinstance(lost, ChunkLost)
    assert (lost.number, lost.status) == (0, "crashed")
    assert lost.message.endswith("signal 9, SIGKILL")
    wait_until(lambda: is_gone(far))
    executor.submit(chunk(1, "short"))
    (done,) = events(executor)
    assert isinstance(done, ChunkDone)
    (outcome,) = done.result.outcomes
    assert (outcome.status, outcome.metrics["staged"]) == ("done", 1.0)


def test_a_worker_that_dies_before_its_chunk_begins_gives_it_back(executor: ProcessExecutor) -> None:
    executor.submit(chunk(0, "short"))
    os.kill(executor._workers[0].process.pid, signal.SIGKILL)
    assert events(executor) == [ChunkReturned(0)]


def test_a_frozen_worker_is_lost(executor: ProcessExecutor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor.submit(chunk(0, "sleep"))
    worker, _ = processes_of(folder / "pids-0")
    os.kill(worker, signal.SIGSTOP)
    monkeypatch.setattr(module, "FROZEN_S", 1.0)
    (lost,) = events(executor)
    assert isinstance(lost, ChunkLost)
    assert (lost.status, lost.message.endswith("and its worker process is stopped")) == ("lost", True)
    assert is_gone(worker)


def test_if_memory_runs_out_the_largest_worker_is_ended(
    executor: ProcessExecutor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 1):
        executor.submit(chunk(number, "sleep", seed=number))
    first, second = (processes_of(folder / f"pids-{number}")[0] for number in (0, 1))
    monkeypatch.setattr(module, "resident_bytes", lambda pid: (pid == second) * 2**30)
    monkeypatch.setattr(module, "is_low", lambda: not is_gone(second))
    (lost,) = events(executor)
    assert isinstance(lost, ChunkLost)
    assert (lost.number, lost.status) == (1, "out_of_memory")
    assert is_gone(second)
    monkeypatch.setattr(module, "is_low", lambda: True)
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    assert [executor.poll(0.01) for _ in range(5)] == [[]] * 5  # the other uses little: it is not the cause
    assert not is_gone(first)


def test_cells_get_their_threads_and_no_more_run_than_fit(executor: ProcessExecutor) -> None:
    assert executor.slots(0.5, 0, None) == 4
    assert executor.slots(1, 0, 3.0) == 1
    assert executor.slots(1, 1, None) == 0
    assert executor.fits(3, 0, None) == "this machine offers 2 CPUs, 0 GPUs and 4.0 GiB"
    for number, cpus in enumerate((1.0, 2.0, 1.0, 2.0, 1.0, 1.0)):
        executor.submit(chunk(number, "short", cpus))
        assert sum(worker.chunk.cpus for worker in executor._workers if worker.chunk is not None) <= 2
    results = {e.result.number: e.result.outcomes[0].metrics for e in events(executor, 6) if isinstance(e, ChunkDone)}
    assert [results[number]["threads"] for number in range(6)] == [1.0, 2.0, 1.0, 2.0, 1.0, 1.0]
    assert len(executor._workers) <= 2


def test_workers_that_do_not_start_end_the_launch(executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START", "raise SystemExit('no numpy here')")
    for number in range(2):
        executor.submit(chunk(number, "short"))
    assert set(events(executor, 2)) == {ChunkReturned(0), ChunkReturned(1)}
    executor.submit(chunk(2, "short"))
    with pytest.raises(RaysweepError, match="worker processes end before their first cell: no numpy here"):
        events(executor)


def test_a_closed_executor_has_ended_its_workers(executor: ProcessExecutor, folder: Path) -> None:
    executor.submit(chunk(0, "sleep"))
    pids = processes_of(folder / "pids-0")
    executor.close()
    executor.close()
    wait_until(lambda: all(map(is_gone, pids)))
    assert not executor._launch_folder.path.exists()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (8, 64)),
        ({"cpu.max": "max 100000", "memory.max": "max"}, (8, 64)),
        ({"cpu.max": "250000 100000", "memory.max": "16", "memory.current": "4"}, (2, 16)),
        ({"cpu.max": "50000 100000"}, (1, 64)),
    ],
)
def test_the_limits_of_a_container_count(
    files: dict[str, str], expected: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 64}.__getitem__)
    for reader in (memory, machine):
        monkeypatch.setattr(reader, "group_folders", lambda controller: [(tmp_path, True)])
    assert machine.this_machine() == {"CPU": expected[0], "memory": expected[1]}


def test_the_memory_of_a_process_includes_that_of_its_children() -> None:
    hold = "import time; held = bytearray(200 * 2**20); print(len(held), flush=True); time.sleep(60)"
    before = memory.resident_bytes(os.getpid())
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert memory.resident_bytes(child.pid) > 200 * 2**20
        assert memory.resident_bytes(os.getpid()) > before + 150 * 2**20
        child.kill()
    assert memory.resident_bytes(child.pid) == 0


def test_memory_is_low_below_a_twentieth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/meminfo": "MemTotal:  100 kB\nMemAvailable:  6 kB\n"}
    monkeypatch.setattr(memory, "_read", lambda path: texts.get(str(path), ""))
    monkeypatch.setattr(memory, "group_folders", lambda controller: [(Path("/group"), True)])
    assert not memory.is_low()
    texts |= {"/group/memory.max": "100\n", "/group/memory.current": "98\n", "/group/memory.stat": "inactive_file 2\n"}
    assert memory.is_low()
    texts["/group/memory.stat"] = "anon 1\ninactive_file 9\n"
    assert not memory.is_low()
    texts["/proc/meminfo"] = "MemTotal:  100 kB\nMemAvailable:  4 kB\n"
    assert memory.is_low()


@pytest.mark.parametrize(
    ("resources", "options", "name"),
    [
        ("", {}, "processes"),
        ("cpus = 2", {}, "processes"),
        ("gpus = 0.5", {}, "ray"),
        ("custom = {license = 1}", {}, "ray"),
        ("", {"address": "local"}, "ray"),
        ("", {"address": "10.0.0.5:6379"}, "ray"),
        ("gpus = 1", {"device": "cpu"}, "processes"),
        ("gpus = 1", {"executor": "inline"}, "inline"),
    ],
)
def test_ray_runs_cells_with_gpus_and_those_of_a_launch_with_an_address(
    resources: str, options: dict[str, str], name: str, write
) -> None:
    write("apart.py", CELLS)
    sweep = Sweep.from_text(f"{SWEEP}[resources]\n{resources}\n")
    store, chosen = Store(), Options(**options)
    assert executor_of(chosen, Launch(from_sweeps([sweep], store), store, chosen).current_plan()) == name
