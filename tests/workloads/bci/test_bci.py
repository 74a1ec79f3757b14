"""The workload `bci`: what is fitted on A, the two passes over B, Eq. 12, baselines, errors."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from importlib import resources
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from raysweep.workloads import WORKLOADS, bci
from raysweep.workloads.bci.recordings import pair
from raysweep.workloads.bci.recordings.pair import Pair, pair_of
from raysweep.workloads.bci.recordings.recording import load
from raysweep.workloads.bci.recordings.sessions import KNOWN
from raysweep.workloads.bci.workload import Config, both_sessions, frozen_predictions, recovery, settle
from raysweep.workloads.rnn.learner import build_learner, initial_theta, learn_along
from raysweep.workloads.rnn.streams.stream import Stream
from raysweep.workloads.rnn.training import begin, train
from raysweep.workloads.seeds import generators
from tests.workloads.rnn.replay import SHARED, Recorder

SMALL = {"session_a": "first", "session_b": "second", "hidden": 12, "components": 6}


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Two sessions whose counts follow velocity linearly; in the second the channels have moved."""
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    tuning = rng.standard_normal((2, 30))  # of the first 30 channels; the others fire as they please
    for name, date, bins, moved in (("first", "2016-06-24", 3300, 0), ("second", "2016-07-04", 4800, 15)):
        velocity = np.zeros((bins, 2))
        for t in range(1, bins):
            velocity[t] = 0.8 * velocity[t - 1] + 0.6 * rng.standard_normal(2)
        rates = np.full((bins, 96), 2.0)
        rates[:, :30] = np.maximum(6 + 2 * velocity @ np.roll(tuning, moved, axis=1), 0)
        np.savez(
            tmp_path / f"indy_{name}.npz",
            counts=rng.poisson(rates).astype(np.uint8),
            t_s=np.arange(bins) * 0.064,
            finger_xy_mm=np.concatenate([np.zeros((1, 2)), np.cumsum(velocity * 0.064, axis=0)]),
            finger_vel_mm_s=velocity,
            bin_width_s=np.array(0.064),
            date=np.array(date),
        )
    return tmp_path


def cell_of(method: str, k: int | None = None, seed: int = 1, **config) -> SimpleNamespace:
    stored, settled = settle(method, k, Config(**SMALL | config))
    return SimpleNamespace(cell_id="0" * 24, experiment="test", method=method, k=stored, seed=seed, config=settled)


def run(cell: SimpleNamespace) -> tuple[dict[str, float], Recorder]:
    recorder = Recorder()
    return dict(bci.run(cell, recorder)), recorder


def data_of(cell: SimpleNamespace) -> Pair:
    config = cell.config
    a, b = load(config.session_a, config.bin_ms), load(config.session_b, config.bin_ms)
    return pair_of(a, b, config.components, config.target, config.limit, config.relabel)


ADAPTIVE = ("rls", "online_ridge", "anew", "kalman_adaptive")
ALL = {
    "mse_a_end",
    *(f"{kind}_b_{third}" for kind in ("mse", "frozen") for third in ("early", "middle", "late")),
    *("r2_b_late", "frozen_r2_b_late", "recovery_b_late", "diverged", "seconds_per_step", "gap_days"),
    *("bins_a", "bins_b"),
    *(f"{name}_b_late" for name in ("ridge_frozen", "ridge_refit", "kalman_frozen", "mean")),
}


