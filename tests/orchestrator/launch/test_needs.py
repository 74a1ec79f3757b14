"""Blocks that need others: order, files, failures, identity and staleness along the edges."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.orchestrator.launch.launch import Launch, Result, launch
from raysweep.orchestrator.launch.request import Options, from_store, from_sweeps
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.spec import Sweep
from tests.command_line import RAYSWEEP

PREPARE = """
    def run(cell, context):
        (context.folder / "data.txt").write_text(f"{cell.config['size']}-{cell.seed}")
        return {"made": 1}
"""
TRAIN = """
    def run(cell, context):
        (data,) = context.needs["prepare"]
        assert data.config["size"] == cell.config["size"]
        text = (data.folder / "data.txt").read_text()
        (context.folder / "sub").mkdir()
        (context.folder / "sub" / "model.txt").write_text(f"{text}@{cell.config['lr']}")
        return {"trained": 1}
"""
EVALUATE = """
    def run(cell, context):
        (model,) = context.needs["train"]
        text = (model.folder / "sub" / "model.txt").read_text()
        return {"model": text, "noisy": cell.config["noise"]}
"""
SWEEP = """
seeds = "0..1"

[[grid]]
block = "evaluate"
workload = "evaluate:run"
method = "evaluate"
needs = "train"
size = [10, 20]
lr = [0.1, 0.2]
noise = [0, 1, 2]

[[grid]]
block = "prepare"
workload = "prepare:run"
method = "prepare"
size = [10, 20]

[[grid]]
block = "train"
workload = "train:run"
method = "train"
needs = "prepare"
size = [10, 20]
lr = [0.1, 0.2]
"""


@pytest.fixture
def pipeline(write: Callable[..., Path]) -> Sweep:
    write("prepare.py", PREPARE)
    write("train.py", TRAIN)
    write("evaluate.py", EVALUATE)
    return Sweep.load(write("pipe.toml", SWEEP))


def counts() -> dict[str, int]:
    rows = Store().sql("SELECT method, count(*) FROM attempts WHERE status = 'done' GROUP BY ALL").rows()
    return dict(rows)


def states(sweep: Sweep, where: str | None = None, **options: bool) -> dict[str, int]:
    store = Store()
    plan = Launch(from_sweeps([sweep], store, where), store, Options(executor="inline", **options)).current_plan()
    return {state: count for state, count in plan.counts().items() if count}


def test_each_cell_gets_the_files_of_the_cells_that_it_needs(pipeline: Sweep) -> None:
    result = launch(pipeline, inline=True)
    assert (result.asked, result.done, result.exit_code) == (36, 36, 0)
    rows = Store().sql("SELECT DISTINCT size, lr, seed, model FROM cells WHERE method = 'evaluate' ORDER BY ALL").rows()
    assert rows == [
        (size, lr, seed, f"{size}-{seed}@{lr}") for size in (10, 20) for lr in (0.1, 0.2) for seed in (0, 1)
    ]
    order = Store().sql("SELECT method FROM cells ORDER BY finished_at").to_series().to_list()
    assert order.index("train") >= 1
    assert order.index("evaluate") >= 2
    assert launch(pipeline, inline=True).ran == 0


def test_an_edit_reruns_what_depends_on_it(pipeline: Sweep, write) -> None:
    launch(pipeline, inline=True)
    write("train.py", TRAIN.replace("@{", "#{"))
    again = Sweep.load("pipe.toml")
    assert states(again) == {"changed": 32, "done": 4}
    assert launch(again, inline=True, where="method = 'train'", rerun_changed=True).ran == 8
    assert states(again) == {"changed": 24, "done": 12}  # the evaluations of the old models
    assert launch(again, inline=True, rerun_changed=True).ran == 24
    assert states(again) == {"done": 36}
    assert counts() == {"prepare": 4, "train": 16, "evaluate": 48}
    models = Store().sql("SELECT count(*) FROM cells WHERE method = 'evaluate' AND model LIKE '%#%'").item()
    assert models == 24


def test_an_edit_changes_dependents_also_if_what_they_need_is_left_out(pipeline: Sweep, write) -> None:
    launch(pipeline, inline=True)
    write("prepare.py", PREPARE.replace("-{", "+{"))
    again = Sweep.load("pipe.toml")
    only = {"where": "method = 'evaluate'"}
    assert states(again, **only) == {"changed": 24}
    nothing = launch(again, inline=True, rerun_changed=True, **only)
    assert (nothing.ran, nothing.changed, nothing.held) == (0, 24, 24)  # they would read the old models once more
    assert nothing.warnings[0].startswith("24 cells with unchanged code need changed cells that --where leaves out")
    assert launch(again, inline=True, rerun_changed=True, where="method <> 'evaluate'").ran == 12
    assert launch(again, inline=True, rerun_changed=True, **only).ran == 24
    assert states(again, **only) == {"done": 24}


def test_what_is_needed_is_part_of_the_identity(pipeline: Sweep) -> None:
    base = expand([pipeline]).wide()
    other = expand([Sweep.from_text(SWEEP.replace('method = "prepare"', 'method = "prepare"\nextra = 1'))]).wide()
    for method, same in (("prepare", False), ("train", False), ("evaluate", False)):
        ids = [set(table.filter(table["method"] == method)["cell_id"]) for table in (base, other)]
        assert bool(ids[0] & ids[1]) == same
    alone = SWEEP.replace('needs = "train"\n', "").replace('needs = "prepare"\n', "")
    plain = Sweep.from_text(alone.replace('block = "evaluate"\n', ""), Path("pipe.toml"))
    named = Sweep.from_text(alone, Path("pipe.toml"))
    assert expand([plain]).cells.equals(expand([named]).cells)


def test_cells_whose_needs_fail_are_not_run(pipeline: Sweep, write) -> None:
    write("train.py", TRAIN + "\n    # \n")
    broken = TRAIN.replace("(data,)", "assert cell.config['lr'] < 0.15\n        (data,)")
    write("train.py", broken)
    failed = launch(Sweep.load("pipe.toml"), inline=True)
    assert (failed.done, failed.failed, failed.left, failed.exit_code) == (4 + 4 + 12, 4, 12, 1)
    assert failed.warnings == ("12 cells not run: cells that they need are not done",)
    assert states(Sweep.load("pipe.toml")) == {"failed": 4, "done": 20, "blocked": 12}
    assert states(Sweep.load("pipe.toml"), resume=True) == {"failed": 4, "new": 12, "done": 20}
    write("train.py", TRAIN)
    store = Store()
    resumed: Result = Launch(from_store(store, None), store, Options(resume=True, executor="inline")).run()
    assert (resumed.ran, resumed.exit_code) == (16, 0)


def test_a_part_may_be_run_alone(pipeline: Sweep) -> None:
    nothing = launch(pipeline, inline=True, where="method = 'evaluate'")
    assert (nothing.ran, nothing.left) == (0, 24)
    assert launch(pipeline, inline=True, where="method <> 'evaluate'").ran == 12
    assert launch(pipeline, inline=True, where="method = 'evaluate' and noise = 1").ran == 8


PROGRAM = """
seeds = [0]
args = "argparse"
files = ["*.py"]

