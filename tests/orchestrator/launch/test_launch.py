"""A launch, in process: what runs, what does not, how failures end. The contract of every executor."""

from __future__ import annotations

import dataclasses
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.errors import InputError, StoreBusy
from raysweep.orchestrator.executors import EXECUTORS
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.launch.launch import Launch, launch
from raysweep.orchestrator.launch.request import Options, from_store, from_sweeps
from raysweep.orchestrator.run.messages import Chunk, ChunkDone, ChunkLost, ChunkRefused, Event, Task
from raysweep.orchestrator.schedule.plan import plan
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.spec import Sweep
from tests.conftest import SWEEP, TINY
from tests.faults.cluster import command, descendants


@pytest.fixture
def sweep(write) -> Sweep:
    write("tiny.py", TINY)
    return Sweep.load(write("tiny.toml", SWEEP))


def statuses(store: Store) -> dict[str, int]:
    return dict(store.summary().group_by("status").len().iter_rows())


def test_second_launch_runs_nothing(sweep: Sweep) -> None:
    first = launch(sweep, inline=True)
    assert (first.asked, first.done, first.ran, first.exit_code) == (8, 8, 8, 0)
    second = launch(sweep, inline=True)
    assert (second.asked, second.done, second.ran, second.exit_code) == (8, 8, 0, 0)
    assert Store().attempts.collect().height == 8


def test_extending_runs_only_what_is_new_and_keeps_the_old(sweep: Sweep, write) -> None:
    launch(sweep, inline=True)
    assert launch(sweep.with_seeds("0..5"), inline=True).ran == 4
    changed = Sweep.load(write("tiny.toml", SWEEP.replace("[[grid]]", "[config]\nx = 1\n[[grid]]")))
    assert launch(changed, inline=True).ran == 8
    assert Store().cells.collect().height == 20


def test_sql_sees_metrics_config_and_arrays(sweep: Sweep) -> None:
    launch(sweep.with_settings({"x": 2.5}), inline=True, where="seed < 2")
    store = Store()
    rows = store.sql("SELECT method, seed, x, value FROM cells WHERE status = 'done' ORDER BY ALL").rows()
    assert rows == [("a", 0, 2.5, 0.0), ("a", 1, 2.5, 2.0), ("b", 0, 2.5, 0.0), ("b", 1, 2.5, 2.0)]
    assert store.sql("SELECT name, step, stride, values FROM arrays LIMIT 1").rows() == [("curve", 0, 1, [1.0, 2.0])]
    assert store.sql("SELECT count(*) FROM attempts").item() == 4


FAILING = """
    import time

    def run(cell, context):
        print("before the end of", cell.seed)
        if cell.seed == 1:
            raise ValueError("seed 1 is unlucky")
        if cell.seed == 2:
            time.sleep(60)
        if cell.seed == 3:
            return {"value": float("nan")}
        if cell.seed == 4:
            raise SystemExit(3)
        return {"value": 1.0}
"""


def test_failures_are_rows_with_tracebacks_and_resume_runs_only_them(write) -> None:
    write("failing.py", FAILING)
    sweep = Sweep.from_text(
        'name="f"\nworkload="failing:run"\nseeds="0..5"\n[resources]\ntimeout_s=0.3\nretries=1\n[[grid]]\nmethod="m"\n'
    )
    result = launch(sweep, inline=True)
    assert (result.done, result.failed, result.left, result.exit_code) == (2, 4, 0, 1)
    attempts = Store().attempts.filter(pl.col("status") != "done").sort("seed", "attempt").collect()
    assert attempts.select("seed", "attempt", "status", "error_type").rows() == [
        (1, 1, "failed", "ValueError"),
        (1, 2, "failed", "ValueError"),
        (2, 1, "timed_out", "CellTimeout"),
        (2, 2, "timed_out", "CellTimeout"),
        (3, 1, "failed", "ValueError"),
        (3, 2, "failed", "ValueError"),
        (4, 1, "failed", "SystemExit"),
        (4, 2, "failed", "SystemExit"),
    ]
    assert 'raise ValueError("seed 1 is unlucky")' in attempts["traceback"][0]
    assert "time.sleep(60)" in attempts["traceback"][2]
    assert "diverged = 1" in attempts["error_message"][4]
    assert attempts["log_tail"][0] == "before the end of 1\n"

    again = launch(sweep, inline=True)  # attempts are used up: skipped and counted
    assert (again.ran, again.failed, again.exhausted, again.exit_code) == (0, 4, 4, 1)
    assert Store().attempts.collect().height == 10

    write("failing.py", "def run(cell, context):\n    return {'value': 1.0}\n")

    store = Store()
    resumed = Launch(from_store(store, None), store, Options(resume=True, executor="inline")).run()
    assert (resumed.ran, resumed.done, resumed.exit_code) == (4, 6, 0)
    assert store.summary().sort("attempts")["attempts"].to_list() == [1, 1, 3, 3, 3, 3]


