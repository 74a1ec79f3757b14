"""Whole outputs of commands, as a user sees them, each in a file of the folder `outputs` beside this one.

When a message is meant to change, write the files anew and review their diff:

    RAYSWEEP_REWRITE=1 python -m pytest tests/orchestrator/cli/test_outputs.py

All commands run in this process, one after another in one folder. A file holds what was typed, the exit code, stdout
and stderr. Text that differs between runs or machines is replaced, see `VARYING`; all else must match.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from raysweep.orchestrator.cli.app import app
from raysweep.orchestrator.cli.terminal import progress
from raysweep.orchestrator.launch import display
from tests.command_line import in_this_process
from tests.conftest import ROOT

OUTPUTS = Path(__file__).parent / "outputs"
REWRITE = "RAYSWEEP_REWRITE"

VARYING: tuple[tuple[str, str], ...] = (
    # A traceback's frames in raysweep itself: their lines move whenever its code is edited.
    (r'File "CODE/\S+", line \d+', 'File "CODE/FILE", line LINE'),
    # The module of an error of raysweep's own, in a traceback.
    (r"\braysweep\.orchestrator(?:\.\w+)*\.(?=[A-Z])", "MODULE."),
    # When an attempt began or ended.
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "DATE TIME UTC"),
    # How long an attempt, a launch or a debugged cell took.
    (r"(?<=, )\d[\d.e-]* s(?= on )|(?<=, in )\d+\.\d s|(?<=^took )\d[\d.e-]* s$", "SECONDS s"),
    # How long the rest is expected to take.
    (r"(?<=about )\d[\d.]* (?:s|min)\b", "SECONDS s"),
    # How fast cells were done.
    (r"\d[\d.,]* (?:cells/s|cells a minute)", "RATE cells/s"),
    # The machine and the process that ran an attempt.
    (r"(?<= on )\S+ \(pid \d+\)", "HOST (pid PID)"),
    # The same of a launch with `--json`.
    (r'(?<="seconds": )[\d.e-]+|(?<="cells_per_s": )[\d.]+', "NUMBER"),
    # Segments: one for each half second in which something was recorded.
    (r"\d{8}-\d{8}\.parquet", "SEGMENT.parquet"),
    (r"\d+ segments(?= ->)", "N segments"),
    # The size of a page, which carries dates, paths and versions.
    (r"\d+\.\d MiB", "SIZE MiB"),
)
"""Regular expression -> what stands in its place in the files, applied in this order after the folders."""


# What the commands work on


DIGITS = """
    import signal


    def run(cell, context):
        if cell.seed == 3:
            raise ValueError("seed 3 is unlucky")
        if cell.seed == 4:
            signal.raise_signal(signal.SIGALRM)  # hangs: what its timeout does, without the wait
        rate = cell.config["rate"]
        context.array("loss", [1 / (1 + rate * step) for step in range(100)])
        return {"loss": 1 / (1 + 100 * rate) + (0.01 * cell.k if cell.k else 0)}
"""

DIGITS_SWEEP = """
    name = "digits"
    workload = "digits:run"
    seeds = "0..4"              # both ends included

    [resources]
    timeout_s = 2

    [[grid]]                    # a block is the product of its lists
    method = "sgd"
    rate = [0.1, 0.2]

    [[grid]]
    method = "sparse"
    k = [1, 2]
    rate = 0.1
"""


class File(NamedTuple):
    """A file that is written before the commands that follow it, and shown like them."""

    name: str
    text: str


class Act(NamedTuple):
    """What happens to the folder otherwise, shown as a comment."""

    comment: str
    act: Callable[[Path], None]


WAVES = """
    def run(cell, context):
        return {"loss": (cell.seed * 37 % 11) / 10 + {"low": -1, "high": 1, "like-low": -1}[cell.method]}
"""
WAVES_SWEEP = """
    workload = "waves:run"
    seeds = "0..4"

    [[grid]]
    method = ["low", "high", "like-low"]

    [[question]]
    name = "better"
    a = "method = 'low'"
    b = "method = 'high'"
    metric = "loss"

    [[question]]
    name = "equal"
    a = "method = 'low'"
    b = "method = 'like-low'"
    metric = "loss"
    margin = 0.1

    [[question]]
    name = "best"
    best_of = "method is not null"
    metric = "loss"