def test_what_a_cell_records_and_that_it_means_what_it_says(recordings):
    cell = cell_of("sparse_rtrl", 4, components=30)
    metrics, recorder = run(cell)
    assert metrics.keys() == ALL
    assert (metrics["bins_a"], metrics["bins_b"], metrics["gap_days"]) == (3300, 4800, 10)
    curve, frozen = recorder.arrays["mse_b"], recorder.arrays["frozen_b"]
    assert curve.shape == frozen.shape == (96,)  # of 50 bins each
    for third, name in enumerate(("early", "middle", "late")):
        points = slice(32 * third, 32 * (third + 1))
        assert metrics[f"mse_b_{name}"] == pytest.approx(curve[points].mean(), rel=1e-5)
        assert metrics[f"frozen_b_{name}"] == pytest.approx(frozen[points].mean(), rel=1e-5)
    lost = metrics["frozen_b_late"] - metrics["mse_a_end"]
    undone = metrics["frozen_b_late"] - metrics["mse_b_late"]
    assert metrics["recovery_b_late"] == pytest.approx(100 * undone / lost, rel=1e-12)
    # moved channels ruin what is frozen, and what learns or is fitted anew follows
    assert metrics["mse_a_end"] < 0.15  # ridge: .07; at ten times this rate Adam's noise alone is .2 to .5
    assert metrics["frozen_b_late"] > 0.7
    assert metrics["ridge_frozen_b_late"] > 0.7
    assert metrics["ridge_refit_b_late"] < 0.15
    assert metrics["recovery_b_late"] > 80
    assert recorder.fractions == sorted(recorder.fractions)
    assert recorder.fractions[-1] == 1.0
    variance = data_of(cell).targets_b[3200:]
    assert metrics["mean_b_late"] == pytest.approx(np.mean(variance**2))


def test_adaptive_decoders_are_added_on_request_and_change_nothing_else(recordings):
    metrics, _ = run(cell_of("traces", 0, decay=0.0))
    more, _ = run(cell_of("traces", 0, decay=0.0, adaptive=True))
    added = {
        *(f"{name}_b_{third}" for name in ADAPTIVE for third in ("early", "middle", "late")),
        *("rls_hindsight_b_late", "kalman_hindsight_b_late", "rls_forgetting", "kalman_forgetting"),
    }
    assert more.keys() - metrics.keys() == added
    timed = {"seconds_per_step"}
    assert {name: more[name] for name in metrics.keys() - timed} == {
        name: metrics[name] for name in metrics.keys() - timed
    }
    # session B's channels have moved: what adapts is below what was fitted on A
    for name in ("rls", "online_ridge", "anew"):
        assert more[f"{name}_b_late"] < more["ridge_frozen_b_late"]
    assert more["kalman_adaptive_b_late"] < more["kalman_frozen_b_late"]


def test_eq_12_by_hand():
    assert recovery(frozen=0.734, adapting=0.4, target=0.264) == pytest.approx(71.1, abs=0.05)  # the paper's seed 42
    assert recovery(1.0, 1.0, 0.5) == 0.0
    assert recovery(1.0, 0.5, 0.5) == 100.0
    assert recovery(1.0, 1.5, 0.5) == -100.0
    assert recovery(0.5, 0.4, 0.5) is None
    assert recovery(0.4, 0.3, 0.5) is None


def session_a(pair):
    return Stream(pair.inputs_a, pair.targets_a, (), {})


@pytest.mark.parametrize(
    ("method", "k", "config"),
    [
        ("traces", 0, {"decay": 0.95}),
        ("sparse_rtrl", 4, {"selection": "random"}),
        ("rtrl", None, {}),
        ("bptt", None, {"window": 1}),
        ("uoro", None, {}),
    ],
)
def test_the_adapting_run_repeats_a_bit_for_bit_and_learns_on_afresh(recordings, method, k, config):
    cell = cell_of(method, k, limit=400, **config)
    data = data_of(cell)
    first, both = learn_along(cell, session_a(data)), learn_along(cell, both_sessions(data), keep_at=400)
    assert first.predictions.tobytes() == both.predictions[:400].tobytes()
    assert both.kept is not None
    assert first.theta.tobytes() == both.kept.tobytes()
    assert len(both.predictions) == 800
    # at B's first bin nothing has been learned from B, and the state is zero: the frozen pass begins as the adapting
    learner = build_learner(cell.method, cell.k, cell.config, 6, 2)
    frozen = frozen_predictions(learner, first.theta, 12, data.inputs_b)
    np.testing.assert_allclose(frozen[0], both.predictions[400], rtol=1e-5, atol=1e-6)
    assert np.abs(frozen[1:] - both.predictions[401:]).max() > 1e-3