def test_max_failures_stops_gracefully(write) -> None:
    write("bad.py", "def run(cell, context):\n    raise ValueError('no')\n")
    sweep = Sweep.from_text(
        'name="b"\nworkload="bad:run"\nseeds="0..19"\n[resources]\nretries=0\n[[grid]]\nmethod="m"\n'
    )
    store = Store()
    result = Launch(from_sweeps([sweep], store), store, Options(executor="inline", max_failures=3)).run()
    assert result.stopped == "--max-failures 3 was reached"
    assert result.failed >= 3
    assert result.left == 20 - result.failed > 0


def test_changed_code_is_reported_and_rerun_only_on_request(sweep: Sweep, write) -> None:
    launch(sweep, inline=True)
    write("tiny.py", TINY.replace("* 2.0", "* 3.0"))
    store = Store()
    request = from_sweeps([sweep], store)
    assert Launch(request, store, Options()).current_plan().counts()["changed"] == 8
    assert Launch(request, store, Options(executor="inline")).run().ran == 0
    assert Launch(request, store, Options(executor="inline", rerun_changed=True)).run().ran == 8
    assert store.sql("SELECT max(value), max(attempt), count(*) FROM cells").rows() == [(9.0, 2, 8)]
    assert store.check() == []


def test_a_launch_plans_once_and_again_only_if_the_stores_rows_have_changed(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question "run N cells?" and the taking of the store, another launch may come and go."""
    planned: list[int] = []
    monkeypatch.setattr(launcher, "plan", lambda *words, **names: planned.append(1) or plan(*words, **names))

    def launched(seeds: str, meanwhile: str | None = None) -> tuple[int, int, int]:
        store = Store()
        this = Launch(from_sweeps([sweep.with_seeds(seeds)], store), store, Options(executor="inline"))
        to_run = this.plan().frame["run"].sum()
        if meanwhile is not None:
            launch(sweep.with_seeds(meanwhile), inline=True)
        planned.clear()
        return to_run, this.run().ran, len(planned)

    assert launched("0..3") == (8, 8, 0)  # into a store that does not exist yet
    assert launched("0..5") == (4, 4, 0)
    assert launched("0..7", meanwhile="0..6") == (4, 2, 1)
    assert launched("0..7") == (0, 0, 0)
    assert Store().check() == []


def test_half_a_commit_of_an_earlier_launch_is_finished_before_the_cells_that_run_are_decided(
    sweep: Sweep, folder: Path
) -> None:
    launch(sweep, inline=True)
    for segment in (folder / "results" / "cells").iterdir():
        segment.unlink()
    store = Store()
    this = Launch(from_sweeps([sweep], store), store, Options(executor="inline"))
    assert this.plan().frame["status"].to_list() == ["done"] * 8  # by their attempts
    assert (this.run().ran, store.cells.collect().height) == (0, 8)


def test_a_launch_that_may_not_wait_is_refused_before_it_plans(sweep: Sweep) -> None:
    store = Store()
    request = from_sweeps([sweep], store)
    with StoreWriter(store, "raysweep launch first"), pytest.raises(StoreBusy, match="raysweep launch first"):
        Launch(request, store, Options(executor="inline")).plan()


@pytest.fixture(scope="module")
def executors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Executor]]:
    """One of each, shared: an embedded Ray takes seconds to start."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "shipped.py").write_text(
        "import os, time\n"
        "def run(cell, context):\n"
        "    if cell.method == 'sleep':\n"
        "        time.sleep(60)\n"
        "    if cell.method == 'die':\n"
        "        os._exit(3)\n"
        "    if cell.method == 'hold':\n"
        "        while True:\n"
        "            try:\n"
        "                time.sleep(60)\n"
        "            except BaseException:\n"
        "                continue\n"
        "    return {'seed': cell.seed, 'x': cell.config['x']}\n"
    )
    import sys

    sys.path.insert(0, str(folder))
    opened: dict[str, Executor] = {}
    for name, target in EXECUTORS.items():
        module, _, kind = target.partition(":")
        arguments = {} if name == "inline" else {"modules": {str(folder): {}}}
        opened[name] = getattr(importlib.import_module(module), kind)(**arguments)
    yield opened
    for executor in opened.values():
        executor.close()
    sys.path.remove(str(folder))


