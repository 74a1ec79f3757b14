"""What the tests of the workloads share: small problems, a context that keeps what it is given, golden data."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workloads import online_rnn
from workloads.architectures.tanh_rnn import TanhRnn
from workloads.optimizers import OPTIMIZERS
from workloads.rules.rule import Rule
from workloads.training import credit

DEFAULT_SHARED = Path(__file__).resolve().parents[3] / "shared"


class Recorder:
    """A context that keeps what a cell records."""

    device = "cpu"

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.fractions: list[float] = []

    def array(self, name: str, values: Any, step: int = 0, stride: int = 1) -> None:
        self.arrays[name] = values

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)


class Problem:
    """A random network and stream; `replay` gives the flat gradient of every step under any rule."""

    def __init__(self, n=6, n_in=2, n_out=3, alpha=1.0, steps=12, dtype="float64", seed=0):
        rng = np.random.default_rng(seed)
        self.network = TanhRnn(n, n_in, n_out, alpha)
        self.flat = (0.6 * rng.standard_normal(self.network.size)).astype(dtype)
        self.inputs = rng.standard_normal((steps, n_in)).astype(dtype)
        self.targets = rng.standard_normal((steps, n_out)).astype(dtype)
        self.h0 = np.zeros(n, dtype)

    def replay(self, rule: Rule, learning_rate: float = 0.0, h0=None) -> np.ndarray:
        settings = SimpleNamespace(learning_rate=learning_rate)
        sgd = OPTIMIZERS["sgd"](settings)
        flat, h = self.flat, self.h0 if h0 is None else h0
        state = rule.init(self.network.n, self.network.m, flat.dtype)
        grads = []
        for x, y in zip(self.inputs, self.targets, strict=True):
            _, grad, h, _, state, _ = credit(self.network, rule, flat, h, x, y, state)
            grads.append(grad)
            flat, _ = sgd.update(flat, grad, None)
        return np.array(grads)


def run_cell(method: str, k: int | None, seed: int = 42, **config: Any) -> tuple[dict[str, float], Recorder]:
    settled_k, settled = online_rnn.settle(method, k, online_rnn.Config(**config))
    recorder = Recorder()
    cell = SimpleNamespace(method=method, k=settled_k, seed=seed, config=settled, experiment="test")
    return dict(online_rnn.run(cell, recorder)), recorder


@pytest.fixture(scope="session")
def golden():
    folder = Path(os.environ.get("RAYSWEEP_SHARED", DEFAULT_SHARED)) / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors at {folder}; set RAYSWEEP_SHARED to the folder that holds golden/")
    return {name: np.load(folder / f"{name}.npz") for name in ("marschall", "torch")}