def test_the_frozen_pass_learns_nothing(recordings):
    cell = cell_of("rtrl", limit=300, dtype="float64")
    data = data_of(cell)
    theta = learn_along(cell, session_a(data)).theta
    learner = build_learner("rtrl", 12, cell.config, 6, 2)
    frozen = frozen_predictions(learner, theta, 12, data.inputs_b)
    W, U, b, V, c = (learner.layout.split(theta)[name] for name in "WUbVc")
    h = np.zeros(12)
    for x, prediction in zip(data.inputs_b, frozen, strict=True):
        h = np.tanh(W @ h + U @ x + b)
        np.testing.assert_allclose(prediction, V @ h + c, atol=1e-12)
    # the readable loop at a vanishing learning rate is a frozen run of its own
    still = learner._replace(
        optimizer=build_learner(
            "rtrl", 12, cell.config.model_copy(update={"optimizer": "sgd", "learning_rate": 1e-300}), 6, 2
        ).optimizer
    )
    rngs = generators(1)
    stream = Stream(data.inputs_b, data.targets_b, (), {})
    same = train(still, begin(still, theta, 12, 6, rngs.mask), stream, rngs)
    np.testing.assert_allclose(same.predictions, frozen, atol=1e-12)


def test_session_b_changes_nothing_in_the_transform(recordings):
    a, b = load("first"), load("second")
    data = pair_of(a, b, 6, "velocity")
    other = pair_of(a, replace(a, session="copy"), 6, "velocity")
    for name in ("inputs_a", "targets_a", "states_a"):
        np.testing.assert_array_equal(getattr(data, name), getattr(other, name))
    np.testing.assert_array_equal(other.inputs_b, other.inputs_a)  # B goes through A's transform
    np.testing.assert_array_equal(other.targets_b, other.targets_a)
    assert np.abs(data.inputs_b.mean(0)).max() > 0.05  # and is not centred by itself
    np.testing.assert_allclose(data.targets_a, data.states_a[:, 2:], atol=1e-12)
    position = pair_of(a, b, 6, "position")
    np.testing.assert_allclose(position.targets_a, data.states_a[:, :2], atol=1e-12)
    np.testing.assert_array_equal(position.inputs_a, data.inputs_a)


def test_a_session_with_itself_is_its_halves(recordings):
    a = load("first")
    data = pair_of(a, a, 6, "velocity")
    assert (len(data.inputs_a), len(data.inputs_b), data.gap_days) == (1650, 1650, 0)
    whole = np.concatenate([data.targets_a, data.targets_b])
    velocity = a.velocity_mm_s
    np.testing.assert_allclose(whole, (velocity - velocity[:1650].mean(0)) / velocity[:1650].std(0), atol=1e-12)
    metrics, _ = run(cell_of("traces", session_b="first", components=30))
    assert (metrics["gap_days"], metrics["bins_a"]) == (0, 1650)
    assert metrics["ridge_frozen_b_late"] < 0.15  # nothing has moved


def test_relabelled_channels_are_those_of_b_alone(recordings):
    a, b = load("first"), load("second")
    plain, relabelled = (pair_of(a, b, 96, "velocity", relabel=relabel) for relabel in (None, 3))
    for name in ("inputs_a", "targets_a", "targets_b", "states_a"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(relabelled, name))
    order = np.random.default_rng(3).permutation(96)
    moved = pair_of(a, replace(b, counts=b.counts[:, order]), 96, "velocity")
    np.testing.assert_array_equal(moved.inputs_b, relabelled.inputs_b)
    assert np.abs(plain.inputs_b - relabelled.inputs_b).max() > 1


