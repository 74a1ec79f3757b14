"""`best`, `compare`, `diff` and `questions`, on the command line and from Python, over a store of a small sweep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import raysweep
from raysweep import Sweep, best, launch
from raysweep.orchestrator.errors import InputError
from tests.conftest import Ended

WORKLOAD = """
    OFFSET = {"good": -1.0, "bad": 0.0, "wild": 0.5}

    def run(cell, context):
        noise = ((cell.seed * 37) % 11) / 10
        own = ((cell.seed * (len(cell.method) + 13)) % 7) / 20
        if cell.method == "bad" and cell.seed == 3:
            raise ValueError("unlucky")
        if cell.method == "wild" and cell.seed == 4:
            return {"diverged": 1.0}
        return {"loss": noise + own + OFFSET[cell.method] + cell.config["rate"], "other": 1.0}
"""
SWEEP = """
    workload = "toy:run"
    seeds = "0..{last}"
    [[grid]]
    method = ["good", "bad", "wild"]
    rate = [0.1, 0.2]
"""
QUESTIONS = """
    [[question]]
    name = "good-or-bad"
    a = "method = 'good' and rate = 0.1"
    b = "method = 'bad' and rate = 0.1"
    metric = "loss"
    margin = 0.1

    [[question]]
    name = "rates"
    a = "method = 'good' and rate = 0.1"
    b = "method = 'good' and rate = 0.2"
    metric = "loss"
    margin = 1

    [[question]]
    name = "best"
    best_of = "rate = 0.1"
    metric = "loss"
