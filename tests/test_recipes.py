"""CONTRIBUTING's recipes followed in a copy: a rule, a stream, a workload; the contract tests run on them.

The additions in `tests/recipes` are small but real; a step that the recipes forget fails here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


RULE_TEST = """

def test_a_horizon_of_one_is_the_immediate_gradient():
    from raysweep.workloads.rnn.rules.recent import recent

    problem = Problem(n=5, n_in=1, n_out=1, steps=15)
    one, none = problem.replay(recent(1)).grads, problem.replay(traces(decay=0.0)).grads
    for mine, other in zip(one, none, strict=True):
        np.testing.assert_array_equal(mine, other)
"""


class Copy:
    """A working copy to follow a recipe in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("workloads", "orchestrator", "analysis", "tests", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "src", folder / "src", symlinks=True)
        for path in [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
            shutil.copy(path, folder)

    def add(self, name: str, folder: str) -> None:
        """Put a file of `tests/recipes` into a folder."""
        shutil.copy(ROOT / "tests" / "recipes" / name, self.folder / folder)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def change(self, name: str, old: str, new: str) -> None:
        """Replace a text that occurs exactly once."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old, text.count(old))
        self.write(name, text.replace(old, new))

    def run(self, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{self.folder / 'src'}{os.pathsep}{self.folder}"}
        environment.pop("RAYSWEEP_STORE", None)
        command = [sys.executable, "-m", *words]
        ended = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=900)
        assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr[-3_000:]
        return ended.stdout

    def test(self, *words: str) -> int:
        """Run some tests of the copy; how many passed."""
        out = self.run("pytest", "-q", "-p", "no:cacheprovider", *words)
        return int(out.rpartition(" passed")[0].split()[-1])


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


@pytest.fixture
def recipes() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_a_learning_rule(copy: Copy, recipes: str) -> None:
    assert "## A learning rule" in recipes
    copy.add("recent.py", "workloads/rnn/rules")
    package = "workloads/rnn/rules/__init__.py"
    copy.change(
        package,
        "from raysweep.workloads.rnn.rules.rflo",
        "from raysweep.workloads.rnn.rules.recent import RECENT\nfrom raysweep.workloads.rnn.rules.rflo",
    )
    copy.change(package, '        "rflo": RFLO,\n', '        "recent": RECENT,\n        "rflo": RFLO,\n')
    copy.change(
        "workloads/rnn/learner.py",
        "    decay: float | None = Field(",
        '    horizon: Annotated[int | None, AddedLater(None)] = Field(default=None, ge=1, description="of recent")\n'
        "    decay: float | None = Field(",
    )
    imported = "from raysweep.workloads.interface import AddedLater\n"
    if imported not in (ROOT / "workloads/rnn/learner.py").read_text(encoding="utf-8"):
        copy.change(
            "workloads/rnn/learner.py",
            "from raysweep.workloads.rnn.losses",
            f"{imported}from raysweep.workloads.rnn.losses",
        )
    document = (
        "### `recent`\n\n<!-- recent -->\n<!-- end -->\n\n- Biased. Time G n m, memory horizon G n m.\n"
        "- horizon = 1 is `traces` with decay 0 (`test_a_horizon_of_one_is_the_immediate_gradient`).\n\n### `bptt`\n"
    )
    copy.change("docs/rules.md", "### `bptt`\n", document)
    rules = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    count = int(rules.partition(" rules on ")[0].split()[-1])
    copy.change("docs/rules.md", f"{count} rules on ", f"{count + 1} rules on ")
    row = "| recent | B_t | `trace` | sum of the last immediate influences | (Q, G, n, m) |\n"
    copy.change("docs/notation.md", "| bptt | w |", row + "| bptt | w |")
    tests = copy.folder / "tests" / "workloads" / "rnn" / "test_rules.py"
    tests.write_text(tests.read_text(encoding="utf-8") + RULE_TEST, encoding="utf-8")
    copy.run("raysweep.workloads.rnn.rules.describe")
    assert (
        copy.test(
            "tests/workloads/rnn/test_rules.py", "tests/workloads/rnn/test_limiting_cases.py", "-k", "recent or horizon"
        )
        > 20
    )
    assert copy.test("tests/workloads/rnn/test_rule_documents.py") > 5
    assert copy.test("tests/orchestrator/sweep/test_identity.py") > 3  # ids of old cells have survived the new setting
    plan = json.loads(copy.run("raysweep", "plan", "paper/e1-sine", "--where", "method = 'traces'", "--json"))
    assert plan["cells"] == 10


def test_a_stream(copy: Copy, recipes: str) -> None:
    assert "## A stream" in recipes
    copy.add("square.py", "workloads/rnn/streams")
    package = "workloads/rnn/streams/__init__.py"
    copy.change(
        package,
        "from raysweep.workloads.rnn.streams.stream",
        "from raysweep.workloads.rnn.streams.square import SQUARE\nfrom raysweep.workloads.rnn.streams.stream",
    )
    copy.change(package, '        "sine": SINE,\n', '        "sine": SINE,\n        "square": SQUARE,\n')
    copy.change(
        "workloads/online_rnn.py",
        '    phase: Literal["jump", "continuous"] | None = None\n',
        '    phase: Literal["jump", "continuous"] | None = None\n'
        '    half_before: Annotated[int | None, LATER] = Field(default=None, ge=1, description="of square, in steps")\n'
        '    half_after: Annotated[int | None, LATER] = Field(default=None, ge=1, description="of square, in steps")\n',
    )
    tests = "tests/workloads/rnn/test_streams.py"
    copy.change(tests, '"sine": 2000}', '"sine": 2000, "square": 2000}')
    copy.change(
        tests,
        '        "sine": {"steps": 300, "shift": 60},\n',
        '        "sine": {"steps": 300, "shift": 60},\n        "square": {"steps": 300, "shift": 60},\n',
    )
    copy.change(
        tests,
        '        ("sine", {"shift": 30}, 30, {"frequency_after": 2.0}),\n',
        '        ("sine", {"shift": 30}, 30, {"frequency_after": 2.0}),\n'
        '        ("square", {"shift": 30}, 30, {"half_after": 32}),\n',
    )
    assert copy.test(tests, "-k", "square") >= 6
    assert copy.test("tests/orchestrator/sweep/test_identity.py") > 3
    copy.write(
        "square.toml",
        'workload = "online_rnn"\nseeds = [1]\n[config]\nstream = "square"\nsteps = 200\nshift = 100\nhidden = 8\n'
        '[[grid]]\nmethod = ["traces", "rtrl"]\n',
    )
    copy.run("raysweep", "launch", "square.toml", "--inline")
    sql = "SELECT count(mse_post_all) AS n, min(persistence_post_all) AS naive FROM cells"
    (answer,) = json.loads(copy.run("raysweep", "query", sql, "--json"))
    assert answer == {"n": 2, "naive": pytest.approx(1.04)}  # 4 x 26 switches in 100 steps


def test_a_workload(copy: Copy, recipes: str) -> None:
    assert "## A workload" in recipes
    copy.add("coin.py", "workloads")
    copy.change(
        "workloads/__init__.py",
        '        "online_rnn": ',
        '        "coin": "raysweep.workloads.coin:run",\n        "online_rnn": ',
    )
    sweep = 'name = "coin"\ntitle = "Coins"\nworkload = "coin"\nseeds = "0..9"\n[[grid]]\nmethod = ["fair", "bent"]\n'
    copy.write("workloads/paper/coin.toml", sweep)
    assert copy.test("tests/orchestrator/cli/test_scaffold.py", "-k", "coin") == 3  # its sweep, schema and settings
    copy.run("raysweep", "launch", "paper/coin", "--inline")
    sql = "SELECT method, avg(heads) AS heads FROM cells GROUP BY ALL ORDER BY ALL"
    bent, fair = json.loads(copy.run("raysweep", "query", sql, "--json"))
    assert bent["heads"] == pytest.approx(0.9, abs=0.05)
    assert fair["heads"] == pytest.approx(0.5, abs=0.05)
    assert copy.test("tests/test_layers.py") > 1