[[grid]]
block = "train"
command = "python fit.py {args}"
lr = [0.1, 0.2]

[[grid]]
needs = "train"
command = "python score.py --models {needs.train} -- {noise} {seed}"
noise = [1, 2]
"""


def test_a_program_gets_folders(write) -> None:
    write("fit.py", "import sys\nopen('model.txt', 'w').write(sys.argv[1])\nprint('{\"fit\": 1}')\n")
    write(
        "score.py",
        "import json, sys\nfolders = sys.argv[2 : sys.argv.index('--')]\n"
        "models = [open(f'{folder}/model.txt').read() for folder in folders]\n"
        "print(json.dumps({'models': len(models), 'good': int(sorted(models) == ['--lr=0.1', '--lr=0.2'])}))\n",
    )
    assert launch(Sweep.load(write("programs.toml", PROGRAM)), inline=True).done == 4
    rows = Store().sql("SELECT noise, models, good FROM cells WHERE noise IS NOT NULL ORDER BY ALL").rows()
    assert rows == [(1, 2.0, 1.0), (2, 2.0, 1.0)]


def test_debug_gives_the_files_too(pipeline: Sweep, cli) -> None:
    launch(pipeline, inline=True)
    cell = Store().sql("SELECT cell_id FROM cells WHERE method = 'evaluate' LIMIT 1").item()
    ended = cli("debug", cell)
    assert "the recorded metrics are the same" in ended.stdout, ended


def run_with_kills(folder: Path, sweep: str, kills: int) -> None:
    """Launch until all is done; kill the first launches, each second one as soon as it owns the store."""
    for number in range(kills + 1):
        words = [*RAYSWEEP, "launch", sweep, "--inline", "--json"]
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number == kills:
            assert process.wait() == 0
            return
        before = progress(number % 2 == 0)
        while progress(number % 2 == 0) == before:
            assert process.poll() is None, "all cells were done before the last kill"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def progress(is_recorded: bool) -> int:
    """The number of launches that have owned the store, or of cells with a recorded attempt."""
    if is_recorded:
        return len(Store().summary()) if Store().exists() else 0
    return len(list(Path("results/_epochs").glob("*.json")))


LARGER = SWEEP.replace("0..1", "0..10")  # 198 cells


@pytest.mark.parametrize(("kills", "text"), [(2, SWEEP), pytest.param(50, LARGER, marks=pytest.mark.slow)])
def test_a_pipeline_survives_kills(pipeline: Sweep, write, folder: Path, kills: int, text: str) -> None:
    seconds = 0.05 if kills < 10 else 0.25
    for name, code in {"prepare": PREPARE, "train": TRAIN, "evaluate": EVALUATE}.items():
        start = "def run(cell, context):\n        "
        write(f"{name}.py", code.replace(start, f"{start}import time\n        time.sleep({seconds})\n        "))
    write("kills.toml", text)
    run_with_kills(folder, "kills.toml", kills)
    cells = len(expand([Sweep.load("kills.toml")]))
    store = Store()
    assert store.check() == []
    assert store.cells.collect().height == cells
    done = store.sql("SELECT cell_id, count(*) AS n FROM attempts WHERE status = 'done' GROUP BY ALL")
    assert (done.height, done["n"].max()) == (cells, 1)
    wrong = "SELECT count(*) FROM cells WHERE method = 'evaluate' AND model <> format('{}-{}@{}', size, seed, lr)"
    assert store.sql(wrong).item() == 0


@pytest.mark.parametrize("address", [None, pytest.param("local", marks=pytest.mark.slow)], ids=["processes", "Ray"])
def test_workers_read_the_files_of_a_pipeline_from_the_store(pipeline: Sweep, address: str | None) -> None:
    result = launch(pipeline, address=address)
    assert (result.done, result.exit_code) == (36, 0)
    wrong = "SELECT count(*) FROM cells WHERE method = 'evaluate' AND model <> format('{}-{}@{}', size, seed, lr)"
    assert Store().sql(wrong).item() == 0
    assert launch(pipeline.with_seeds("0..2")).ran == 18
