"""The data streams: their mathematics, naive baselines, windows and graded steps; each as a cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from raysweep.workloads.online_rnn import Config, cost, settle
from raysweep.workloads.rnn.streams import STREAMS
from raysweep.workloads.rnn.streams.baselines import RIDGE, last_target, rls2
from raysweep.workloads.rnn.streams.lorenz import flow, runge_kutta
from raysweep.workloads.rnn.streams.stream import Segment, Stream
from raysweep.workloads.rnn.windows import (
    squared_errors,
    window_means,
)
from raysweep.workloads.seeds import generators
from tests.workloads.rnn.replay import run_cell

STEPS = {"adding": 2000, "copy": 2000, "lorenz": 2000, "multi_sine": 4000, "sine": 2000}
DRAWN = {"adding", "copy"}
every_stream = pytest.mark.parametrize("name", STREAMS)


def build(name: str, steps: int | None = None, seed: int = 0, **own) -> Stream:
    kind = STREAMS[name]
    return kind.build(steps or STEPS[name], np.random.default_rng(seed), **{**kind.defaults, **own})


def refusal(**config) -> list[str]:
    with pytest.raises(ValueError, match=r"\w") as caught:
        settle("traces", None, Config(**config))
    return str(caught.value).splitlines()


# --- contract


@every_stream
def test_a_stream_is_whole(name):
    kind, steps = STREAMS[name], STEPS[name]
    assert kind.problems(steps, kind.defaults) == []
    stream = build(name)
    assert stream.inputs.shape == (steps, kind.inputs(kind.defaults))
    assert len(stream.targets) == len(stream.graded) == len(stream.begins) == steps
    for array in (stream.inputs, stream.targets, *stream.baselines.values()):
        assert array.dtype == np.float64
        assert np.isfinite(array).all()
        assert np.abs(array).max() < 3
    assert stream.baselines
    for predictions in stream.baselines.values():
        assert predictions.shape == stream.targets.shape
    assert stream.graded.any()
    assert stream.begins[0]
    # segments cover the steps once, in order, under names of their own
    assert [0, *(segment.stop for segment in stream.segments)] == [*(s.start for s in stream.segments), steps]
    assert len({segment.name for segment in stream.segments}) == len(stream.segments)
    if kind.classes:
        np.testing.assert_array_equal(stream.targets[stream.graded].sum(axis=1), 1.0)
        assert set(np.unique(stream.targets)) == {0.0, 1.0}


@every_stream
def test_seeds_draw_data_only_where_they_are_random(name):
    one, again, other = build(name), build(name), build(name, seed=1)
    assert one.inputs.tobytes() == again.inputs.tobytes()
    assert one.targets.tobytes() == again.targets.tobytes()
    assert (one.inputs.tobytes() != other.inputs.tobytes()) == (name in DRAWN)
    assert (one.targets.tobytes() != other.targets.tobytes()) == (name in DRAWN)


@pytest.mark.parametrize(
    ("name", "own", "since", "changed"),
    [
        ("lorenz", {"shift": 30}, 30, {"rho_after": 40.0}),
        ("multi_sine", {"segment": 20}, 60, {"frequency_4": 1.0}),
        ("sine", {"shift": 30}, 30, {"frequency_after": 2.0}),
    ],
)
def test_baselines_see_the_past_alone(name, own, since, changed):
    # another future leaves what was predicted up to its first target
    one, other = build(name, 80, **own), build(name, 80, **own | changed)
    assert (one.targets[since] != other.targets[since]).any()
    for predictions, others in zip(one.baselines.values(), other.baselines.values(), strict=True):
        np.testing.assert_array_equal(predictions[: since + 1], others[: since + 1])
        assert (predictions[since + 1 :] != others[since + 1 :]).any()


@every_stream
@pytest.mark.parametrize(("method", "k"), [("traces", None), ("sparse_rtrl", 4)])
def test_a_cell_on_every_stream(name, method, k):
    config = {
        "adding": {"steps": 300, "length": 6},
        "copy": {"steps": 300, "loss": "cross_entropy", "length": 2, "delay": 1},
        "lorenz": {"steps": 300, "shift": 60},
        "multi_sine": {"steps": 800, "segment": 200},
        "sine": {"steps": 300, "shift": 60},
    }[name]
    metrics, recorder = run_cell(method, k, hidden=8, stream=name, **config)
    stream = build(name, config["steps"], **{key: config[key] for key in STREAMS[name].defaults if key in config})
    assert recorder.arrays["loss"].shape == (config["steps"],)
    assert all(math.isfinite(value) for value in metrics.values())
    segment = stream.segments[-1]
    graded = stream.graded[segment.start : segment.stop]
    mean_loss = recorder.arrays["loss"][segment.start : segment.stop][graded].mean()
    measured = "cross_entropy" if name == "copy" else "mse"
    assert metrics[f"{measured}_{segment.name}_all"] == pytest.approx(mean_loss, rel=1e-5)
    expected = {"copy": {"accuracy", "cross_entropy", "chance_accuracy", "chance_cross_entropy"}}.get(
        name, {"mse", "constant", *stream.baselines}
    )
    assert {key.removesuffix(f"_{segment.name}_all") for key in metrics if key.endswith("_all")} >= expected
    assert ("mse_all_all" in metrics) == (name == "adding")


def test_a_cells_data_come_from_its_own_generator():
    losses = []
    for seed in (5, 6):
        metrics, _ = run_cell("traces", seed=seed, hidden=4, stream="adding", steps=200, length=10)
        data = STREAMS["adding"].build(200, generators(seed).stream, length=10)
        expected = np.mean((data.targets[9::10] - 1) ** 2)
        assert metrics["constant_all_all"] == pytest.approx(expected, rel=1e-12)
        losses.append(metrics["constant_all_all"])
    assert losses[0] != losses[1]


# --- what settle refuses


def test_steps_that_do_not_fit():
    assert refusal(stream="multi_sine") == [
        "steps = 2000 with 4 segments of 1000; valid: steps = 4000, or segment = steps / 4"
    ]
    assert refusal(stream="lorenz", steps=1000) == ["shift = 1000 with steps = 1000; valid: 1 to 999"]
    assert refusal(stream="copy", steps=2004, delay=1, loss="cross_entropy") == [
        "steps = 2004 with sequences of 11 steps; valid: multiples of 11"
    ]
    assert refusal(stream="adding", steps=2001) == ["steps = 2001 with sequences of 50 steps; valid: multiples of 50"]
    assert refusal(stream="adding", length=1) == [
        "length = 1 on stream 'adding', which adds two values; valid: 2 or more"
    ]


def test_losses_that_do_not_fit():
    assert refusal(stream="copy") == [
        "loss = 'mse' on stream 'copy', whose targets are classes; valid: cross_entropy",
    ]
    assert refusal(stream="sine", loss="cross_entropy") == [
        "loss = 'cross_entropy' on stream 'sine', whose targets are numbers; valid: mse, half_sse",
    ]
    assert settle("traces", None, Config(stream="lorenz", loss="half_sse"))[1].loss == "half_sse"


def test_settings_of_other_streams():
    assert sorted(refusal(stream="lorenz", frequency_after=0.2, phase="jump", length=5)) == [
        "frequency_after has no effect on stream 'lorenz'; it belongs to: sine",
        "length has no effect on stream 'lorenz'; it belongs to: adding, copy",
        "phase has no effect on stream 'lorenz'; it belongs to: multi_sine, sine",
    ]
    assert refusal(stream="adding", shift=7) == ["shift has no effect on stream 'adding'; it belongs to: lorenz, sine"]


@every_stream
def test_settle_fills_in_the_streams_own_settings(name):
    loss = "cross_entropy" if STREAMS[name].classes else "mse"
    _, config = settle("traces", None, Config(stream=name, steps=STEPS[name], loss=loss))
    assert STREAMS[name].settings(config) == STREAMS[name].defaults
    given = {setting for kind in STREAMS.values() for setting in kind.defaults} - STREAMS[name].defaults.keys()
    assert all(getattr(config, setting) is None for setting in given)
    assert cost("traces", 0, config) > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("dt", 0.0), ("scale", -1.0), ("segment", 0), ("symbols", 1), ("length", 0), ("delay", -1), ("burn_in", -1)],
)
def test_numbers_out_of_range(field, value):
    with pytest.raises(ValidationError, match="greater than"):
        Config.model_validate({field: value})


# --- sine


def test_sine_jumps():
    stream = build("sine")
    assert stream.inputs.shape == stream.targets.shape == (2000, 1)
    x = [math.sin((0.1 if t <= 1000 else 0.3) * t) for t in range(2001)]
    np.testing.assert_allclose(stream.inputs[:, 0], x[:-1], atol=1e-12)
    np.testing.assert_allclose(stream.targets[:, 0], x[1:], atol=1e-12)
    assert stream.segments == (Segment("pre", 0, 1000), Segment("post", 1000, 2000))


def test_sine_goes_on():
    stream = build("sine", phase="continuous", shift=5, frequency_before=0.2, frequency_after=0.7)
    phase, x = 0.0, []
    for t in range(2001):
        x.append(math.sin(phase))
        phase += 0.2 if t < 5 else 0.7
    np.testing.assert_allclose(stream.inputs[:, 0], x[:-1], atol=1e-10)
    np.testing.assert_allclose(stream.targets[:, 0], x[1:], atol=1e-10)


def test_sine_persistence():
    stream = build("sine")
    errors = squared_errors(stream.baselines["persistence"], stream.targets)
    means = window_means("persistence", errors, stream.segments)
    # y_1000 jumps; that is the shift, so it falls after it
    assert errors[999] < 0.01 < 0.1 < errors[1000]
    assert means["persistence_pre_last_500"] == pytest.approx(2 * math.sin(0.05) ** 2, rel=0.02)
    assert means["persistence_post_last_500"] == pytest.approx(2 * math.sin(0.15) ** 2, rel=0.02)


# --- multi_sine


@pytest.mark.parametrize("phase", ["jump", "continuous"])
def test_multi_sine_by_its_definition(phase):
    frequencies = (0.2, 0.5, 0.1, 0.3)
    own = {f"frequency_{i + 1}": f for i, f in enumerate(frequencies)}
    stream = build("multi_sine", 28, segment=7, phase=phase, **own)
    angle, x = 0.0, [0.0]
    for t in range(28):
        frequency = frequencies[t // 7]
        angle = frequency * (t + 1) if phase == "jump" else angle + frequency
        x.append(math.sin(angle))
    np.testing.assert_allclose(stream.inputs[:, 0], x[:-1], rtol=0, atol=1e-13)
    np.testing.assert_allclose(stream.targets[:, 0], x[1:], rtol=0, atol=1e-13)
    assert stream.segments == tuple(Segment(f"seg{i + 1}", 7 * i, 7 * i + 7) for i in range(4))


def test_multi_sine_begins_as_the_sine():
    # the first two regimes are Experiment 1's, to the bit
    both = build("sine", 2000), build("multi_sine", 4000)
    for name in ("persistence", "rls2"):
        np.testing.assert_array_equal(both[0].baselines[name], both[1].baselines[name][:2000])
    np.testing.assert_array_equal(both[0].inputs, both[1].inputs[:2000])


def test_multi_sine_persistence():
    stream = build("multi_sine")
    means = window_means(
        "p", squared_errors(stream.baselines["persistence"], stream.targets), stream.segments, stream.graded
    )
    for i, frequency in enumerate((0.1, 0.3, 0.05, 0.2)):
        assert means[f"p_seg{i + 1}_last_500"] == pytest.approx(2 * math.sin(frequency / 2) ** 2, rel=0.05)


# --- lorenz


def independent_lorenz(state, dt, rho, sigma=10.0, beta=8 / 3):
    """RK4 by its Butcher tableau, on arrays."""
    nodes = np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]])
    slopes = np.zeros((4, 3))
    for i in range(4):
        u, v, w = state + dt * nodes[i] @ slopes
        slopes[i] = [sigma * (v - u), u * (rho - w) - v, u * v - beta * w]
    return state + dt * np.array([1, 2, 2, 1]) / 6 @ slopes


@pytest.mark.parametrize("burn_in", [0, 13])
def test_lorenz_against_another_integrator(burn_in):
    state, x = np.ones(3), []
    for t in range(-burn_in, 151):
        x.append(state / 20)
        state = independent_lorenz(state, 0.02, 28.0 if t < 90 else 20.0)
    stream = build("lorenz", 150, shift=90, burn_in=burn_in)
    # chaotic: rounding of 1e-16 grows e-fold each 1.1 units of time, of which there are 3
    np.testing.assert_allclose(stream.inputs, x[burn_in:-1], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(stream.targets[:-1], stream.inputs[1:])
    assert stream.segments == (Segment("pre", 0, 90), Segment("post", 90, 150))


def test_lorenz_shift_changes_the_shifts_target_and_none_before():
    one, other = build("lorenz", 100, shift=40), build("lorenz", 100, shift=40, rho_after=21.0)
    np.testing.assert_array_equal(one.targets[:40], other.targets[:40])
    assert (one.targets[40] != other.targets[40]).any()


def test_runge_kutta_is_of_order_four():
    def at_half(steps):
        state = (1.0, 1.0, 1.0)
        for _ in range(steps):
            state = runge_kutta(state, 0.5 / steps, 10.0, 8 / 3, 20.0)
        return np.array(state)

    exact = at_half(6400)
    errors = [np.linalg.norm(at_half(steps) - exact) for steps in (100, 200, 400)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 4, atol=0.15)


def test_lorenz_rests_at_its_fixed_point():
    rho, beta = 20.0, 8 / 3
    at = math.sqrt(beta * (rho - 1))
    assert flow((at, at, rho - 1), 10.0, beta, rho) == pytest.approx((0, 0, 0), abs=1e-12)
    assert flow((1.0, 2.0, 3.0), 10.0, beta, 28.0) == (10.0, 23.0, 2.0 - 8.0)


def test_lorenz_persistence_as_measured_before():
    stream = build("lorenz")
    post = squared_errors(stream.baselines["persistence"], stream.targets)[1000:]
    assert post.mean() == pytest.approx(0.0021, abs=5e-5)
    two_taps = squared_errors(stream.baselines["rls2"], stream.targets)[1000:]
    assert two_taps.mean() < post.mean() / 10


def test_lorenz_with_too_large_a_step_says_so():
    with pytest.raises(ValueError, match=r"overflows with dt = 1\.0"):
        build("lorenz", dt=1.0)


# --- copy


@pytest.mark.parametrize(("length", "delay"), [(5, 0), (3, 4), (1, 0)])
def test_copy_asks_for_what_was_shown(length, delay):
    period = 2 * length + delay
    stream = build("copy", 40 * period, length=length, delay=delay, symbols=6)
    lag = length + delay
    graded = np.flatnonzero(stream.graded)
    assert graded.tolist() == [s for s in range(40 * period) if s % period >= lag]
    np.testing.assert_array_equal(stream.targets[graded], stream.inputs[graded - lag, :6])
    assert np.flatnonzero(stream.begins).tolist() == list(range(0, 40 * period, period))
    np.testing.assert_array_equal(stream.inputs.sum(axis=1), 1.0)
    blank, go = stream.inputs[:, 6], stream.inputs[:, 7]
    np.testing.assert_array_equal(go.astype(bool), stream.graded)
    place = np.arange(40 * period) % period
    np.testing.assert_array_equal(blank.astype(bool), (place >= length) & (place < lag))
    assert not stream.targets[~stream.graded].any()


def test_copy_draws_all_symbols_evenly_and_independently():
    stream = build("copy", 40_000)
    drawn = stream.targets[stream.graded].argmax(axis=1).reshape(4000, 5)
    counts = np.bincount(drawn.ravel(), minlength=8)
    np.testing.assert_allclose(counts, 2500, atol=5 * math.sqrt(20_000 * 7 / 64))
    same = np.mean(drawn[:, 1:] == drawn[:, :-1])
    assert same == pytest.approx(1 / 8, abs=5 * math.sqrt(7 / 64 / 16_000))


def test_copy_chance_level():
    metrics, _ = run_cell("traces", hidden=4, stream="copy", loss="cross_entropy", steps=500)
    assert metrics["chance_accuracy_all_all"] == pytest.approx(1 / 8, rel=1e-12)
    assert metrics["chance_cross_entropy_all_last_200"] == pytest.approx(math.log(8), rel=1e-12)
    assert not [name for name in metrics if name.startswith(("mse", "constant"))]


def test_copy_of_one_symbol_is_learned():
    # enough to tell accuracy from its opposite, and graded steps from the others
    own = {"length": 1, "symbols": 3, "learning_rate": 0.02, "steps": 1200}
    metrics, _ = run_cell("rtrl", hidden=16, stream="copy", loss="cross_entropy", **own)
    assert metrics["accuracy_all_last_200"] == 1.0
    assert metrics["cross_entropy_all_last_200"] < 0.1
    assert metrics["accuracy_all_all"] < 1.0


# --- adding


@pytest.mark.parametrize("length", [2, 7, 50])
def test_adding_by_its_definition(length):
    stream = build("adding", 60 * length, length=length)
    values, marks = stream.inputs.T.reshape(2, 60, length)
    assert set(np.unique(marks)) <= {0.0, 1.0}
    half = length // 2
    assert marks[:, :half].sum(axis=1).tolist() == marks[:, half:].sum(axis=1).tolist() == [1.0] * 60
    targets = stream.targets.reshape(60, length)
    np.testing.assert_allclose(targets[:, -1], (values * marks).sum(axis=1), rtol=1e-15)
    assert not targets[:, :-1].any()
    assert np.flatnonzero(stream.graded).tolist() == list(range(length - 1, 60 * length, length))
    assert np.flatnonzero(stream.begins).tolist() == list(range(0, 60 * length, length))


def test_adding_marks_every_place():
    marks = build("adding", 20_000, length=10).inputs[:, 1].reshape(2000, 10).mean(axis=0)
    np.testing.assert_allclose(marks, 1 / 5, atol=5 * math.sqrt(0.16 / 2000))


def test_addings_trivial_error_is_a_sixth():
    count = 20_000
    stream = build("adding", 5 * count, length=5)
    graded = stream.graded
    errors = {
        name: squared_errors(predictions, stream.targets)[graded] for name, predictions in stream.baselines.items()
    }
    assert stream.baselines["constant"].tolist() == [[1.0]] * (5 * count)
    # (a - 1)^2 of a triangular a on [0, 2] has mean 1/6 and variance 1/15 - 1/36
    sd = math.sqrt(1 / 15 - 1 / 36)
    assert errors["constant"].mean() == pytest.approx(1 / 6, abs=5 * sd / math.sqrt(count))
    assert errors["persistence"].mean() == pytest.approx(1 / 3, abs=0.015)
    sums = stream.targets[graded]
    np.testing.assert_array_equal(stream.baselines["persistence"][graded], np.vstack([[0.0], sums[:-1]]))


# --- baselines


@pytest.mark.parametrize("frequency", [0.05, 0.1, 0.3, 1.2])
@pytest.mark.parametrize("forgetting", [0.9, 1.0])
def test_two_taps_predict_a_sine(frequency, forgetting):
    x = np.sin(frequency * np.arange(400) + 0.4)[:, None]
    errors = np.abs(rls2(x, forgetting) - x[1:])[:, 0]
    assert errors[5:].max() < 1e-6
    np.testing.assert_array_equal(rls2(x, forgetting)[:2], x[:2])  # nothing was seen yet: persistence
    assert errors[1] > 1e-4


@pytest.mark.parametrize("forgetting", [0.5, 0.9, 1.0])
def test_rls_is_the_weighted_least_squares_fit(forgetting):
    x = np.random.default_rng(0).standard_normal((30, 2))
    predictions = rls2(x, forgetting)
    for j in range(2):
        for t in range(2, 29):
            phi = np.stack([x[1:t, j], x[: t - 1, j]], axis=1)
            root = forgetting ** (np.arange(t - 2, -1, -1) / 2)
            prior = math.sqrt(RIDGE)
            rows = np.vstack([phi * root[:, None], prior * np.eye(2)])
            goal = np.concatenate([x[2 : t + 1, j] * root, [prior, 0.0]])
            w = np.linalg.lstsq(rows, goal, rcond=None)[0]
            assert predictions[t, j] == pytest.approx(w @ [x[t, j], x[t - 1, j]], rel=1e-5, abs=1e-5)


def test_two_taps_forget_the_old_frequency():
    stream = build("sine")
    errors = squared_errors(stream.baselines["rls2"], stream.targets)
    assert errors[10:1000].max() < 1e-12
    assert errors[1000:1010].max() > 1e-2
    assert errors[1500:].max() < 1e-12


def test_two_taps_at_rest_stay_finite():
    x = np.concatenate([np.sin(0.3 * np.arange(50)), np.full(3000, 0.7)])[:, None]
    errors = np.abs(rls2(x) - x[1:])
    assert errors[200:].max() < 1e-6
    np.testing.assert_array_equal(rls2(np.zeros((20, 1))), 0.0)


def test_last_target():
    targets = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    graded = np.array([False, True, False, True, True])
    assert last_target(targets, graded).tolist() == [[0.0], [0.0], [2.0], [2.0], [4.0]]


# --- divergence


def test_a_divergence_leaves_the_classes_unmeasured():
    config = {"stream": "copy", "loss": "cross_entropy", "optimizer": "sgd", "learning_rate": 1e30, "clip": 0.0}
    metrics, _ = run_cell("traces", hidden=4, steps=200, **config)
    assert metrics["diverged"] == 1.0
    assert "accuracy_all_all" not in metrics
    assert "chance_accuracy_all_all" in metrics
