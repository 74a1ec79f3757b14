"""What the tests of the workloads share: small problems and their per-step gradients, cells, golden data."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raysweep.workloads import online_rnn
from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.linearization import Stage
from raysweep.workloads.rnn.losses import LOSSES
from raysweep.workloads.rnn.optimizers import Optimizer, sgd
from raysweep.workloads.rnn.parameters import Layout
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.rules.rule import Observation, Rule
from raysweep.workloads.rnn.rules.sparse_rtrl import SparseState, sparse_rtrl
from raysweep.workloads.rnn.training import Learner, begin, learn_step
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared"


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of one case, `"vanilla_ring4"`; of its base too if it shares weights and inputs."""
    folder = Path(os.environ.get("RAYSWEEP_SHARED", SHARED)) / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors at {folder}; set RAYSWEEP_SHARED to the folder that holds golden/")
    arrays: dict[str, np.ndarray] = {}
    for case in (name.split("_")[0], name):
        for file in ("marschall.npz", "torch.npz"):
            with np.load(folder / file) as stored:
                arrays |= {k.split("/")[1]: stored[k] for k in stored.files if k.split("/")[0] == case}
    assert "grads" in arrays, name
    return arrays


PAIRS = [
    (rule, architecture)
    for rule, entry in RULES.items()
    for architecture, kind in ARCHITECTURES.items()
    if entry.undefined_on(kind.build(**kind.defaults)) is None
]
every_pair = pytest.mark.parametrize(("rule", "architecture"), PAIRS, ids=lambda name: name)
"""Every rule on every architecture that it is defined on."""
every_pair_without_noise = pytest.mark.parametrize(
    ("rule", "architecture"), [pair for pair in PAIRS if not RULES[pair[0]].draws_noise], ids=lambda name: name
)


class Problem:
    """Random weights and a random stream of a small network."""

    def __init__(
        self, n=6, n_in=2, n_out=3, steps=12, dtype="float64", seed=0, scale=0.6, architecture="tanh_rnn", **own
    ):
        kind = ARCHITECTURES[architecture]
        self.architecture = kind.build(**kind.defaults | own)
        self.n, self.n_in = n, n_in
        self.layout: Layout = self.architecture.layout(n, n_in, n_out)
        rng = np.random.default_rng(seed)
        initial = Initial("normal", scale, "normal", scale, "normal", scale)
        drawn = self.architecture.init(n, n_in, n_out, initial, rng)
        drawn = {name: array + 0.1 * rng.standard_normal(array.shape) for name, array in drawn.items()}
        self.theta = self.layout.join(drawn).astype(dtype)
        self.inputs = rng.standard_normal((steps, n_in)).astype(dtype)
        self.targets = rng.standard_normal((steps, n_out)).astype(dtype)
        self.state = rng.uniform(-0.5, 0.5, (self.architecture.components, n)).astype(dtype)

    @classmethod
    def stored(cls, case: dict[str, np.ndarray], leak: float = 1.0) -> Problem:
        """A golden case."""
        names = dict(zip("WUbVc", ("W_rec", "W_in", "b_rec", "W_out", "b_out"), strict=True))
        weights = {k: case[k] if k in case else case[old] for k, old in names.items()}
        n_out, n = weights["V"].shape
        problem = cls(n, weights["U"].shape[1], n_out, steps=1, leak=leak)
        problem.theta = problem.layout.join(weights)
        problem.inputs, problem.targets = case["X"], case["Y"]
        problem.state = case["s0_0" if "s0_0" in case else "a0"][None]
        return problem

    def replay(self, rule: Rule, optimizer: Optimizer | None = None, loss="half_sse", seed=0) -> SimpleNamespace:
        """Every step's flat gradient (T, P) before the update, loss, state, parameters after it."""
        learner = Learner(
            self.architecture, self.layout, rule, optimizer or sgd(learning_rate=0.0), LOSSES[loss], clip=0.0
        )
        mask_rng, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1)
        now = begin(learner, self.theta, self.n, self.n_in, mask_rng)._replace(state=self.state)
        series: dict[str, list[Any]] = {name: [] for name in ("grads", "losses", "states", "thetas", "infos")}
        for x, target in zip(self.inputs, self.targets, strict=True):
            now, outcome = learn_step(learner, now, x, target, noise)
            for name, value in zip(
                series,
                (outcome.gradient, outcome.loss, now.state, now.theta, outcome.info),
                strict=True,
            ):
                series[name].append(value)
        arrays = {name: np.array(values) for name, values in series.items() if name != "infos"}
        return SimpleNamespace(**arrays, infos=series["infos"], rule_state=now.rule_state)


def example_rule(name: str, n: int) -> Rule:
    """Any rule at its default settings; k = n // 2, made even for the ring."""
    entry = RULES[name]
    size = {"k": 2 * (n // 4)} if entry.takes_k else {}
    return entry.build(**size, **entry.defaults)


def masked(mask: np.ndarray, gather: bool) -> Rule:
    """Sparse RTRL under a stored mask instead of a drawn one."""
    k = int(mask[0].sum())
    rule = sparse_rtrl(k, selection="random", gather=gather)

    def init(shape, rng):
        sources = np.nonzero(mask)[1].reshape(len(mask), k) if gather else None
        return SparseState(rule.init(shape, rng).influence, mask, sources)

    return Rule(init, rule.update)


def chain(components, gates, n, m, steps, seed=0) -> list[Observation]:
    """Linearised steps of no particular network, with other weights at each."""
    rng = np.random.default_rng(seed)
    empty = np.zeros(0)
    observations = []
    for _ in range(steps):
        stage = Stage(
            own=0.5 * rng.standard_normal((components, components, n)),
            gain=0.5 * rng.standard_normal((components, gates, n)),
            weights=0.5 * rng.standard_normal((gates, n, n)),
            inputs=rng.standard_normal((gates, m)),
        )
        signal = rng.standard_normal((1, n))
        observations.append(Observation((stage,), signal, {}, empty, empty, empty, empty, empty, lambda state: state))
    return observations


class Recorder:
    """A context that keeps what a cell records."""

    device = "cpu"

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.fractions: list[float] = []

    def array(self, name: str, values: Any, step: int = 0, stride: int = 1) -> None:
        self.arrays[name] = np.asarray(values)

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)


def run_cell(method: str, k: int | None = None, seed: int = 42, **config: Any) -> tuple[dict[str, float], Recorder]:
    """Settle and run a cell as the orchestrator does."""
    settled_k, settled = online_rnn.settle(method, k, online_rnn.Config(**config))
    recorder = Recorder()
    cell = SimpleNamespace(cell_id="0" * 24, experiment="test", method=method, k=settled_k, seed=seed, config=settled)
    return dict(online_rnn.run(cell, recorder)), recorder
