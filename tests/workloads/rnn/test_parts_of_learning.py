"""Optimisers, clip, masks, initial weights, seeds, streams, windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.workloads.rnn.initial import INITIALIZERS
from raysweep.workloads.rnn.masks import SELECTIONS, draw_mask, mask_problem, sources_of
from raysweep.workloads.rnn.optimizers import OPTIMIZERS, adam, adam_reference, clip_by_global_norm, sgd
from raysweep.workloads.rnn.parameters import Layout
from raysweep.workloads.rnn.streams import STREAMS
from raysweep.workloads.rnn.streams.stream import Segment
from raysweep.workloads.rnn.windows import squared_errors, window_means
from raysweep.workloads.seeds import CODES, generators


def gradients(steps=2000, size=50, seed=0):
    rng = np.random.default_rng(seed)
    # of all sizes, so that epsilon matters for some
    return rng.standard_normal((steps, size)) * np.logspace(-10, 1, size)


def test_adam_is_torchs():
    ours = np.linspace(-1, 1, 50)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    reference = torch.optim.Adam([theirs], lr=1e-2, betas=(0.8, 0.95), eps=1e-8)
    optimizer = adam(1e-2, 0.8, 0.95, 1e-8)
    state = optimizer.init(ours)
    for gradient in gradients():
        theirs.grad = torch.tensor(gradient)
        reference.step()
        ours, state = optimizer.update(gradient, state, ours)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-12)


def test_the_references_adam_has_epsilon_before_the_bias_correction():
    theta, m, v = np.linspace(-1, 1, 50), np.zeros(50), np.zeros(50)
    ours, optimizer = theta, adam_reference(1e-2, 0.9, 0.999, 1e-8)
    state = optimizer.init(theta)
    for t, g in enumerate(gradients(), start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        rate = 1e-2 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        theta = theta - rate * m / (np.sqrt(v) + 1e-8)
        ours, state = optimizer.update(g, state, ours)
        np.testing.assert_allclose(ours, theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("epsilon", "differ"), [(1e-8, True), (1e-30, False)])
def test_the_two_adams_differ_by_epsilon_only(epsilon, differ):
    ends = []
    for build in (adam, adam_reference):
        theta, optimizer = np.zeros(50), build(1e-3, 0.9, 0.999, epsilon)
        state = optimizer.init(theta)
        for gradient in gradients(60):
            theta, state = optimizer.update(gradient, state, theta)
        ends.append(theta)
    assert (np.abs(ends[0] - ends[1]).max() > 1e-6) == differ


def test_sgd():
    theta, _ = sgd(0.5).update(np.array([1.0, -2.0]), None, np.array([3.0, 4.0]))
    assert theta.tolist() == [2.5, 5.0]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_optimizer_descends_and_keeps_dtype_and_arguments(name, dtype):
    entry = OPTIMIZERS[name]
    optimizer = entry.build(learning_rate=0.05, **entry.defaults)
    start = theta = np.array([2.0, -3.0], dtype)
    state = optimizer.init(theta)
    for _ in range(300):
        theta, state = optimizer.update(theta, state, theta)  # gradient of |theta|^2 / 2
    assert theta.dtype == dtype
    assert np.abs(theta).max() < 1e-2
    assert start.tolist() == [2.0, -3.0]


@pytest.mark.parametrize("limit", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 100.0])
def test_clip_is_torchs(limit, scale):
    gradient = scale * np.random.default_rng(1).standard_normal(40)
    leaf = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))
    leaf.grad = torch.tensor(gradient)
    norm = float(torch.nn.utils.clip_grad_norm_([leaf], limit))
    ours, our_norm = clip_by_global_norm(gradient, limit)
    np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-14)
    assert our_norm == pytest.approx(norm, rel=1e-14)


def test_clip_0_is_no_clip():
    gradient = np.array([3.0, 4.0])
    clipped, norm = clip_by_global_norm(gradient, 0.0)
    assert clipped.tolist() == [3.0, 4.0]
    assert norm == 5.0


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 12), st.data(), st.sampled_from(sorted(SELECTIONS)), st.booleans())
def test_masks_have_k_sources_a_row_or_a_reason(n, data, selection, include_self):
    k = data.draw(st.integers(-1, n + 1))
    problem = mask_problem(selection, n, k, include_self)
    if problem:
        with pytest.raises(ValueError, match=rf"^k = {k} "):
            draw_mask(selection, n, k, include_self, np.random.default_rng(0))
        return
    mask = draw_mask(selection, n, k, include_self, np.random.default_rng(0))
    assert mask.sum(1).tolist() == [k] * n
    assert np.diagonal(mask).all() == (include_self or k == n)
    assert np.diagonal(mask).any() == (include_self or k == n)
    rebuilt = np.zeros_like(mask)
    np.put_along_axis(rebuilt, sources_of(mask), True, axis=1)
    np.testing.assert_array_equal(rebuilt, mask)


def test_what_a_ring_takes():
    assert [k for k in range(-1, 9) if not mask_problem("ring", 7, k, False)] == [0, 2, 4, 6, 7]
    assert [k for k in range(-1, 9) if not mask_problem("ring", 7, k, True)] == [1, 3, 5, 7]
    assert [k for k in range(-1, 10) if not mask_problem("ring", 8, k, False)] == [0, 2, 4, 6, 8]
    assert [k for k in range(-1, 10) if not mask_problem("ring", 8, k, True)] == [1, 3, 5, 7, 8]
    assert [k for k in range(-1, 9) if not mask_problem("random", 7, k, False)] == list(range(8))
    row = draw_mask("ring", 7, 4, False, np.random.default_rng(0))[0]
    assert row.tolist() == [False, True, True, False, False, True, True]
    assert mask_problem("ring", 64, 5, False) == (
        "k = 5 on selection 'ring': a ring without self has as many sources on either side; "
        "valid: even k from 2 to 62, or k = n = 64 (full)"
    )
    assert mask_problem("ring", 2, 1, False) == (
        "k = 1 on selection 'ring': a ring without self has as many sources on either side; valid: k = n = 2 (full)"
    )


def test_random_masks_are_uniform_and_depend_on_the_generator():
    counts = sum(draw_mask("random", 6, 2, False, np.random.default_rng(s)) for s in range(1500))
    expected = 1500 * 2 / 5 * (1 - np.eye(6))
    np.testing.assert_allclose(counts, expected, atol=5 * math.sqrt(1500 * 0.4 * 0.6))


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


def test_streams_of_random_numbers_are_independent_and_pinned():
    assert dict(CODES) == {"weights": 1, "mask": 2, "noise": 3, "stream": 4}
    drawn = [generator.random() for generator in (*generators(42), *generators(43))]
    assert len(set(drawn)) == 8
    assert drawn[0] == np.random.default_rng(np.random.SeedSequence([42, 1])).random()
    with pytest.raises(ValueError, match="seed -1 is negative"):
        generators(-1)


def test_layout_splits_what_it_joins():
    layout = Layout({"a": (2, 3), "b": (4,)})
    arrays = {"b": np.arange(4.0), "a": np.arange(6.0).reshape(2, 3)}
    vector = layout.join(arrays)
    assert vector.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert layout.size == 10
    for name, array in layout.split(vector).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.base is not None


def sine(**given):
    own = {**STREAMS["sine"].defaults, **given}
    return STREAMS["sine"].build(2000, np.random.default_rng(0), **own)


def test_sine_jumps():
    stream = sine()
    assert stream.inputs.shape == stream.targets.shape == (2000, 1)
    x = [math.sin((0.1 if t <= 1000 else 0.3) * t) for t in range(2001)]
    np.testing.assert_allclose(stream.inputs[:, 0], x[:-1], atol=1e-12)
    np.testing.assert_allclose(stream.targets[:, 0], x[1:], atol=1e-12)
    assert stream.segments == (Segment("pre", 0, 1000), Segment("post", 1000, 2000))


def test_sine_goes_on():
    stream = sine(phase="continuous", shift=5, frequency_before=0.2, frequency_after=0.7)
    phase, x = 0.0, []
    for t in range(2001):
        x.append(math.sin(phase))
        phase += 0.2 if t < 5 else 0.7
    np.testing.assert_allclose(stream.inputs[:, 0], x[:-1], atol=1e-10)
    np.testing.assert_allclose(stream.targets[:, 0], x[1:], atol=1e-10)


def test_sine_persistence():
    stream = sine()
    errors = squared_errors(stream.baselines["persistence"], stream.targets)
    means = window_means("persistence", errors, stream.segments)
    # y_1000 jumps; that is the shift, so it falls after it
    assert errors[999] < 0.01 < 0.1 < errors[1000]
    assert means["persistence_pre_last_500"] == pytest.approx(2 * math.sin(0.05) ** 2, rel=0.02)
    assert means["persistence_post_last_500"] == pytest.approx(2 * math.sin(0.15) ** 2, rel=0.02)


def test_windows_that_fit():
    segments = (Segment("pre", 0, 500), Segment("post", 500, 800))
    values = np.arange(800.0)
    assert window_means("mse", values, segments) == {
        "mse_pre_all": 249.5,
        "mse_pre_last_500": 249.5,
        "mse_pre_last_200": 399.5,
        "mse_post_all": 649.5,
        "mse_post_last_200": 699.5,
    }
    assert window_means("mse", values[:799], segments).keys() == {
        "mse_pre_all",
        "mse_pre_last_500",
        "mse_pre_last_200",
    }
    assert window_means("mse", values[:499], segments) == {}


def test_squared_errors_are_means_over_outputs():
    errors = squared_errors(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert errors.tolist() == [2.5]
