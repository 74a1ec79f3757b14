"""`launch --until decided`: rounds of seeds until the questions are decided, budgets, kills, and what others add."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import altair
import polars as pl
import pytest

import raysweep
from raysweep.analysis.questions.declared import Verdict, questions
from raysweep.analysis.report import charts
from raysweep.analysis.report.build import build
from raysweep.analysis.report.html import to_html
from raysweep.analysis.report.markdown import to_markdown
from raysweep.orchestrator.cli.watch import lines, snapshot
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import Sweep
from tests.command_line import RAYSWEEP, environment
from tests.conftest import Ended

Cli = Callable[..., Ended]
Write = Callable[..., Path]

WORKLOAD = """
    import random, time

    MEANS = {"good": -1.0, "same": -1.0, "bad": 2.0, "wild": -0.5}

    def run(cell, context):
        time.sleep(cell.config.get("sleep", 0))
        chance = random.Random(f"{cell.method} {cell.seed}")
        if cell.method == "wild" and chance.random() < 0.3:
            raise ValueError("unlucky")
        return {"loss": chance.gauss(MEANS[cell.method], 1)}
"""
SWEEP = """
    workload = "toy:run"
    seeds = [3, 1, 2]

    [resources]
    retries = 0

    [[grid]]
    method = ["good", "bad", "wild", "same"]
"""
PAIR = """
    [[question]]
    name = "{0}-{1}"
    a = "method = '{0}'"
    b = "method = '{1}'"
    metric = "loss"
"""
BEST = """
    [[question]]
    name = "best"
    best_of = "method <> 'same'"
    metric = "loss"
"""
DECIDED = ("launch", "toy.toml", "--inline", "--until", "decided")


def answers(store: str = "results") -> dict[str, tuple[str, int]]:
    return {v.question: (v.verdict, v.seeds) for v in questions(store)}


def ended_cells(store: str = "results") -> pl.DataFrame:
    opened = Store(store)
    return opened.collect(lambda: opened.attempts.select("cell_id", "method", "seed", "seconds", "cpus"))


def test_seeds_are_added_until_all_is_decided(cli: Cli, write: Write) -> None:
    """Seeds are the file's, then the next integers; settings without a question never run; losers get no more seeds."""
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP + PAIR.format("good", "bad") + BEST)
    ended = cli(*DECIDED, "--max-cells", "200")
    assert ended.returncode == 0, ended.stderr
    assert "toy, good-bad: a is better" in ended.stdout
    assert "toy, best: best: good" in ended.stdout
    assert "fewer than a fixed plan for half a standard deviation (" in ended.stdout
    assert "best: bad was dropped, after" in ended.stderr
    cells = ended_cells()
    assert set(cells["method"]) == {"good", "bad", "wild"}
    of = {method: cells.filter(method=method)["seed"].sort().to_list() for method in ("good", "bad", "wild")}
    for seeds in of.values():
        assert seeds == list(range(1, len(seeds) + 1))
    assert len(of["bad"]) < len(of["good"])
    # The report draws each estimate and its band against seeds.
    page = build(Store())
    (pair, best) = page.questions
    assert (pair.decided, len(pair.path) >= pair.seeds, best.path) == (True, True, ())
    spec, columns = charts.question(pair)
    altair.Chart.from_dict({**spec, "config": charts.config()})
    assert columns["seeds"] == [point.seeds for point in pair.path]
    assert columns["high"][-1] <= 0
    assert "toy, good-bad: a is better" in to_html(page)
    assert "- toy, best: best: good" in to_markdown(page)
    screen = lines(snapshot(Store(), None)[0], {}, "")
    assert any(line.startswith("toy, good-bad: a is better") for line in screen)
    # The same command has nothing left to do, and a question that is added afterwards is shown as such.
    assert "(0 done now" in cli(*DECIDED, "--max-cells", "200").stdout
    assert ended_cells().height == cells.height
    write("toy.toml", SWEEP + PAIR.format("good", "bad") + BEST + PAIR.format("bad", "wild"))
    later = cli(*DECIDED, "--max-cells", "12")
    assert later.returncode == 1
    assert f"no further seed within --max-cells 12 ({cells.height} spent)" in later.stdout
    assert "cells had ended" in later.stdout
    assert ended_cells().height == cells.height