def test_baselines_are_computed_once_for_each_of_many_pairs(recordings, monkeypatch):
    counts = []
    compute = pair.baselines
    monkeypatch.setattr(pair, "baselines", lambda *arguments: counts.append(1) or compute(*arguments))
    cells = [cell_of("traces", limit=400, relabel=relabel) for relabel in range(6)]
    first, again = ([run(cell)[0]["ridge_frozen_b_late"] for cell in cells] for _ in range(2))
    assert first == again
    assert (len(set(first)), len(counts)) == (6, 6)


def test_weights_do_not_depend_on_the_data(recordings):
    cell = cell_of("traces", limit=100)
    data = data_of(cell)
    learner = build_learner("traces", 0, cell.config, 6, 2)
    theta = initial_theta(learner, cell.config, 6, 2, generators(1).weights)
    first = frozen_predictions(learner, theta, 12, data.inputs_a[:1])
    np.testing.assert_allclose(learn_along(cell, session_a(data)).predictions[:1], first, rtol=1e-5, atol=1e-7)


def test_a_divergence_leaves_out_what_it_spoils(recordings, monkeypatch):
    for module in ("raysweep.workloads.rnn.fused.train", "raysweep.workloads.rnn.training"):
        monkeypatch.setattr(f"{module}.DIVERGED_ABOVE", 1e-9)
    metrics, _ = run(cell_of("traces", limit=300))
    assert (metrics["diverged"], metrics["diverged_at"]) == (1.0, 0.0)
    assert not [name for name in metrics if name.startswith(("mse_", "frozen_", "r2_", "recovery"))]
    assert "ridge_frozen_b_late" in metrics
    assert "ridge_refit_b_late" not in metrics  # three minutes reach into the late third


def test_a_divergence_in_b_leaves_a_and_the_frozen_pass(recordings):
    b = recordings / "indy_second.npz"
    with np.load(b) as stored:
        arrays = dict(stored)
    arrays["finger_vel_mm_s"][250] = 1e4  # the square of it is beyond what is taken for learning
    np.savez(b, **arrays)
    metrics, recorder = run(cell_of("traces", limit=300))
    assert (metrics["diverged"], metrics["diverged_at"]) == (1.0, 550)
    assert {"mse_a_end", "mse_b_early", "mse_b_middle", "frozen_b_late"} <= metrics.keys()
    assert not {"mse_b_late", "recovery_b_late", "r2_b_late"} & metrics.keys()
    assert (len(recorder.arrays["mse_b"]), len(recorder.arrays["frozen_b"])) == (5, 6)


def test_full_rtrl_read_back_is_full_rtrl_carried(recordings):
    fast = cell_of("rtrl", limit=700, dtype="float64", tol=0.0)
    slow = cell_of("rtrl", limit=700, dtype="float64", implementation="readable")
    assert (fast.config.implementation, slow.config.implementation) == ("fused", "readable")
    one, other = (learn_along(cell, both_sessions(data_of(cell))) for cell in (fast, slow))
    np.testing.assert_allclose(one.predictions, other.predictions, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-8, atol=1e-10)


def test_digests_are_filled_in_and_verified(recordings):
    cell = cell_of("traces", limit=50)
    assert (cell.config.digest_a, cell.config.digest_b) == (load("first").digest, load("second").digest)
    assert settle("traces", 0, cell.config) == (0, cell.config)
    wrong = SimpleNamespace(**vars(cell) | {"config": cell.config.model_copy(update={"digest_b": "0" * 16})})
    with pytest.raises(
        ValueError, match=rf"indy_second.npz: digest {load('second').digest}, expected 0{{16}}: .*digest_b"
    ):
        run(wrong)


def test_planning_reads_no_file_of_a_known_session(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path / "nowhere"))
    _, config = settle("rtrl", None, Config())
    assert (config.digest_a, config.digest_b) == (KNOWN["20160624_03"].digest, KNOWN["20170131_02"].digest)
    cell = SimpleNamespace(cell_id="0" * 24, experiment="e", method="rtrl", k=64, seed=1, config=config)
    with pytest.raises(ValueError, match=r"session '20160624_03': no file .* raysweep data fetch indy"):
        run(cell)