"""

Cli = Callable[..., Ended]
Write = Callable[..., Path]


@pytest.fixture
def launched(cli: Cli, write: Write) -> Cli:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP.format(last=11) + QUESTIONS)
    assert "70 of 72 cells done" in cli("launch", "toy.toml", "--inline").stdout
    return cli


def answer(cli: Cli, *arguments: str) -> dict[str, object]:
    ended = cli(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    document: dict[str, object] = json.loads(ended.stdout)
    return document


def test_every_question_on_one_store(launched: Cli, folder: Path) -> None:
    """One launch for all, as launches are what takes time."""
    # compare
    (entry,) = raysweep.compare("results", "method=good", "method=bad", metric="loss", where="rate=0.1")
    assert (entry.a, entry.b, entry.verdict, entry.stratum) == ("good", "bad", "a is better", "")
    assert (entry.pairs, entry.a_better, entry.failed, entry.diverged) == (12, 12, (0, 1), (0, 0))
    assert entry.p == entry.p_holm == 2 / 4096
    assert entry.effect is not None
    assert entry.interval is not None
    assert entry.interval[0] < entry.effect < entry.interval[1] < 0
    assert "failed: 0 of a, 1 of b (counted as worse than any value)" in repr(entry)
    higher = raysweep.compare("results", "method=good", "method=bad", metric="loss", better="higher", where="rate=0.1")
    assert (higher[0].effect, higher[0].a_better) == (entry.effect, 1)  # the failed cell is still the worse one
    three = raysweep.compare("results", "method=good", "method=bad", "method=wild", metric=["loss", "other"])
    assert [(e.metric, e.b, e.stratum) for e in three][:4] == [
        ("loss", "bad", "rate=0.1"), ("other", "bad", "rate=0.1"),
        ("loss", "bad", "rate=0.2"), ("other", "bad", "rate=0.2"),
    ]  # fmt: skip
    assert len(three) == 8
    assert three[0].p_holm == 8 * three[0].p
    mixed = raysweep.compare("results", "method=good and rate=0.1", "method=wild and rate=0.2", metric="loss")
    assert mixed[0].also_differing == ()
    hidden = raysweep.compare("results", "method=good", "method=wild", metric="loss", where="(method=good)=(rate<0.15)")
    assert hidden[0].also_differing == ("rate",)
    assert "a and b differ in rate as well" in repr(hidden)
    rates = raysweep.compare("results", "rate=0.1", "rate=0.2", metric="loss", where="method=good")
    assert (rates[0].verdict, rates[0].effect) == ("a is better", pytest.approx(-0.1))
    # best
    best = raysweep.best("results", "loss", where="rate=0.1")
    assert [entry.setting for entry in best.candidates] == ["good"]
    assert [(e.setting, e.values, e.failed, e.diverged) for e in best.settings] == [
        ("good", 12, 0, 0), ("bad", 11, 1, 0), ("wild", 11, 0, 1),
    ]  # fmt: skip
    assert "rate=0.1" in best.shared
    shown = launched("best", "--metric", "loss", "--where", "rate=0.1").stdout
    assert "1 of 3 settings may be the best (95 %)" in shown
    # errors
    for arguments, message in (
        (("compare", "method=good", "method=bat", "--metric", "loss"), "settings: good, rate=0.1"),
        (("compare", "method=good", "method=bad", "--metric", "los"), "did you mean 'loss'?"),
        (("compare", "method=good", "rate=0.1", "--metric", "loss"), "both sides select good, rate=0.1"),
        (("compare", "method=good", "method<>good", "--metric", "loss"), "select one of them"),
        (("compare", "method=good", "status=done", "--metric", "loss"), "hides failures"),
        (("compare", "method=good", "--metric", "loss"), "give a second predicate"),
        (("best", "--metric", "los"), "did you mean 'loss'?"),
        (("best", "--metric", "loss", "--store", "none"), "no store at"),
    ):
        ended = launched(*arguments)
        assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
    # questions
    verdicts = {entry["question"]: entry for entry in answer(launched, "questions")}  # type: ignore[union-attr]
    assert [(name, v["verdict"], v["ended_before"]) for name, v in verdicts.items()] == [
        ("good-or-bad", "a is better", 0), ("rates", "a is better", 0), ("best", "best: good", 0),
    ]  # fmt: skip
    # diff
    assert launched("diff", "results", "results").stdout == "no differences; 72 cells the same\n"


def test_a_question_that_is_added_later_is_shown_as_such(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP.format(last=1))
    cli("launch", "toy.toml", "--inline")
    assert "no questions" in cli("questions").stdout
    write("toy.toml", SWEEP.format(last=2) + QUESTIONS)
    cli("launch", "toy.toml", "--inline")
    entries = answer(cli, "questions")
    assert [(e["question"], e["verdict"], e["ended_before"], e["dropped"]) for e in entries] == [  # type: ignore[index]
        ("good-or-bad", "open", 4, False), ("rates", "open", 4, False), ("best", "open", 6, False),
    ]  # fmt: skip
    assert "after 4 of its cells had ended" in cli("questions").stdout
    write("toy.toml", SWEEP.format(last=3))
    cli("launch", "toy.toml", "--inline")
    assert cli("questions").stdout.count("the sweep file no longer has this question") == 3


def test_predicates_are_checked_while_planning(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP.format(last=1) + QUESTIONS.replace("method = 'bad' and rate = 0.1", "method = 'bat'"))
    ended = cli("launch", "toy.toml", "--inline")
    assert ended.returncode == 2
    assert "question 'good-or-bad': b: \"method = 'bat'\": none of the 12 cells matches" in ended.stderr
    assert "settings: good, rate=0.1; good, rate=0.2; bad, rate=0.1" in ended.stderr
    assert not Path("results").exists()
    write("toy.toml", SWEEP.format(last=1) + QUESTIONS.replace("method = 'bad' and", "method <> 'good' and"))
    assert "select one of them" in cli("plan", "toy.toml").stderr


@pytest.mark.slow
def test_best_of_hundreds_of_settings_takes_seconds(write: Write) -> None:
    """Neither names nor differences are compared setting by setting, which takes the square of their number."""
    write("many.py", "def run(cell, context):\n    return {'loss': cell.config['x'] + cell.seed / 10}\n")
    sweep = Sweep.from_text(
        f'workload = "many:run"\nseeds = [0, 1]\n[[grid]]\nmethod = "m"\nx = {list(range(30))}\ny = {list(range(20))}\n'
    )
    launch(sweep, inline=True)
    began = time.process_time()
    ranked = best("results", "loss", where="x >= 0").settings
    assert time.process_time() - began < 10
    assert (len(ranked), ranked[0].mean, ranked[-1].mean) == (600, 0.05, 29.05)


def test_a_question_about_settings_that_set_replaces_is_not_asked(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP.format(last=1) + QUESTIONS)
    ended = cli("launch", "toy.toml", "--inline", "--set", "rate=0.1")
    assert ended.returncode == 0
    assert "question 'rates': not asked of these cells, since --set changes the settings" in ended.stderr
    assert "question 'best'" not in ended.stderr
    entries = answer(cli, "questions")
    assert {e["question"]: e["seeds"] for e in entries} == {"good-or-bad": 2, "rates": 0, "best": 2}  # type: ignore[index]


def test_diff_of_two_stores(cli: Cli, write: Write) -> None:
    write("toy.py", "def run(cell, context):\n    return {'loss': float(cell.seed)}\n")
    sweep = 'workload = "toy:run"\nseeds = [{}]\n[[grid]]\nmethod = "m"\n'
    write("toy.toml", sweep.format("1, 2, 3"))
    cli("launch", "toy.toml", "--inline", "--store", "one")
    write("toy.py", "def run(cell, context):\n    return {'loss': 2.0 if cell.seed == 2 else 9 / (cell.seed - 4)}\n")
    write("toy.toml", sweep.format("2, 3, 4"))
    cli("launch", "toy.toml", "--inline", "--store", "two")
    ended = cli("diff", "one", "two", "--json")
    result = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert result["counts"] == {
        "only in the first store": 1, "only in the second store": 1, "other status": 0, "other metrics": 1,
        "other code": 2,
    }  # fmt: skip
    (metrics,) = [row for row in result["cells"] if row["difference"] == "other metrics"]
    assert (metrics["seed"], metrics["first"], metrics["second"]) == (3, "loss=3.0", "loss=-9.0")
    assert cli("diff", "one", "two").stdout.endswith("1 other metrics; 2 other code; 0 cells the same\n")


def test_nothing_to_pair_names_the_seeds(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD)
    write("toy.toml", SWEEP.format(last=3))
    cli("launch", "toy.toml", "--inline", "--where", "(method = 'good') = (seed < 2)")
    with pytest.raises(InputError, match="no seed has ended cells of both; seeds of good: 0, 1; of bad: 2, 3"):
        raysweep.compare("results", "method=good", "method=bad", metric="loss", where="rate=0.1")


def test_a_misspelt_metric_is_an_error_even_if_a_setting_has_only_failures(cli: Cli, write: Write) -> None:
    write("toy.py", WORKLOAD.replace("cell.seed == 3", "cell.seed >= 0"))
    write("toy.toml", SWEEP.format(last=2))
    assert cli("launch", "toy.toml", "--inline").returncode == 1
    for arguments in (("best",), ("compare", "method=good", "method=bad", "--where", "rate = 0.1")):
        ended = cli(*arguments, "--metric", "los")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "unknown metric 'los'; did you mean 'loss'?" in ended.stderr
