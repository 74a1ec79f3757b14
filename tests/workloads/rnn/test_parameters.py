"""Initial weights, and named parameters in one flat vector."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raysweep.workloads.rnn.initial import INITIALIZERS, one_rounding_away
from raysweep.workloads.rnn.parameters import Layout


@pytest.mark.parametrize(
    ("name", "sd"), [("normal", 0.3), ("normal_by_size", 0.3 / 20), ("uniform_by_size", 0.3 / 20 / 3**0.5)]
)
def test_initial_spread(name, sd):
    weights = INITIALIZERS[name](np.random.default_rng(0), (400, 300), 0.3, 400)
    assert weights.shape == (400, 300)
    assert weights.std() == pytest.approx(sd, rel=0.02)
    assert abs(weights.mean()) < 5 * sd / math.sqrt(weights.size)
    if name == "uniform_by_size":
        assert np.abs(weights).max() <= 0.3 / 20


@pytest.mark.parametrize("shape", [(6, 6), (6, 3), (3, 6), (1, 1)])
def test_orthogonal(shape):
    rng = np.random.default_rng(0)
    weights = INITIALIZERS["orthogonal"](rng, shape, 0.3, 6)
    small = weights @ weights.T if shape[0] <= shape[1] else weights.T @ weights
    np.testing.assert_allclose(small, 0.09 * np.eye(min(shape)), atol=1e-15)
    if shape == (1, 1):  # Haar on O(1): both signs
        assert {float(INITIALIZERS["orthogonal"](rng, shape, 1.0, 1)[0, 0]) for _ in range(20)} == {-1.0, 1.0}


def test_layout_splits_what_it_joins():
    layout = Layout({"a": (2, 3), "b": (4,)})
    arrays = {"b": np.arange(4.0), "a": np.arange(6.0).reshape(2, 3)}
    vector = layout.join(arrays)
    assert vector.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert layout.size == 10
    for name, array in layout.split(vector).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.base is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rounding_moves_each_initial_weight_by_one_ulp(dtype):
    theta = np.concatenate([np.zeros(3), np.random.default_rng(0).standard_normal(1000)]).astype(dtype)
    before = theta.copy()
    moved = one_rounding_away(theta, np.random.default_rng(1))
    np.testing.assert_array_equal(theta, before)
    assert moved.dtype == dtype
    assert (moved[:3] == 0).all()
    up, down = np.nextafter(theta, dtype(np.inf)), np.nextafter(theta, dtype(-np.inf))
    assert ((moved == up) | (moved == down))[3:].all()
    assert 400 < (moved == up)[3:].sum() < 600