def test_settle_refuses(recordings):
    def problems(method="traces", k=None, **config):
        with pytest.raises(ValueError, match=r"\w") as caught:
            settle(method, k, Config(**config))
        return str(caught.value).splitlines()

    assert problems(loss="cross_entropy")[-1].startswith("loss = 'cross_entropy' on movements")
    (unknown,) = problems(session_a="20160630_02")
    assert unknown.startswith("unknown session '20160630_02'; did you mean '")
    assert len(problems(session_a="20160630_02", loss="cross_entropy", decay=0.1, method="rtrl")) == 3
    (narrow,) = problems(bin_ms=20, session_b="20160624_03")
    assert narrow.endswith("raysweep data fetch indy --sessions 20160624_03 --bin-ms 20")
    for wrong in ({"components": 97}, {"bin_ms": 0}, {"limit": 9}, {"session_a": "../x"}, {"target": "speed"}):
        with pytest.raises(ValidationError):
            Config(**wrong)


def test_cost_orders_the_cells():
    def cost(method, k=None, **config):
        return bci.cost(method, *settle(method, k, Config(**config)))

    assert cost("traces", limit=1000) < cost("traces") < cost("sparse_rtrl", 4) < cost("rtrl")
    assert cost("traces", bin_ms=128) < cost("traces")


@pytest.mark.parametrize(("name", "cells"), [("e9-bci", 12), ("e9-pairs", 300), ("e9-relabel", 24)])
def test_the_sweeps_are_settled_as_they_stand(name, cells, monkeypatch, tmp_path):
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path))
    sweep = tomllib.loads(resources.files("raysweep.workloads").joinpath(f"paper/{name}.toml").read_text("utf-8"))
    assert WORKLOADS[sweep["workload"]] == "raysweep.workloads.bci:run"
    cells_settled = []
    for block in sweep["grid"]:
        lists = {key: value if isinstance(value, list) else [value] for key, value in block.items()}
        for values in product(*lists.values()):
            settings = dict(zip(lists, values, strict=True))
            method, k = settings.pop("method"), settings.pop("k", None)
            stored, config = settle(method, k, Config.model_validate(sweep["config"] | settings))
            cells_settled.append((method, stored, config))
            defaults = settle(method, k, Config(**settings | {"session_b": config.session_b}))[1]
            assert config == defaults  # what the file spells out is the default
    assert len(set(cells_settled)) == len(cells_settled) == cells
    if name == "e9-pairs":
        assert {(config.session_a, config.session_b) for *_, config in cells_settled} == {
            (a, b) for a in KNOWN for b in KNOWN
        }


def test_a_short_cell_on_the_shared_sessions(monkeypatch):
    folder = os.environ.get("RAYSWEEP_SHARED", SHARED)
    monkeypatch.setenv("RAYSWEEP_DATA", f"{folder}/data")
    if not os.path.isdir(f"{folder}/data/indy"):
        pytest.skip(f"no recordings at {folder}/data/indy; set RAYSWEEP_SHARED to the folder that holds data/")
    stored, config = settle("sparse_rtrl", 4, Config(limit=1500))
    cell = SimpleNamespace(cell_id="0" * 24, experiment="e", method="sparse_rtrl", k=stored, seed=42, config=config)
    metrics, _ = run(cell)
    assert metrics["diverged"] == 0.0
    assert metrics["gap_days"] == 221
    assert metrics["mse_b_late"] < metrics["frozen_b_late"]
    assert 0.4 < metrics["mse_a_end"] < 1.0


def test_what_would_never_happen_along_the_sessions_is_refused():
    with pytest.raises(ValueError, match=r"window = 40001 with steps = \d+; valid: 1 to \d+"):
        settle("bptt", None, Config(window=40_001))
    with pytest.raises(ValueError, match="window = 21 with steps = 20; valid: 1 to 20"):
        settle("bptt", None, Config(window=21, limit=10))
    settle("bptt", None, Config(window=20, limit=10))
