"""The guide is right: every command in it parses, its code runs on a store, its site builds without a warning."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.cli import scaffold
from raysweep.orchestrator.cli.app import app
from raysweep.orchestrator.cli.reference import page
from tests.command_line import forget_users
from tests.conftest import ROOT, environment
from tests.test_documents import DOCUMENTS

DOCS = ROOT / "docs"


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the raysweep commands in the shell blocks of a document, as words."""
    for block in blocks(path, "sh"):
        for line in re.sub(r'("[^"]*")|\\\n', lambda m: (m[1] or " ").replace("\n", " "), block).splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = next((i for i, word in enumerate(words) if word in {"&&", "|", ";", ">"}), len(words))
                if words[:1] == ["raysweep"]:
                    yield words[1:end]
                words = words[end + 1 :]


COMMANDS = sorted({(path.name, shlex.join(words)) for path in DOCUMENTS for words in commands(path)})


def parse(words: list[str]) -> None:
    """Parse words as the command line does, without running the command."""
    command = typer.main.get_command(app)
    context = command.make_context("raysweep", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


def test_the_documents_have_commands() -> None:
    assert len(COMMANDS) > 40
    assert {"start.md", "workloads.md", "failures.md", "reading.md", "README.md"} <= {name for name, _ in COMMANDS}


@pytest.mark.parametrize(("document", "line"), COMMANDS)
def test_a_command_in_the_documents_parses(document: str, line: str) -> None:
    parse(shlex.split(line))


def test_a_wrong_command_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option: --sedes"):
        parse(["launch", "a.toml", "--sedes", "0..1"])
    with pytest.raises(Exception, match="No such command 'lunch'"):
        parse(["lunch", "a.toml"])
    with pytest.raises(Exception, match="Missing"):
        parse(["show"])


def test_the_page_of_commands_is_up_to_date() -> None:
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == page(), "run raysweep.orchestrator.cli.reference"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after `raysweep new first --function` and a launch."""
    folder = tmp_path_factory.mktemp("started")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("RAYSWEEP_STORE", raising=False)
        scaffold.write("first", folder, function=True)
        assert launch(Sweep.load("first.toml"), "results", inline=True).done == 30
    forget_users()
    return folder


def python(text: str, folder: Path) -> str:
    program = folder / "page.py"  # a file: a function of `python -c` has no source
    program.write_text(text, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(program)], cwd=folder, env=environment(), capture_output=True, text=True, timeout=90
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


EXPECTED = ["4", "2", "30", "30", "4", "6000"]
"""Settings (method, rate), methods, done cells twice, settings, steps of all curves."""


@pytest.mark.parametrize(("number", "printed"), list(enumerate(EXPECTED)))
def test_the_store_is_read_as_shown(number: int, printed: str, started: Path) -> None:
    if "import pandas" in (text := blocks(DOCS / "reading.md", "python")[number]) or "to_pandas" in text:
        pytest.importorskip("pandas")
    assert python(text, started) == printed + "\n"


def test_every_way_of_reading_is_tried() -> None:
    assert len(blocks(DOCS / "reading.md", "python")) == len(EXPECTED)


def test_the_notebook_goes_from_a_store_to_a_figure(started: Path) -> None:
    document = json.loads((ROOT / "examples" / "figure.ipynb").read_text(encoding="utf-8"))
    source = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    assert len([line for line in "\n".join(source).splitlines() if line.strip()]) <= 10
    chart = json.loads(python("\n".join([*source, "print(chart.to_json())"]), started))
    (data,) = chart["datasets"].values()
    assert len(data) == 20
    assert {layer["mark"]["type"] for layer in chart["layer"]} == {"point", "tick"}


@pytest.mark.parametrize("number", range(4))
def test_workloads_in_the_guide_run(number: int, folder: Path) -> None:
    workloads = [block for block in blocks(DOCS / "workloads.md", "python") if "def run(" in block]
    assert len(workloads) == 4
    (folder / f"guide{number}.py").write_text(workloads[number])
    text = f'workload = "guide{number}:run"\nseeds = [0]\n[[grid]]\nmethod = ["sgd", "momentum"]\nrate = 0.5\n'
    ended = launch(Sweep.from_text(text), "results", inline=True)
    assert (ended.done, ended.asked) == (2, 2)
    assert Store("results").sql("SELECT avg(loss) AS loss FROM cells")["loss"][0] > 0


PYTHON_PAGE = [
    "", "8 0\n30\n", "10\n", "['method', 'loss'] 6\n",
    "-0.099 0.0625 no difference shown\n['sgd, rate=0.2', 'sgd, k=5, rate=0.2', 'momentum, rate=0.05']\n",
]  # fmt: skip
"""Output of the blocks of `python.md`: of a launch of cells that are done, of a function, of queries and questions."""


@pytest.mark.parametrize("number", range(len(PYTHON_PAGE)))
def test_the_python_page_runs(number: int, started: Path) -> None:
    programs = blocks(DOCS / "python.md", "python")
    assert len(programs) == len(PYTHON_PAGE)
    assert python(programs[number], started) == PYTHON_PAGE[number]


@pytest.mark.slow
def test_five_minutes_go_as_written(folder: Path, cli) -> None:
    """On Ray, every command of `docs/start.md` in its order, and what it prints where that is shown."""
    outputs = []
    for words in commands(DOCS / "start.md"):
        ended = cli(*words, timeout=200)
        assert ended.returncode == 0, (words, ended.stderr)
        outputs.append(ended.stdout)
    plan, launched, table = blocks(DOCS / "start.md", "text")
    assert plan in "".join(outputs)
    assert re.sub(r"in [\d.]+ s", "", launched) in re.sub(r"in [\d.]+ s", "", "".join(outputs))
    assert table.strip() in "".join(outputs)
    assert (folder / "report.html").stat().st_size > 500_000
    assert Store("results").cells.collect().height == 60
    assert (folder / "cells.parquet").is_file()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--config-file", "mkdocs.yml", "--strict"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {p.stem for p in DOCS.glob("*.md")} - {"index"} <= {p.name for p in (tmp_path / "site").iterdir()}