def chunk(number: int, *methods: str, timeout: float | None = None) -> Chunk:
    tasks = tuple(Task(i, f"{i:024d}", m, None, i, '{"x":1.5}', 1, timeout) for i, m in enumerate(methods))
    return Chunk(number, "shipped:run", "e", tasks, 1.0, 0.0, None, (), "cpu", 30.0)


@pytest.mark.parametrize("name", sorted(EXECUTORS))
def test_contract_a_chunk_of_other_code_is_refused(executors: dict[str, Executor], name: str) -> None:
    """A shared disk that was edited, or a module that is found first on a worker's path: no cell begins."""
    executor = executors[name]
    executor.submit(dataclasses.replace(chunk(8, "a"), source_digest="0" * 16))
    (refused,) = events(executor, 1)
    assert isinstance(refused, ChunkRefused)
    assert (refused.number, refused.problem, list(refused.files)) == (8, "", ["shipped.py"])


@pytest.mark.parametrize("name", sorted(EXECUTORS))
def test_contract_a_chunk_whose_workload_does_not_load_is_refused(executors: dict[str, Executor], name: str) -> None:
    executor = executors[name]
    executor.submit(dataclasses.replace(chunk(9, "a"), workload="shipped:walk"))
    (refused,) = events(executor, 1)
    assert isinstance(refused, ChunkRefused)
    assert "shipped has no function 'walk'" in refused.problem
    assert refused.place


APART = sorted(EXECUTORS.keys() - {"inline"})
"""Executors whose cells run in other processes."""


class Unreadable:
    """Raises ValueError when it is unpickled."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return int, ("no number",)


@pytest.mark.parametrize("name", APART)
def test_contract_a_chunk_that_the_worker_cannot_read_is_refused(executors: dict[str, Executor], name: str) -> None:
    executor = executors[name]
    executor.submit(dataclasses.replace(chunk(10, "a"), device=Unreadable()))  # type: ignore[arg-type]
    (refused,) = events(executor, 1)
    assert isinstance(refused, ChunkRefused)
    assert "no number" in refused.problem
    assert refused.place


def events(executor: Executor, count: int, seconds: float = 60) -> list[Event]:
    received: list[Event] = []
    until = time.monotonic() + seconds
    while len(received) < count and time.monotonic() < until:
        received.extend(executor.poll(0.2))
    return received


@pytest.mark.parametrize("name", sorted(EXECUTORS))
def test_contract_chunks_complete_once(executors: dict[str, Executor], name: str) -> None:
    executor = executors[name]
    assert executor.slots(1, 0, None) >= 1
    assert executor.fits(1, 0, None) is None
    for number in range(3):
        executor.submit(chunk(number, "ok", "ok"))
    completed = events(executor, 3)
    assert sorted(e.result.number for e in completed if isinstance(e, ChunkDone)) == [0, 1, 2]
    for event in completed:
        assert isinstance(event, ChunkDone)
        assert [(o.status, dict(o.metrics)) for o in event.result.outcomes] == [
            ("done", {"seed": 0.0, "x": 1.5}),
            ("done", {"seed": 1.0, "x": 1.5}),
        ]
    assert executor.poll(0) == []


@pytest.mark.parametrize("name", sorted(EXECUTORS))
def test_contract_a_cell_past_its_timeout_is_an_outcome(executors: dict[str, Executor], name: str) -> None:
    executor = executors[name]
    executor.submit(chunk(10, "ok", "sleep", "ok", timeout=0.5))
    (event,) = events(executor, 1)
    assert isinstance(event, ChunkDone)
    assert [o.status for o in event.result.outcomes] == ["done", "timed_out", "done"]


@pytest.mark.parametrize("name", APART)
def test_contract_a_dying_worker_and_one_that_ignores_its_alarm(executors: dict[str, Executor], name: str) -> None:
    executor = executors[name]
    executor.submit(chunk(20, "ok", "die"))
    executor.submit(chunk(21, "hold", timeout=0.5))
    lost = {e.number: e for e in events(executor, 2) if isinstance(e, ChunkLost)}
    assert lost[20].status == "crashed"
    assert (lost[21].status, lost[21].position) == ("timed_out", 0)
    assert "run" in (lost[21].traceback or "")


@pytest.mark.parametrize("name", APART)
def test_contract_what_no_machine_can_run_is_refused(executors: dict[str, Executor], name: str) -> None:
    assert executors[name].slots(10_000, 0, None) == 0
    assert "CPUs" in (executors[name].fits(10_000, 0, None) or "")


def test_the_best_of_a_result_is_of_its_experiments_whatever_their_names(write) -> None:
    write("quoted.py", "def run(cell, context):\n    return {'loss': cell.config['x'] + cell.seed / 10}\n")
    text = 'workload = "quoted:run"\nexperiment = "{}"\nseeds = "0..5"\n[[grid]]\nx = {}\n'
    launch(Sweep.from_text(text.format("another", "[0, 5]")), inline=True)
    result = launch(Sweep.from_text(text.format("it's", "[1, 2]")), inline=True)
    assert [(entry.setting, entry.values) for entry in result.best("loss").settings] == [
        ("default, x=1", 6), ("default, x=2", 6),
    ]  # fmt: skip


def test_a_notebook_shows_a_store_by_its_counts(write) -> None:
    assert "no launch has written to it" in Store()._repr_html_()
    write("some.py", "def run(cell, context):\n    return {'loss': 1 / (cell.method == 'good')}\n")
    text = 'workload = "some:run"\nseeds = "0..29"\nresources.retries = 0\n[[grid]]\nmethod = ["good", "bad"]\n'
    launch(Sweep.from_text(text), inline=True)  # it stops a method once 20 of its cells fail alike
    rows = [("done", 30), ("failed", 20), ("pending", 10)]
    assert "".join(f"<tr><td>{status}</td><td>{count}</td></tr>" for status, count in rows) in Store()._repr_html_()


def test_ray_starts_only_the_processes_that_it_needs(executors: dict[str, Executor]) -> None:
    session = executors["ray"]._ray._private.worker.global_worker.node.get_session_dir_path()  # type: ignore[attr-defined]
    commands = [text for text in map(command, descendants(os.getpid())) if session in text]
    assert any("raylet/raylet" in text for text in commands)
    for script in ("dashboard/dashboard.py", "log_monitor.py", "autoscaler/_private/monitor.py"):
        assert not any(script in text for text in commands)


@pytest.mark.parametrize("name", APART)
def test_contract_a_killed_chunk_leaves_no_event(executors: dict[str, Executor], name: str) -> None:
    executor = executors[name]
    executor.submit(chunk(30, "sleep"))
    time.sleep(1)
    executor.kill(30)
    assert executor.poll(0.5) == []


DEVICES = """
    def run(cell, context):
        return {"cuda": float(context.device == "cuda")}
