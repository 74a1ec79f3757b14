"""Malformed inputs with their exit codes and messages: the tables in the folder `malformed` beside this file.

A case of a table is a line `## title`, the input, a line `=> exit code`, and the output. The input is a sweep file, a
workload's module, a command line, a cluster file or the body of a cell's function: see the first lines of each table.
In an input, «NUL» and the like stand for one character, and «ab x 3» for ababab.

When a message is meant to change, write the tables anew and review their diff as English:

    RAYSWEEP_REWRITE=1 python -m pytest tests/orchestrator/cli/test_malformed.py
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import printable
from tests.command_line import called, restored
from tests.conftest import ROOT

TABLES = Path(__file__).parent / "malformed"
REWRITE = "RAYSWEEP_REWRITE"
CHARACTERS = {
    "NUL": "\0", "BOM": "\ufeff", "CR": "\r", "TAB": "\t", "ESC": "\x1b", "LF": "\n", "RTL": "\u202e", "FF": "\udcff",
}  # fmt: skip
"""Names of characters in inputs; FF is a byte that is not UTF-8."""

SWEEP = 'workload = "work:run"\nseeds = "0..4"\n[[grid]]\nmethod = "sgd"\n'
WORK = "def run(cell, context):\n    return {'loss': 1.0}\n"
TYPED = """
from pydantic import BaseModel, Field, field_validator


class Config(BaseModel, frozen=True, extra="forbid"):
    lr: float = Field(0.1, gt=0)
    layers: int = 2
    optimizer: str = "adam"
    batch_size: int = 32
    widths: list[int] = [1]
    nesterov: bool = False

    @field_validator("layers")
    @classmethod
    def few(cls, layers):
        if layers > 100:
            raise ValueError("more than 100 layers do not fit")
        return layers


METHODS = ("sgd", "momentum")


def settle(method, k, config):
    if method == "momentum" and k is None:
        raise ValueError("momentum needs k; set k = 4 or more")
    return k, config


def run(cell, context):
    return {"loss": 1.0}
"""
NESTED = """
from pydantic import BaseModel


class Optimizer(BaseModel, frozen=True, extra="forbid"):
    learning_rate: float = 0.1


class Config(BaseModel, frozen=True, extra="forbid"):
    optimizer: Optimizer = Optimizer()


def run(cell, context):
    return {"loss": 1.0}
"""


class Case(NamedTuple):
    """One malformed input."""

    title: str
    text: str
    recorded: str  # exit code and output


class Table(NamedTuple):
    """One file of cases."""

    head: str
    cases: list[Case]


def read(name: str) -> Table:
    head, *parts = re.split(r"^## ", (TABLES / f"{name}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    cases = []
    for part in parts:
        title, _, rest = part.partition("\n")
        text, _, recorded = rest.partition("\n=> ")
        cases.append(Case(title, text.rstrip("\n"), recorded.rstrip("\n")))
    return Table(head, cases)


def meant(text: str) -> str:
    """The input for which the text of a case stands."""
    for name, character in CHARACTERS.items():
        text = text.replace(f"«{name}»", character)
    return re.sub(r"«(.+?) x (\d+)»", lambda match: match[1] * int(match[2]), text, flags=re.DOTALL)


def put(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


# How an input of each kind is used


def sweep_file(text: str, folder: Path) -> str:
    """Plan a sweep file; keys that it does not mention are added."""
    put(folder / "work.py", WORK)
    put(folder / "typed.py", TYPED)
    put(folder / "nested.py", NESTED)
    if not re.search(r"^(# whole|«BOM»)", text):
        keys = re.findall(r"^\s*\"?([\w-]+)\"?\s*[=:]", text, flags=re.MULTILINE)
        before = [
            line for line, key in zip(SWEEP.splitlines()[:2], ("workload", "seeds"), strict=True) if key not in keys
        ]
        after = "" if "grid" in text else '\n[[grid]]\nmethod = "sgd"\n'
        text = "".join(f"{line}\n" for line in before) + text + after
    put(folder / "sweep.toml", meant(text))
    return command("raysweep plan sweep.toml", folder)


def module(text: str, folder: Path) -> str:
    """Plan a sweep of a workload's module; a function `run` is added if the text has none."""
    put(folder / "work.py", meant(text) + ("" if re.search(r"\brun\b|# whole", text) else f"\n\n{WORK}"))
    put(folder / "sweep.toml", SWEEP)
    return command("raysweep plan sweep.toml", folder)


def cluster_file(text: str, folder: Path) -> str:
    """Check a cluster file."""
    put(folder / "cluster.yaml", meant(text))
    return command("raysweep cluster check cluster.yaml", folder)


def command(text: str, folder: Path) -> str:
    """Run a command line, and check that it wrote nothing."""
    before = contents(folder)
    ended = called(shlex.split(meant(text))[1:], folder)
    assert contents(folder) == before, text
    return f"{ended.returncode}\n{normal(ended.stderr + ended.stdout, folder)}".rstrip("\n")


