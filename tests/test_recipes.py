"""CONTRIBUTING's recipes followed in a copy: a rule, a stream, a workload; the contract tests run on them.

What is added here is small but real; what the recipes forget to say would fail here.
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

RULE = '''r"""A window of immediate influences, each counted in full; what `traces` forgets by degrees goes at once.

    B_t = I_{t-horizon+1}[h] + ... + I_t[h]    I_t[h] immediate influence on h, none before the start        (1)
    G_t = q_t * B_t                            B_t (Q, G, n, m), q_t (Q, n)                                  (2)

Biased. horizon = 1 is the immediate gradient, `traces` with decay 0. Time G n m, memory horizon G n m a step.
Ours, after no source; a box where Eq. 6 of the paper has an exponential.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.influence import contract_local
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, Info, LearningRule, Observation, Rule, Shape


def recent(horizon: int) -> Rule:
    """Sum of the last immediate influences.

    Args:
        horizon: how many.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Array:
        return np.zeros((horizon, shape.read, shape.gates, shape.n, shape.m), shape.dtype)

    def update(seen: Observation, last: Array, rng: np.random.Generator) -> tuple[Array, Array, Info]:
        (stage,) = seen.step
        read = stage.gain[-len(seen.signal) :]
        last = np.concatenate([(read[:, :, :, None] * stage.inputs[None, :, None, :])[None], last[:-1]])
        trace = last.sum(axis=0)  # (1)
        return contract_local(trace, seen.signal), last, {}  # (2)

    return Rule(init, update)


def settle_k(k: int | None, n: int, settings: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Nothing is propagated, so k is stored as 0."""
    return (0, []) if k in (None, 0) else (k, [f"k = {k} on method 'recent', which propagates nothing; leave k out"])


RECENT = LearningRule(recent, {"horizon": 5}, gradient="biased", settle_k=settle_k, needs=(ONE_STAGE,))
'''

RULE_TEST = """

def test_a_horizon_of_one_is_the_immediate_gradient():
    from raysweep.workloads.rnn.rules.recent import recent

    problem = Problem(n=5, n_in=1, n_out=1, steps=15)
    one, none = problem.replay(recent(1)).grads, problem.replay(traces(decay=0.0)).grads
    for mine, other in zip(one, none, strict=True):
        np.testing.assert_array_equal(mine, other)
"""

STREAM = '''r"""A square wave whose half-period changes once; the next value is to be predicted.

    x_t = 1 where floor(t / half) is even, else -1;   y_t = x_{t+1}
    half = half_before for t <= shift, half_after for t > shift

x dimensionless, half-periods in steps. n_in = n_out = 1. Nothing is drawn. Naive baseline: persistence, z_t = x_t,
wrong at every switch only: mean squared error 4 / half.
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.rnn.streams.stream import Segment, Stream, StreamKind, shift_within


def square(steps: int, rng: np.random.Generator, shift: int, half_before: int, half_after: int) -> Stream:
    """The square wave.

    Args:
        steps: T.
        rng: not used; every stream gets one.
        shift: first step whose target has the later half-period.
        half_before: steps.
        half_after: steps.
    """
    t = np.arange(steps + 1)
    x = np.where(t // np.where(t <= shift, half_before, half_after) % 2, -1.0, 1.0)[:, None]
    return Stream(
        inputs=x[:-1],
        targets=x[1:],
        segments=(Segment("pre", 0, shift), Segment("post", shift, steps)),
        baselines={"persistence": x[:-1]},
    )


SQUARE = StreamKind(square, {"shift": 1000, "half_before": 10, "half_after": 4}, problems=shift_within)
'''

WORKLOAD = '''"""A coin thrown `steps` times: the share of heads."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from raysweep.workloads.interface import Cell, Context, Metrics

VERSION = "1"
METHODS = ("fair", "bent")


class Config(BaseModel):
    """Settings of a cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=100, ge=1)


def run(cell: Cell, context: Context) -> Metrics:
    """Throw it."""
    share = 0.5 if cell.method == "fair" else 0.9
    heads = np.random.default_rng(cell.seed).random(cell.config.steps) < share
    context.array("heads", heads.cumsum() / (1 + np.arange(len(heads))))
    return {"heads": float(heads.mean())}
'''


class Copy:
    """A working copy to follow a recipe in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("workloads", "orchestrator", "analysis", "tests", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
            shutil.copy(path, folder)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def change(self, name: str, old: str, new: str) -> None:
        """Put something in one place; the place has to be there, once."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old, text.count(old))
        self.write(name, text.replace(old, new))

    def run(self, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
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
    copy.write("workloads/rnn/rules/recent.py", RULE)
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
    tests = copy.folder / "tests" / "workloads" / "test_rules.py"
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
    copy.write("workloads/rnn/streams/square.py", STREAM)
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
    copy.write("workloads/coin.py", WORKLOAD)
    package = copy.folder / "workloads" / "__init__.py"
    before, opening, after = package.read_text(encoding="utf-8").partition('{"online_rnn"')
    assert opening
    package.write_text(before + '{"coin": "workloads.coin:run", "online_rnn"' + after, encoding="utf-8")
    sweep = 'name = "coin"\ntitle = "Coins"\nworkload = "coin"\nseeds = "0..9"\n[[grid]]\nmethod = ["fair", "bent"]\n'
    copy.write("workloads/paper/coin.toml", sweep)
    assert copy.test("tests/orchestrator/cli/test_scaffold.py", "-k", "coin") == 2  # its sweep, its schema
    copy.run("raysweep", "launch", "paper/coin", "--inline")
    sql = "SELECT method, avg(heads) AS heads FROM cells GROUP BY ALL ORDER BY ALL"
    bent, fair = json.loads(copy.run("raysweep", "query", sql, "--json"))
    assert bent["heads"] == pytest.approx(0.9, abs=0.05)
    assert fair["heads"] == pytest.approx(0.5, abs=0.05)
    assert copy.test("tests/test_layers.py") > 1