"""


@pytest.mark.parametrize(
    ("device", "on_gpu"), [("auto", {0.5: 1.0, 0.0: 0.0}), ("cpu", {}), ("cuda", {0.5: 1, 0.0: 1})]
)
def test_device_says_which_gpus_cells_get(
    write, device: str, on_gpu: dict[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysweep.orchestrator.executors.inline._has_gpu", lambda: True)  # in name only
    write("devices.py", DEVICES)
    sweep = Sweep.from_text(
        'name="d"\nworkload="devices:run"\nseeds=[0]\n'
        '[[grid]]\nmethod="half"\nresources.gpus=0.5\n[[grid]]\nmethod="none"\n'
    )
    assert launch(sweep, inline=True, device=device).exit_code == 0
    requested = {"half": 0.5, "none": 0.0}
    for method, cuda, gpus in Store().sql("SELECT method, cuda, gpus FROM cells").iter_rows():
        assert cuda == on_gpu.get(requested[method], 0.0)
        assert gpus == {"auto": requested[method], "cpu": 0.0, "cuda": requested[method] or 1.0}[device]


def test_an_unknown_device_is_refused(sweep: Sweep) -> None:
    with pytest.raises(InputError, match="unknown device 'cudo'; did you mean 'cuda'"):
        launch(sweep, inline=True, device="cudo")


PARALLEL = """
    import time

    def run(cell, context):
        began = time.time()
        time.sleep(0.4)
        return {"began": began, "ended": time.time()}
"""


@pytest.mark.parametrize("address", [None, pytest.param("local", marks=pytest.mark.slow)], ids=["processes", "Ray"])
def test_no_more_cells_run_at_once_than_asked_for(write, address: str | None) -> None:
    write("parallel.py", PARALLEL)
    text = 'workload = "parallel:run"\nseeds = "0..5"\n[[grid]]\nmethod = ["a", "b"]\n[resources]\ncpus = 0.25\n'
    assert launch(Sweep.from_text(text), address=address, max_parallel=3).done == 12
    rows = Store().sql("SELECT began, ended FROM cells").rows()
    at_once = [sum(began <= moment < ended for began, ended in rows) for moment, _ in rows]
    assert max(at_once) == 3
    with pytest.raises(InputError, match="max_parallel: 0 is not an integer of 1 or more"):
        launch(Sweep.from_text(text), max_parallel=0)