@pytest.mark.slow
def test_equal_settings_end_within_the_margin_or_at_the_budget(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD)
    equal = PAIR.format("good", "same")
    write("toy.toml", SWEEP + equal)
    ended = cli(*DECIDED, "--max-cells", "41", "--json")
    assert ended.returncode == 1
    assert ended_cells().height == 40  # a pair needs two
    assert '"event": "round", "number": 1, "cells": 12' in ended.stdout
    assert '"stopped": "no further seed within --max-cells 41 (40 spent)"' in ended.stdout
    write("toy.toml", SWEEP + equal.replace("metric", "margin = 1.5\n    metric"))
    assert "equal within the margin" in cli(*DECIDED, "--max-cells", "200", "--store", "other").stdout
    # From Python
    sweep = Sweep.load("toy.toml")
    result = raysweep.launch(sweep, "python", inline=True, until="decided", max_cells=200)
    assert result.exit_code == 0
    assert result.verdicts is not None
    (verdict,) = result.verdicts
    assert isinstance(verdict, Verdict)
    assert (verdict.verdict, verdict.seeds) == answers("other")["good-same"]
    assert [point.seeds for point in verdict.path] == list(range(1, len(verdict.path) + 1))
    with pytest.raises(InputError, match="would never end; add --max-cells N"):
        raysweep.launch(sweep, "python", inline=True, until="decided", max_gpu_hours=1)


def test_mistakes_are_refused_before_anything_is_written(cli: Cli, write: Write, folder: Path) -> None:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP)
    write("asked.toml", SWEEP + BEST)
    for arguments, message in (
        (("toy.toml", "--until", "decided", "--max-cells", "9"), "toy.toml: has no [[question]]"),
        (("asked.toml", "--until", "decidd", "--max-cells", "9"), "did you mean 'decided'?"),
        (("asked.toml", "--until", "decided"), "add --max-cells N, --max-cpu-hours H or --max-gpu-hours H"),
        (("asked.toml", "--until", "decided", "--max-gpu-hours", "1"), "no cell requests a GPU"),
        (("asked.toml", "--until", "decided", "--max-cells", "9", "--where", "k=1 or seed=1"), "leave out --where"),
        (("asked.toml", "--max-cells", "9"), "--max-cells 9: is a limit of --until decided"),
    ):
        ended = cli("launch", *arguments, "--inline")
        assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
    assert not (folder / "results").exists()
    cli("launch", "asked.toml", "--inline")
    assert "name the SWEEP" in cli("resume", "--until", "decided", "--max-cells", "9", "--inline").stderr


def test_a_cpu_budget_holds_over_launches_and_counts_failures(cli: Cli, write: Write) -> None:
    """Cells of 0.05 s and 2 CPUs, and a budget of 2 CPU-seconds: it is exceeded by less than one cell."""
    write("toy.py", WORKLOAD)
    sweep = SWEEP.replace("retries = 0", "retries = 0\n    cpus = 2\n\n    [config]\n    sleep = 0.05")
    write("toy.toml", sweep + PAIR.format("good", "same") + PAIR.format("good", "wild"))
    spent = []
    for hours in (1 / 3600, 2 / 3600, 2 / 3600):
        ended = cli(*DECIDED, "--max-cpu-hours", f"{hours:.6f}")
        assert ended.returncode == 1
        spent.append(float((ended_cells()["seconds"] * ended_cells()["cpus"]).sum()))
        assert spent[-1] < 3600 * hours + 0.3
        assert "max-cpu-hours" in ended.stdout
    assert spent[1] > spent[0] + 0.5
    assert spent[2] < spent[1] + 0.3