"""


def copy_and_cut(folder: Path) -> None:
    """A store of which one segment lost its end, as of a copy that was interrupted."""
    shutil.copytree(folder / "results", folder / "damaged")
    segment = max((folder / "damaged" / "cells").glob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-100])


def fill_with_others(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "holiday.jpg").write_bytes(b"")


SCENARIO: dict[str, list[str | File | Act]] = {
    "help": ["raysweep --help"],
    "help-plan": ["raysweep plan --help"],
    "help-launch": ["raysweep launch --help"],
    "help-accept": ["raysweep accept --help"],
    "help-resume": ["raysweep resume --help"],
    "help-control": [f"raysweep {name} --help" for name in ("pause", "continue", "cancel")],
    "help-reading": [f"raysweep {name} --help" for name in ("status", "serve", "show", "failures", "logs", "debug")],
    "help-query": [f"raysweep {name} --help" for name in ("query", "export")],
    "help-asking": [f"raysweep {name} --help" for name in ("best", "compare", "diff", "questions")],
    "help-starting": [f"raysweep {name} --help" for name in ("new", "workload", "schema")],
    "help-analysis": [f"raysweep {name} --help" for name in ("table", "figure", "claims", "report")],
    "help-artifacts": [f"raysweep artifacts {name}--help" for name in ("", "ls ", "get ")],
    "help-store": [f"raysweep store {name}--help" for name in ("", "check ", "compact ", "repair ")],
    "help-data": [f"raysweep data {name}--help" for name in ("", "list ", "fetch ")],
    "help-cluster": [f"raysweep cluster {name}--help" for name in ("", "check ")],
    "usage": [
        "raysweep launhc digits.toml",
        "raysweep plan digits.toml --sede 1",
        "raysweep plan",
        "raysweep launch digits.toml --retries many",
        "raysweep launch digits.toml --timeout nan",
        "raysweep store chekc",
    ],
    # The digits example, from its first plan on
    "new": [
        "raysweep new mine",
        "raysweep plan mine.toml",
        "raysweep new first --function",
        "raysweep new first",
        "raysweep new random",
    ],
    "plan-first": [
        File("digits.py", DIGITS),
        File("digits.toml", DIGITS_SWEEP),
        "raysweep plan digits.toml",
        """raysweep plan digits.toml --seeds 0..9 --where "method = 'sgd' and rate < 0.2" """,
        'raysweep plan digits.toml --where "seed = 7"',
        "raysweep plan digits.toml --json",
    ],
    "store-missing": [
        *(f"raysweep {command}" for command in ("status", "failures", "show 4619", "store check", "resume --inline")),
        "raysweep query 'SELECT * FROM cells' --store elsewhere",
    ],
    "launch-failures": ["raysweep launch digits.toml --inline"],
    "launch-again": ["raysweep launch digits.toml --inline"],
    "status": ["raysweep status", "raysweep status --where \"method = 'sgd'\""],
    "failures": ["raysweep failures", 'raysweep failures --where "seed < 3"'],
    "show-done": ["raysweep show 3c49"],
    "show-failed": ["raysweep show 4619", "raysweep show 57f1"],
    "show-wrong": ["raysweep show ffff", "raysweep show ''"],
    "debug": ["raysweep debug 3c49", "raysweep debug 4619"],
    "query": [
        "raysweep query \"SELECT method, k, rate, avg(loss), count(*) FROM cells WHERE status = 'done' "
        'GROUP BY ALL ORDER BY ALL"',
        "raysweep query \"SELECT cell_id, status, error_message FROM cells WHERE status <> 'done' ORDER BY cell_id\"",
        'raysweep query "SELECT method, k, seed, loss FROM cells ORDER BY ALL LIMIT 4" --format csv',
        'raysweep query "SELECT method, seed, loss FROM cells ORDER BY ALL LIMIT 2" --json',
    ],
    "query-describe": ["raysweep query --describe"],
    "query-wrong": [
        'raysweep query "SELECT lss FROM cells"',
        'raysweep query "SELEC loss FROM cells"',
        'raysweep query "SELECT loss FROM cell"',
        "raysweep query \"COPY (SELECT 1) TO 'mine.csv'\"",
        "raysweep query losses",
        "raysweep query",
        'raysweep query "SELECT 1" --format excel',
        'raysweep query "SELECT 1" --output losses.xlsx',
        "raysweep query --format parquet 'SELECT 1'",
    ],
    "query-saved": [
        "raysweep query --saved",
        'raysweep query --save losses "SELECT method, k, seed, loss FROM cells ORDER BY ALL LIMIT 2"',
        "raysweep query losses",
        "raysweep query --saved",
    ],
    "export": ["raysweep export", "raysweep export -o done.parquet --where \"status = 'done'\""],
    "plan-states": [
        Act(
            "digits.py is edited: other code",
            lambda folder: _replace(folder / "digits.py", "cell.seed == 3", "3 == cell.seed"),
        ),
        File(
            "digits.toml",
            DIGITS_SWEEP.replace('"0..4"', '"0..5"').replace("timeout_s = 2", "timeout_s = 2\n    retries = 3")
            + "    resources = {retries = 1}\n",
        ),
        "raysweep plan digits.toml",
        "raysweep plan digits.toml --rerun-changed",
        Act("digits.py and digits.toml are as they were", lambda folder: _restore(folder)),
        "raysweep plan digits.toml --set rate=0.3",
        "raysweep plan digits.toml --set rate=0.2",
    ],
    "launch-success": [
        "raysweep launch digits.toml --inline --where \"seed < 3 and method = 'sgd'\" --store successful",
        "raysweep launch digits.toml --inline --where \"seed < 3 and method = 'sgd'\" --store successful",
        "raysweep status --store successful",
        "raysweep status --store successful --watch",
        "raysweep failures --store successful",
        "raysweep launch digits.toml --inline --where 'seed = 77' --store successful",
    ],
    "launch-json": ["raysweep launch digits.toml --inline --where 'k = 1 and seed = 0' --store successful --json"],
    "launch-stopped": [
        "raysweep launch digits.toml --inline --seeds 3 --where 'k > 0' --retries 0 --max-failures 1 --store stopped",
        "raysweep launch digits.toml --inline --seeds 0 --max-hours 0 --store stopped",
    ],
    "launch-more": ["raysweep launch digits.toml --inline --seeds 0..5"],
    "launch-changed": [
        Act(
            "digits.py is edited: other code",
            lambda folder: _replace(folder / "digits.py", "cell.seed == 3", "3 == cell.seed"),
        ),
        "raysweep launch digits.toml --inline --seeds 0..2",
        "raysweep debug 3c49",
        Act("digits.py is as it was", lambda folder: _restore(folder)),
    ],
    "resume": [
        'raysweep resume --inline --where "seed = 3"',
        "raysweep resume digits.toml --inline --where \"status = 'timed_out' and k = 1\" --retries 0",
        "raysweep resume --seeds 0..5",
    ],
    "resume-mended": [
        File("digits.py", DIGITS.replace("if cell.seed == 3", "if cell.seed == 33")),
        "raysweep resume digits.toml --inline",
        "raysweep failures",
        Act("digits.py is as it was", lambda folder: _restore(folder)),
    ],
    "store": ["raysweep store check", "raysweep store compact", "raysweep store check"],
    "store-damaged": [
        Act("damaged: a copy of results, of which one segment lost its end", copy_and_cut),
        "raysweep store check --store damaged",
        "raysweep status --store damaged",
        'raysweep query "SELECT count(*) FROM cells" --store damaged',
        "raysweep query \"SELECT count(*) FROM cells WHERE status = 'done'\" --store damaged --skip-damaged",
        "raysweep status --store damaged --skip-damaged --json",
        "raysweep store repair --store damaged",
        "raysweep store repair --store damaged --yes",
        "raysweep store check --store damaged",
        "raysweep store repair --store damaged --json",
    ],
    "store-wrong": [
        Act("photos: a folder with a picture", fill_with_others),
        "raysweep launch digits.toml --inline --store photos",
        "raysweep status --store photos",
        "raysweep status --store digits.toml",
        "raysweep launch digits.toml --inline --store digits.toml",
        "raysweep status --store ftp://example.org/runs",
    ],
    "workload": [
        "raysweep workload",
        "raysweep workload digits:run",
        "raysweep workload first:run",
        "raysweep workload online_rnn",
        "raysweep workload online-rnn",
    ],
    "schema": ["raysweep schema"],
    "analysis-nothing": [
        "raysweep table 3",
        "raysweep table 99",
        "raysweep figure step",
        "raysweep figure stpe",
        "raysweep claims E99",
        "raysweep claims --format yaml",
    ],
    "claims": ["raysweep claims E1"],
    "asking": [
        "raysweep best --metric loss",
        "raysweep best --metric los",
        "raysweep compare method=sgd 'method=sparse and k=1' --metric loss --where rate=0.1",
        "raysweep compare method=sgd method=sparse --metric loss",
        "raysweep compare method=sgd method=spares --metric loss",
        "raysweep diff results results",
        "raysweep questions",
    ],
    "until": [
        File("waves.py", WAVES),
        File("waves.toml", WAVES_SWEEP),
        "raysweep launch waves.toml --inline --until decided --max-cells 21 --store waves",
        "raysweep launch waves.toml --inline --until decided --max-cells 30 --store waves",
        "raysweep questions --store waves",
    ],
    "report": [
        "raysweep report",
        "raysweep report --metric lss",
        "raysweep report -o report.md",
        "raysweep report -o nowhere/report.html",
    ],
    "data": ["raysweep data list", "raysweep data list mnist", "raysweep data fetch cifar10 --bin-ms 5"],
    "cluster": [
        "raysweep cluster check",
        "raysweep cluster check cluster.yaml --address auto",
        Act("cluster.yaml: the one of the repository", lambda folder: _copy_cluster(folder)),
        "raysweep cluster check cluster.yaml digits.toml",
        File("large.toml", DIGITS_SWEEP.replace("timeout_s = 2", "gpus = 2")),
        "raysweep cluster check cluster.yaml large.toml",
        File("bad.yaml", "cluster_name: bad\nmax_worker: 3\nprovider: {type: aws, region: us-west-2}\n"),
        "raysweep cluster check bad.yaml",
    ],
    # Wrong input
    "sweep-unknown": [
        "raysweep plan digit.toml",
        "raysweep plan paper/e1-sin",
        "raysweep plan digits",
        "raysweep plan .",
    ],
    "sweep-mistakes": [
        File(
            "mistakes.toml",
            """
            nmae = "mistakes"
            workload = "digits:run"
            seeds = [1, 2, 2, -1]
            rate = 0.1
            timeout_s = 2

            [resources]
            cpu = 1
            retries = -1

            [config]
            k = {a = 1}

            [[grid]]
            methods = "sgd"
            rate = []
            k = 1.5
            seeds = "0..4"
            """,
        ),
        "raysweep plan mistakes.toml",
        File("broken.toml", 'name = "broken\nworkload = "digits:run"\n'),
        "raysweep plan broken.toml",
        File("empty.toml", ""),
        "raysweep plan empty.toml",
        File("doubtful.toml", DIGITS_SWEEP + "    timeout_s = 3\n    [config]\n    widths = [1, 2]\n"),
        "raysweep plan doubtful.toml",
    ],
    "sweep-config": [
        File(
            "misspelt.toml",
            """
            workload = "first:run"
            seeds = "0..4"

            [config]
            nose = 0.1
            steps = "many"

            [[grid]]
            method = ["sdg", "momentum"]
            rate = 0.1
            """,
        ),
        "raysweep plan misspelt.toml",
        "raysweep launch misspelt.toml --inline",
    ],
    "sweep-workload": [
        *(
            step
            for name, text in (
                ("unknown", "onlinernn"),
                ("missing", "nothing:run"),
                ("failing", "failing:run"),
                ("other", "digits:runs"),
                ("form", "digits:"),
            )
            for step in (
                File(f"{name}.toml", f'workload = "{text}"\nseeds = "0..4"\n[[grid]]\nmethod = "sgd"\n'),
                *([File("failing.py", 'raise RuntimeError("no licence")\n')] if name == "failing" else []),
                f"raysweep plan {name}.toml",
            )
        )
    ],
    "options-wrong": [
        "raysweep plan digits.toml --seeds 5..1",
        "raysweep plan digits.toml --seeds 0-19",
        "raysweep plan digits.toml --seeds 1,x",
        "raysweep plan digits.toml --seeds 1,1",
        "raysweep plan digits.toml --set rate",
        "raysweep plan digits.toml --set method=sgd",
        "raysweep plan digits.toml --set rate=nan",
        "raysweep plan digits.toml --set 'rate=[[1]]'",
        "raysweep plan first.toml --set rat=0.3",
        "raysweep plan first.toml --set steps=many",
        'raysweep plan digits.toml --where "sed = 3"',
        'raysweep plan digits.toml --where "seed = "',
        'raysweep plan digits.toml --where "rate = 7"',
        'raysweep status --where "loss < "',
        "raysweep plan digits.toml --device gpu",
        "raysweep plan digits.toml --data-dir nowhere",
        "raysweep launch digits.toml --seeds 0..2500 --inline --store many",
    ],
}
"""File of `outputs` -> what is typed, in this order."""

ONE_LINE_OF_PROGRESS = {"launch-failures"}


def _replace(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")


def _restore(folder: Path) -> None:
    (folder / "digits.py").write_text(textwrap.dedent(DIGITS).lstrip(), encoding="utf-8")
    (folder / "digits.toml").write_text(textwrap.dedent(DIGITS_SWEEP).lstrip(), encoding="utf-8")


def _copy_cluster(folder: Path) -> None:
    shutil.copy(ROOT / "cluster.yaml", folder)


# How they are run


def played(steps: list[str | File | Act], folder: Path) -> str:
    """Run these steps; return the text of their file in `outputs`."""
    parts = []
    for step in steps:
        if isinstance(step, Act):
            step.act(folder)
            parts.append(f"# {step.comment}\n")
        elif isinstance(step, File):
            text = textwrap.dedent(step.text).lstrip()
            (folder / step.name).write_text(text, encoding="utf-8")
            parts.append(f"$ cat {step.name}\n{text}")
        else:
            line = step.strip()
            ended = in_this_process(shlex.split(line)[1:], folder, variables={"COLUMNS": "120"})
            streams = [(name, text) for name, text in (("stdout", ended.stdout), ("stderr", ended.stderr)) if text]
            lines = [f"$ {line}", f"exit code {ended.returncode}"]
            lines += [f"--- {name}\n{normal(text, folder)}" for name, text in streams]
            parts.append("\n".join(line.rstrip("\n") for line in lines) + "\n")
    return "\n".join(parts)


def normal(text: str, folder: Path) -> str:
    """The text without what varies."""
    for path, name in ((folder, "FOLDER"), (folder.resolve(), "FOLDER"), (ROOT, "CODE")):
        text = text.replace(str(path), name)
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return re.sub(r" +$", "", text, flags=re.MULTILINE)  # what pads a frame of `--help` can't be seen


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """All outputs, by name of the file."""
    folder = tmp_path_factory.mktemp("outputs") / "a folder"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in [name for name in os.environ if name.startswith("RAYSWEEP_") and name != REWRITE]:
            patch.delenv(name)
        for name, value in {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "HOME": str(folder / "home")}.items():
            patch.setenv(name, value)
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)
        patch.setattr("typer.rich_utils.MAX_WIDTH", None)  # read from the environment when it was imported
        patch.setattr("typer.rich_utils.FORCE_TERMINAL", None)
        texts = {}
        for name, steps in SCENARIO.items():
            # How many cells are done by the first line of progress is certain only while their length is unknown.
            pause = 60.0 if name in ONE_LINE_OF_PROGRESS else 1e9
            for module, pace in ((display, "NEWS_S"), (display, "LINES_S"), (progress, "EVENTS_S")):
                patch.setattr(module, pace, pause)
            texts[name] = played(steps, folder)
        yield texts


@pytest.mark.parametrize("name", SCENARIO)
def test_output_is_as_recorded(outputs: dict[str, str], name: str) -> None:
    file = OUTPUTS / f"{name}.txt"
    if os.environ.get(REWRITE):
        file.parent.mkdir(exist_ok=True)
        file.write_text(outputs[name], encoding="utf-8")
    recorded = file.read_text(encoding="utf-8") if file.exists() else ""
    if recorded != outputs[name]:
        diff = difflib.unified_diff(
            recorded.splitlines(), outputs[name].splitlines(), f"outputs/{file.name}", "now", lineterm=""
        )
        again = f"{REWRITE}=1 python -m pytest {Path(__file__).relative_to(ROOT)}"
        pytest.fail("\n".join([*diff, "", f"if this is meant: {again}"]), pytrace=False)


def test_no_file_is_left_of_outputs_that_are_gone() -> None:
    assert {file.name for file in OUTPUTS.iterdir()} == {f"{name}.txt" for name in SCENARIO}


def test_the_help_of_every_command_is_recorded() -> None:
    typed_lines = {step for steps in SCENARIO.values() for step in steps if isinstance(step, str)}

    def lines(group: typer.Typer, before: str) -> Iterator[str]:
        yield f"{before} --help"
        for command in group.registered_commands:
            name = command.name or (command.callback.__name__ if command.callback else "")
            yield f"{before} {name} --help"
        for inner in group.registered_groups:
            assert inner.typer_instance is not None
            yield from lines(inner.typer_instance, f"{before} {inner.name}")

    assert set(lines(app, "raysweep")) <= typed_lines
