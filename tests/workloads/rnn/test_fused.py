"""The compiled loop is the readable one: every rule of the family, architecture, optimiser, loss and selection."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raysweep
from raysweep.workloads import online_rnn
from raysweep.workloads.rnn.fused import train as fused
from raysweep.workloads.rnn.fused.form import ARCHITECTURES, OPTIMIZERS, Size
from raysweep.workloads.rnn.learner import build_learner, initial_theta
from raysweep.workloads.rnn.masks import SELECTIONS
from raysweep.workloads.rnn.probes import Findings, Schedule
from raysweep.workloads.rnn.streams.stream import Stream
from raysweep.workloads.rnn.training import begin, train
from raysweep.workloads.seeds import generators
from tests.conftest import ROOT
from tests.workloads.rnn.replay import golden, run_cell


def random_stream(steps, n_in=1, n_out=1, seed=0, classes=False, **marks) -> Stream:
    rng = np.random.default_rng(seed)
    targets = rng.standard_normal((steps, n_out))
    if classes:
        targets = np.eye(n_out)[rng.integers(n_out, size=steps)]
    return Stream(rng.standard_normal((steps, n_in)), targets, (), {}, **marks)


def settled(method, k=None, **config):
    k, full = online_rnn.settle(method, k, online_rnn.Config(**{"dtype": "float64", "steps": 2000} | config))
    return method, k, full


def prepared(setup, stream, seed=3):
    method, k, config = setup
    n_in, n_out = stream.inputs.shape[1], stream.targets.shape[1]
    learner = build_learner(method, k, config, n_in, n_out)
    return learner, initial_theta(learner, config, n_in, n_out, generators(seed).weights)


def by_kernel(setup, stream, seed=3, **more):
    learner, theta = prepared(setup, stream, seed)
    return fused.train_fused(learner, *setup, theta, stream, generators(seed), **more)


def by_hand(setup, stream, seed=3):
    learner, theta = prepared(setup, stream, seed)
    rngs = generators(seed)
    return train(learner, begin(learner, theta, setup[2].hidden, stream.inputs.shape[1], rngs.mask), stream, rngs)


def agree(setup, stream, atol=1e-9, **more):
    got, expected = by_kernel(setup, stream, **more), by_hand(setup, stream)
    for name in ("losses", "predictions", "theta"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=0, atol=atol, err_msg=name)
    assert got.diverged_at == expected.diverged_at
    return got, expected


few = settings(max_examples=25, deadline=None, derandomize=True)


@few
@given(st.data())
def test_any_learner_of_the_family(data):
    draw = data.draw
    n = draw(st.integers(1, 8))
    method = draw(st.sampled_from(["rtrl", "sparse_rtrl", "traces", "snap", "eprop", "bptt"]))
    config = {
        "architecture": draw(st.sampled_from(ARCHITECTURES)),
        "hidden": n,
        "optimizer": draw(st.sampled_from(OPTIMIZERS)),
        "loss": draw(st.sampled_from(["mse", "half_sse", "cross_entropy"])),
        "learning_rate": 0.01,
        "recurrent_scale": 0.9,
        "output_scale": 0.5,
        "clip": draw(st.sampled_from([0.0, 0.1, 1.0])),
    }
    k = None
    if config["optimizer"] == "rmsprop":
        config["normalize"] = draw(st.sampled_from(["parameter", "group"]))
    if config["architecture"] == "tanh_rnn":
        config["leak"] = draw(st.sampled_from([1.0, 0.3]))
    if method == "sparse_rtrl":
        config["include_self"] = draw(st.booleans())
        k = draw(st.integers(int(config["include_self"]), n))
        config["selection"] = draw(st.sampled_from([name for name in SELECTIONS if name != "ring"]))
        if "fisher" in config["selection"]:
            config["fisher_window"] = draw(st.integers(1, 40))
    if config["loss"] == "cross_entropy":
        config["stream"] = "copy"  # only its settings are taken
    if method == "bptt":
        config["window"] = draw(st.sampled_from([1, 2, 7]))
    replays = method == "rtrl" or (method == "sparse_rtrl" and k and (k > 1 or not config["include_self"]))
    if replays and (config.get("selection") != "dynamic" or k == n):
        config["tol"] = 0.0
    n_in, n_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    steps = 40
    marks = {}
    if draw(st.booleans()):  # sequences, and steps that count for nothing
        rng = np.random.default_rng(draw(st.integers(0, 9)))
        marks = {"graded": rng.random(steps) < 0.5, "begins": rng.random(steps) < 0.1}
    stream = random_stream(steps, n_in, n_out, draw(st.integers(0, 99)), config["loss"] == "cross_entropy", **marks)
    got, _ = agree(settled(method, k, **config), stream, 1e-10)
    assert "replay_cut" not in got.metrics


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_thousand_steps_of_sparse_rtrl(architecture, optimizer):
    stream = random_stream(2000)
    setup = settled("sparse_rtrl", 4, hidden=12, architecture=architecture, optimizer=optimizer, tol=0.0)
    agree(setup, stream)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_groups_that_are_normalised_together(architecture):
    same = {"hidden": 8, "architecture": architecture, "optimizer": "rmsprop", "tol": 0.0}
    stream = random_stream(300, 2, 2)
    got, _ = agree(settled("rtrl", **same, normalize="group"), stream)
    alone, _ = agree(settled("rtrl", **same, normalize="parameter"), stream)
    assert np.abs(got.theta - alone.theta).max() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("tol", "atol"), [(0.0, 1e-9), (None, 1e-6)])
def test_three_hundred_steps_of_full_rtrl(architecture, tol, atol):
    agree(settled("rtrl", hidden=12, architecture=architecture, tol=tol), random_stream(300), atol)


@pytest.mark.parametrize("selection", ["oracle", "anti_oracle"])
def test_masks_chosen_again_every_two_hundred_steps(selection):
    setup = settled("sparse_rtrl", 2, hidden=8, selection=selection, tol=0.0, learning_rate=0.01)
    got, _ = agree(setup, random_stream(650))
    # and the choice matters
    ring = by_kernel(settled("sparse_rtrl", 2, hidden=8, tol=0.0, learning_rate=0.01), random_stream(650))
    assert np.abs(got.theta - ring.theta).max() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_masks_chosen_by_influence_at_every_step(architecture):
    setup = settled("sparse_rtrl", 2, hidden=8, selection="dynamic", learning_rate=0.01, architecture=architecture)
    assert setup[2].implementation == "fused"
    got, _ = agree(setup, random_stream(400))
    assert got.metrics == {"carried_from": 0.0}
    assert "credit_horizon" not in got.info


def test_where_many_sources_are_chosen_by_influence_numpy_is_the_faster():
    many = {"hidden": 64, "selection": "dynamic"}
    assert settled("sparse_rtrl", 32, **many)[2].implementation == "readable"
    assert settled("sparse_rtrl", 4, **many)[2].implementation == "fused"
    assert settled("sparse_rtrl", 32, **many, implementation="fused")[2].implementation == "fused"


@pytest.mark.parametrize("selection", ["fisher_oracle", "fisher_anti"])
def test_masks_chosen_by_fisher_information_once(selection):
    same = {"hidden": 8, "tol": 0.0, "learning_rate": 0.01, "fisher_window": 30, "recurrent_scale": 0.9}
    stream = random_stream(300, begins=np.isin(np.arange(300), (17, 150)))
    got, _ = agree(settled("sparse_rtrl", 2, selection=selection, **same), stream)
    other = {"fisher_oracle": "fisher_anti", "fisher_anti": "fisher_oracle"}[selection]
    against = by_kernel(settled("sparse_rtrl", 2, selection=other, **same), stream)
    np.testing.assert_array_equal(got.losses[:30], against.losses[:30])  # a random mask, the same
    assert np.abs(got.theta - against.theta).max() > 1e-4


@pytest.mark.parametrize("method", ["rtrl", "sparse_rtrl", "traces"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32_to_rounding(method, architecture):
    k = 4 if method == "sparse_rtrl" else None
    setup = settled(method, k, hidden=16, architecture=architecture, dtype="float32")
    got, _ = agree(setup, random_stream(100, 2, 2), 2e-5)
    assert got.theta.dtype == np.float32


def test_the_horizon_is_how_far_credit_reaches(monkeypatch):
    monkeypatch.setattr(fused, "dear_depth", lambda size: np.inf)
    # a leak of 1/2 alone: the adjoint halves each step, so 1e-3 is met after ten
    still = {"hidden": 4, "leak": 0.5, "recurrent_scale": 0.0, "optimizer": "sgd", "learning_rate": 1e-30}
    got = by_kernel(settled("rtrl", **still, tol=1e-3), random_stream(40))
    assert set(got.info["credit_horizon"][10:]) == {10.0}
    full = by_kernel(settled("rtrl", **still, tol=0.0), random_stream(40))
    assert full.info["credit_horizon"].tolist() == list(range(1, 41))


def two_levels(monkeypatch, steps_per_block, deep=5.0) -> None:
    monkeypatch.setattr(fused, "dear_depth", lambda size: deep)
    monkeypatch.setattr(Size, "block", steps_per_block)
    monkeypatch.setattr(Size, "gathered_us", np.inf)


@pytest.mark.parametrize("steps_per_block", [1, 7, 64])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("method", "k"), [("rtrl", None), ("sparse_rtrl", 2)])
def test_two_levels_are_the_carried_influence_while_weights_change(
    monkeypatch, architecture, method, k, steps_per_block
):
    two_levels(monkeypatch, steps_per_block)
    more = {"selection": "oracle"} if k else {}  # chosen again at step 200, within a block
    setup = settled(method, k, hidden=6, architecture=architecture, tol=0.0, learning_rate=0.01, **more)
    # sequences that end in their first block, and steps that are not graded
    begins = np.isin(np.arange(430), (0, 90, 94, 95, 101, 330))
    stream = random_stream(430, 2, 2, begins=begins, graded=np.random.default_rng(1).random(430) < 0.8)
    got, _ = agree(setup, stream, 1e-11)
    at = got.metrics["carried_from"]
    assert 5 < at < 60
    assert len(got.info["credit_horizon"]) == at


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("method", "k"), [("rtrl", None), ("sparse_rtrl", 2)])
def test_with_few_units_influence_is_carried_at_every_step(monkeypatch, architecture, method, k):
    monkeypatch.setattr(fused, "dear_depth", lambda size: 5.0)
    monkeypatch.setattr(Size, "gathered_us", 0.0)
    more = {"selection": "oracle"} if k else {}  # chosen again while J is carried
    setup = settled(method, k, hidden=6, architecture=architecture, tol=0.0, learning_rate=0.01, **more)
    stream = random_stream(230, 2, 2, begins=np.isin(np.arange(230), (0, 90)))
    got, _ = agree(setup, stream, 1e-11)
    at = got.metrics["carried_from"]
    assert 5 < at < 40
    assert len(got.info["credit_horizon"]) == at


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("selection", ["random", "fisher_oracle"])
def test_two_levels_under_masks_with_the_units_themselves(monkeypatch, architecture, selection):
    two_levels(monkeypatch, 8)
    more = {"fisher_window": 30} if selection == "fisher_oracle" else {}
    setup = settled(
        "sparse_rtrl", 3, hidden=7, architecture=architecture, tol=0.0, selection=selection, include_self=True, **more
    )
    got, _ = agree(setup, random_stream(250, 2, 2), 1e-11)
    assert max(5, more.get("fisher_window", 0)) <= got.metrics["carried_from"] < 60


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_levels_with_every_optimiser(monkeypatch, optimizer):
    two_levels(monkeypatch, 9)
    more = {"normalize": "group"} if optimizer == "rmsprop" else {}
    setup = settled("rtrl", hidden=6, tol=0.0, optimizer=optimizer, leak=0.3, **more)
    agree(setup, random_stream(120, 2, 2), 1e-11)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_float32_two_levels_are_as_near_to_float64_as_reading_back(monkeypatch, architecture):
    setup = {"hidden": 16, "architecture": architecture, "tol": 0.0, "recurrent_scale": 0.9}
    stream = random_stream(150, 2, 2)
    exact = by_kernel(settled("rtrl", **setup), stream).theta
    distances = []
    for deep in (np.inf, 5.0):
        two_levels(monkeypatch, 16, deep)
        got = by_kernel(settled("rtrl", **setup, dtype="float32"), stream)
        assert ("carried_from" in got.metrics) == (deep == 5.0)
        assert got.theta.dtype == np.float32
        distances.append(np.abs(got.theta - exact).max())
    assert distances[1] < 3 * distances[0] < 1e-4


def test_a_signal_that_shrinks_within_the_block_is_not_contracted(monkeypatch):
    two_levels(monkeypatch, 16)
    # a leak of 1/2 alone: the adjoint halves each step, so 1e-3 is met after ten
    still = {"hidden": 4, "leak": 0.5, "recurrent_scale": 0.0, "optimizer": "sgd", "learning_rate": 1e-30, "tol": 1e-3}
    depths = []
    take = fused._Loop.trajectory
    monkeypatch.setattr(
        fused._Loop, "trajectory", lambda loop, *done: depths.extend(loop.record.depths) or take(loop, *done)
    )
    at = int(by_kernel(settled("rtrl", **still), random_stream(70)).metrics["carried_from"])
    expected = [10 if (t - at) % 16 >= 9 else t + 1 for t in range(at, 70)]
    assert depths[at:] == expected


@pytest.mark.parametrize(("method", "k"), [("rtrl", None), ("sparse_rtrl", 2)])
@pytest.mark.parametrize("probes", [{}, {"schedule": Schedule(spectrum_every=7, alignment_every=11)}])
def test_where_credit_is_short_again_it_is_read_back_alone_until_it_is_long(monkeypatch, method, k, probes):
    two_levels(monkeypatch, 100, 30.0)
    begun = []
    begin_blocks = fused._Loop.begin_blocks
    monkeypatch.setattr(fused._Loop, "begin_blocks", lambda loop, t: begun.append(t) or begin_blocks(loop, t))
    # the adjoint about halves each step, so it is met after some 45, more than thirty and fewer than half a block
    setup = settled(method, k, hidden=6, leak=0.5, recurrent_scale=0.05, learning_rate=1e-4, tol=1e-13)
    begins = np.isin(np.arange(700), (0, 130, 260, 420))
    graded = np.random.default_rng(1).random(700) < 0.9
    agree(setup, random_stream(700, 2, 2, begins=begins, graded=graded), 1e-11, **probes)
    assert len(begun) > 3


def test_a_run_that_diverges_in_two_levels_ends_at_the_same_step(monkeypatch):
    two_levels(monkeypatch, 4)
    setup = settled("rtrl", hidden=5, optimizer="sgd", clip=0.0, tol=0.0)
    stream = random_stream(200)
    stream.targets[101] = np.inf
    got, expected = by_kernel(setup, stream), by_hand(setup, stream)
    assert got.diverged_at == expected.diverged_at == 101
    assert got.metrics["carried_from"] < 101


def test_where_j_would_not_fit_into_memory_gradients_are_read_back(monkeypatch):
    two_levels(monkeypatch, 4)
    setup = settled("rtrl", hidden=6, tol=0.0)
    bytes_of_influence = 6 * 6 * 8 * 8
    assert "carried_from" in by_kernel(setup, random_stream(40), history_bytes=10 * bytes_of_influence).metrics
    short = by_kernel(setup, random_stream(40), history_bytes=bytes_of_influence - 1).metrics
    assert "carried_from" not in short


def test_the_dearer_form_is_not_taken():
    for k, n in ((8, 8), (4, 16), (16, 16), (4, 64), (64, 64)):
        size = Size(n, k, 1, 1, n + 2)
        cheapest = min(size.gathered_us, size.two_levels_us)
        assert fused.dear_depth(size) * size.back_us == pytest.approx(cheapest)
        assert (cheapest == size.gathered_us) == (n == 8)
        assert size.gather_pays == ((k, n) != (64, 64))


def test_a_full_memory_is_said(monkeypatch):
    monkeypatch.setattr(fused, "dear_depth", lambda size: np.inf)
    setup = settled("rtrl", hidden=6, recurrent_scale=1.5, tol=1e-12)
    stream = random_stream(120)
    assert "replay_cut" not in by_kernel(setup, stream).metrics
    short = by_kernel(setup, stream, history_bytes=6000)
    assert short.metrics["replay_cut"] > 10
    assert "carried_from" not in short.metrics


def test_a_run_that_diverges_ends_at_the_same_step():
    setup = settled("rtrl", hidden=5, optimizer="sgd", learning_rate=50.0, clip=0.0, tol=0.0)
    got, expected = by_kernel(setup, random_stream(60)), by_hand(setup, random_stream(60))
    assert got.diverged_at == expected.diverged_at is not None
    assert len(got.losses) == got.diverged_at
    assert np.isfinite(got.losses).all()


@pytest.mark.parametrize(("case", "method", "leak"), [("rtrl_sgd_n16", "rtrl", 1.0), ("rtrl_leak_ce", "rtrl", 0.3)])
def test_weights_follow_marschalls_framework(case, method, leak):
    stored = golden(case)
    loss, rate = ("cross_entropy", 0.05) if case.endswith("ce") else ("half_sse", 0.02)
    n = len(stored["b_rec"])
    config = {"optimizer": "sgd", "learning_rate": rate, "loss": loss, "clip": 0.0, "tol": 0.0}
    of = "copy" if loss == "cross_entropy" else "sine"
    setup = settled(method, hidden=n, leak=leak, stream=of, **config)
    stream = Stream(stored["X"], stored["Y"], (), {}, begins=np.zeros(200, np.bool_))
    learner, _ = prepared(setup, stream)
    names = dict(zip("WUbVc", ("W_rec", "W_in", "b_rec", "W_out", "b_out"), strict=True))
    theta = learner.layout.join({name: stored[old] for name, old in names.items()})
    loop = fused._Loop(learner, *setup, theta, stream, generators(0), 2**20, Findings(Schedule()))
    loop.carried.state[0] = stored["a0"]
    thetas = []
    for t in range(200):
        loop.run(t, t + 1)
        thetas.append(loop.flat_theta())
    at = np.abs(np.array(thetas)[:, None] - stored["weights"][None]).max(-1).argmin(0)
    assert set(np.diff(at)) == {10}
    np.testing.assert_allclose(np.array(thetas)[at], stored["weights"], rtol=0, atol=1e-12)


SCRIPT = """
import hashlib, sys
sys.path.append(sys.argv[1])
from tests.workloads.rnn.replay import run_cell
from raysweep.workloads.rnn.fused import kernel
digest = hashlib.sha256()
for method, k in (("rtrl", None), ("sparse_rtrl", 4)):
    for implementation in ("fused", "readable"):
        _, recorder = run_cell(method, k, hidden=40, steps=60, shift=30, implementation=implementation)
        digest.update(recorder.arrays["loss"].tobytes())
print(kernel.__file__, sum(kernel.run.stats.cache_misses.values()), digest.hexdigest(), sep="|")
"""


def test_bits_do_not_depend_on_threads_nor_compiled_kernels_on_where_the_package_lies(tmp_path):
    run_cell("rtrl", hidden=2, steps=2, shift=1)  # compiled by now, if it wasn't
    package = Path(raysweep.__file__).parent
    moved = tmp_path / "another place"
    shutil.copytree(package, moved / "raysweep", ignore=shutil.ignore_patterns("__pycache__", "analysis"))
    digests = set()
    for threads, place in (("1", package.parent), ("2", moved)):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(ROOT)],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(place)},
            cwd=place,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        file, compiled, digest = done.stdout.strip().split("|")
        assert Path(file).is_relative_to(place)
        assert compiled == "0"
        digests.add(digest)
    assert len(digests) == 1