def test_a_cell_that_never_ends_blocks_its_question_only(cli: Cli, write: Write) -> None:
    """The method is stopped after two failures alike: these count, with attempts left or not; others are waiting."""
    write("toy.py", WORKLOAD.replace("chance.random() < 0.3", "True"))
    write(
        "toy.toml",
        SWEEP.replace("retries = 0", "retries = 9") + PAIR.format("good", "wild") + PAIR.format("good", "bad"),
    )
    ended = cli(*DECIDED, "--max-cells", "100", "--max-alike", "2")
    assert ended.returncode == 1
    assert "1 of 2 questions open: good-wild: wild has no outcome at seed" in ended.stdout
    assert answers()["good-bad"][0] == "a is better"


def test_a_metric_that_no_cell_has_ends_the_launch(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP + BEST.replace("loss", "los"))
    ended = cli(*DECIDED, "--max-cells", "100")
    assert ended.returncode == 1
    assert "did you mean 'loss'?" in ended.stdout


@pytest.mark.slow
def test_seeds_of_another_launch_count_and_come_after_those_before(cli: Cli, write: Write) -> None:
    """On a short budget the cheapest question is closed first. Extra seeds do not change its verdict."""
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP + PAIR.format("good", "same") + PAIR.format("good", "bad"))
    cli(*DECIDED, "--max-cells", "45")
    before = answers()
    assert (before["good-bad"][0], before["good-same"][0]) == ("a is better", "open")
    cli("launch", "toy.toml", "--inline", "--seeds", "100..119")
    assert answers()["good-bad"] == before["good-bad"]
    assert answers()["good-same"][1] == before["good-same"][1] + 20
    spent = ended_cells().filter(pl.col("method") != "wild").height
    cli(*DECIDED, "--max-cells", str(spent + 6))
    new = ended_cells().filter(pl.col("method") != "wild")
    assert spent < new.height <= spent + 6
    assert max(new["seed"]) == 119  # the next seeds are those that the file's list goes on with


def kill_and_resume(folder: Path, times: int, cells: int) -> list[int]:
    """Launch and kill so many times at random moments, then let it end. Returns the exit codes."""
    chance = random.Random()
    codes = []
    for turn in range(times + 1):
        process = subprocess.Popen(
            [*RAYSWEEP, *DECIDED, "--max-cells", str(cells), "--store", "killed", "--wait"],
            cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        if turn < times:
            assert process.stderr is not None
            process.stderr.readline()  # it has planned
            time.sleep(chance.uniform(0, 0.5))
            process.kill()
        process.communicate(timeout=120)
        codes.append(process.returncode)
        if Store("killed").exists():
            assert ended_cells("killed")["cell_id"].n_unique() <= cells
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("times", [20])
def test_killed_and_resumed_it_ends_in_the_same_verdicts(times: int, cli: Cli, write: Write, folder: Path) -> None:
    """kill -9 at random moments; the verdicts, and the seeds that they took, are those of a launch left alone."""
    write("toy.py", WORKLOAD)
    sweep = SWEEP.replace("retries = 0", "retries = 1\n\n    [config]\n    sleep = 0.02")
    write("toy.toml", sweep + PAIR.format("good", "same") + PAIR.format("good", "wild") + BEST)
    cli(*DECIDED, "--max-cells", "120")
    codes = kill_and_resume(folder, times, 120)
    assert codes[-1] == 1, codes  # one question stays open at the budget
    assert answers("killed") == answers()
    assert {name: verdict for name, (verdict, _) in answers().items()} == {
        "good-same": "open", "good-wild": "a is better", "best": "best: good",
    }  # fmt: skip


@pytest.mark.slow
def test_rounds_on_ray_share_one_session(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP + PAIR.format("good", "bad") + BEST)
    ended = cli(
        "launch", "toy.toml", "--until", "decided", "--max-cells", "200", "--store", "ray", "--address", "local"
    )
    assert ended.returncode == 0, ended.stderr
    assert "round 3" in ended.stderr
    assert ended_cells("ray").height
    store = Store("ray")
    assert store.collect(lambda: store.attempts.select(pl.col("epoch").n_unique())).item() == 1
    cli(*DECIDED, "--max-cells", "200")
    assert answers("ray") == answers()