def contents(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {str(path): path.lstat().st_mtime_ns for path in files}


def normal(text: str, folder: Path) -> str:
    """The output without what varies, and without the frame of a usage error."""
    for path, name in ((folder, "FOLDER"), (folder.resolve(), "FOLDER"), (ROOT, "CODE")):
        text = text.replace(str(path), name)
    text = re.sub(r"^Usage: .*\nTry .*\n╭.*\n", "usage: ", text, flags=re.MULTILINE)
    text = re.sub(r"^[╭╰].*\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^usage: │ (.*?) *│$", r"usage: \1", text, flags=re.MULTILINE)
    text = re.sub(r"^│ (.*?) *│$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"columns of cells: .*|; columns: .*", "[columns]", text)
    text = re.sub(r"(?<=this machine has )[^:]*", "SIZE", text)
    text = re.sub(r" at 0x[0-9a-f]+", " at ADDRESS", text)
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


KINDS: dict[str, Callable[[str, Path], str]] = {
    "sweeps": sweep_file,
    "modules": module,
    "commands": command,
    "clusters": cluster_file,
}
"""Table -> what is done with the input of its cases."""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the cases; this process is restored afterwards."""
    folder = tmp_path_factory.mktemp("malformed")
    with restored(), pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RAYSWEEP_") and name != REWRITE]:
            patch.delenv(name)
        home = {name: str(folder / "home") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
        for name, value in {**home, "COLUMNS": "5000", "NO_COLOR": "1", "TERM": "dumb"}.items():
            patch.setenv(name, value)
        patch.setattr("typer.rich_utils.MAX_WIDTH", None)
        patch.setattr("typer.rich_utils.FORCE_TERMINAL", None)
        yield folder


@pytest.fixture(scope="module")
def prepared(process: Path) -> Path:
    """A folder with sweeps, a store of six cells, and places that are no store."""
    folder = process / "commands"
    folder.mkdir()
    put(folder / "digits.py", WORK)
    put(
        folder / "digits.toml",
        SWEEP.replace("work", "digits", 2).replace("digitsload", "workload") + "k = [1, 2]\nrate = 0.1\n",
    )
    put(folder / "typed.py", TYPED)
    put(folder / "typed.toml", SWEEP.replace('"work:', '"typed:'))
    put(folder / "large.toml", SWEEP.replace('"work:', '"digits:') + "resources = {cpus = 100_000}\n")
    put(folder / "notes.txt", "not a sweep")
    put(folder / "bad.yaml", "cluster_name: [")
    (folder / "empty").mkdir()
    (folder / "photos").mkdir()
    put(folder / "photos" / "holiday.jpg", "")
    launch(Sweep.load(folder / "digits.toml"), folder / "results", inline=True)
    for name in ("newer", "garbled", "nameless"):
        shutil.copytree(folder / "results", folder / name)
    described = json.loads((folder / "newer" / "store.json").read_text(encoding="utf-8"))
    newer = {key: value + 90 if type(value) is int else value for key, value in described.items()}
    put(folder / "newer" / "store.json", json.dumps(newer))
    put(folder / "garbled" / "store.json", "{")
    (folder / "nameless" / "store.json").unlink()
    return folder


def played(name: str, case: Case, number: int, process: Path, prepared: Path) -> str:
    if name == "commands":
        folder = prepared
    else:
        folder = process / f"{name}-{number}"
        folder.mkdir()
    for module_name in ("work", "typed", "digits"):
        sys.modules.pop(module_name, None)
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(str(process))]
    return KINDS[name](case.text, folder)


def compare(name: str, table: Table, outcomes: list[str]) -> None:
    """Compare outcomes with those on record, or record them."""
    text = table.head + "\n".join(
        f"## {case.title}\n{case.text}\n=> {outcome}\n" for case, outcome in zip(table.cases, outcomes, strict=True)
    )
    file = TABLES / f"{name}.txt"
    recorded = file.read_text(encoding="utf-8")
    if os.environ.get(REWRITE):
        file.write_text(text, encoding="utf-8")
    elif recorded != text:
        diff = difflib.unified_diff(recorded.splitlines(), text.splitlines(), file.name, "now", lineterm="")
        again = f"{REWRITE}=1 python -m pytest {Path(__file__).relative_to(ROOT)}"
        pytest.fail("\n".join([*diff, "", f"if this is meant: {again}"]), pytrace=False)


@pytest.mark.parametrize("name", KINDS)
def test_each_input_has_its_message(name: str, process: Path, prepared: Path) -> None:
    table = read(name)
    compare(name, table, [played(name, case, i, process, prepared) for i, case in enumerate(table.cases)])


def test_each_wrong_result_of_a_cell_has_its_message(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells run in one launch: the method of a cell is the number of its case."""
    table, folder = read("cells"), process / "cells"
    folder.mkdir()
    functions = [
        f"def case_{i}(cell, context):\n{textwrap.indent(meant(c.text), '    ')}\n" for i, c in enumerate(table.cases)
    ]
    run = "def run(cell, context):\n    return globals()['case_' + cell.method](cell, context)\n"
    put(folder / "returns.py", "import numpy as np\n\n\n" + "\n\n".join([*functions, run]))
    methods = json.dumps([str(i) for i in range(len(table.cases))])
    put(
        folder / "sweep.toml",
        f'workload = "returns:run"\nseeds = [0]\n[resources]\nretries = 0\n[[grid]]\nmethod = {methods}\n',
    )
    monkeypatch.chdir(folder)
    ended = launch(Sweep.load("sweep.toml"), folder / "results", inline=True)
    assert (ended.done, ended.failed) == (0, len(table.cases))
    attempts = Store(folder / "results").attempts.select("method", "status", "error_type", "error_message").collect()
    rows = {method: f"{status}\n{kind}: {message}" for method, status, kind, message in attempts.iter_rows()}
    compare("cells", table, [normal(printable(rows[str(i)]), folder).rstrip("\n") for i in range(len(table.cases))])


def test_there_are_three_hundred_of_them() -> None:
    tables = {path.stem: read(path.stem) for path in TABLES.iterdir()}
    assert tables.keys() == {*KINDS, "cells"}
    cases = [case for table in tables.values() for case in table.cases]
    assert len(cases) >= 300
    assert len({(case.text) for case in cases}) == len(cases)
    codes = [case.recorded.partition("\n")[0] for name in KINDS for case in tables[name].cases]
    assert codes.count("2") > 0.9 * len(codes)
    assert set(codes) <= {"0", "2"}  # 0: accepted, with a warning or as documented
