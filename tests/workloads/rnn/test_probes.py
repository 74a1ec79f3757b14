"""Probes: what they measure, from either implementation, and that they leave the training alone."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.workloads.rnn.fused import train as fused
from raysweep.workloads.rnn.fused.form import Size
from raysweep.workloads.rnn.probes import (
    Schedule,
    compare,
    condition,
    effective_rank,
    exact_gradient,
    immediate_singular_values,
    singular_values,
)
from raysweep.workloads.rnn.rules.rtrl import rtrl
from tests.workloads.rnn.replay import Problem, example_rule, run_cell

SMALL = {"hidden": 10, "steps": 60, "shift": 30, "dtype": "float64", "learning_rate": 0.01}


def test_singular_values_are_those_of_the_matrix():
    matrix = np.random.default_rng(0).standard_normal((5, 40))
    np.testing.assert_allclose(singular_values(matrix), np.linalg.svd(matrix)[1], rtol=1e-12)
    assert singular_values(np.zeros((3, 9))).tolist() == [0, 0, 0]


def test_condition_and_effective_rank():
    sigma = np.array([4.0, 2.0, 1.0])
    assert condition(sigma) == 4
    assert effective_rank(sigma, 16 / 21) == 1
    assert effective_rank(sigma, 0.95) == 2  # 20 / 21 = 0.952
    assert effective_rank(sigma, 0.96) == 3
    assert effective_rank(np.ones(64)) == 61  # 0.95 * 64 = 60.8
    assert condition(np.array([1.0, 0.0])) == 1e15
    assert effective_rank(np.zeros(3)) == 0


def test_cosine_and_ratio():
    assert compare(np.array([3.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx((np.sqrt(0.5), 3 / np.sqrt(2)))
    assert compare(np.zeros(2), np.ones(2)) == (0, 0)


def test_schedule_measures_the_last_step_of_each_stretch():
    schedule = Schedule(10, 25)
    assert [t for t in range(50) if schedule.spectrum(t)] == [9, 19, 29, 39, 49]
    assert [t for t in range(50) if schedule.alignment(t)] == [24, 49]
    assert [schedule.next(t) for t in (0, 9, 10, 20, 25, 45)] == [9, 9, 19, 24, 29, 49]
    assert not Schedule().any


@pytest.mark.parametrize("architecture", ["tanh_rnn", "lstm", "gru_reset_after", "gru_reset_before", "elstm", "lru"])
def test_the_exact_gradient_is_rtrls(architecture):
    problem = Problem(n=5, steps=12, architecture=architecture)
    got = problem.replay(rtrl())
    steps, state = [], problem.state
    parameters = problem.layout.split(problem.theta)
    for x in problem.inputs:
        state, step = problem.architecture.forward(parameters, state, x)
        steps.append(step)
    error = problem.architecture.predict(parameters, state, problem.inputs[-1]) - problem.targets[-1]
    signal = problem.architecture.signal(parameters, error)
    exact, immediate = exact_gradient(reversed(steps), signal)
    stored = problem.layout.split(got.grads[-1])
    for name, part in problem.architecture.unpack(exact).items():
        np.testing.assert_allclose(part, stored[name], rtol=0, atol=1e-12)
    # the immediate part is what the last step alone gives
    first = problem.layout.split(problem.replay(example_rule("bptt", 5)).grads[-1])
    for name, part in problem.architecture.unpack(immediate).items():
        np.testing.assert_allclose(part, first[name], rtol=0, atol=1e-14)


def test_the_immediate_block_has_orthogonal_rows():
    problem = Problem(n=5, steps=1)
    _, step = problem.architecture.forward(problem.layout.split(problem.theta), problem.state, problem.inputs[0])
    influence = problem.replay(rtrl()).rule_state
    np.testing.assert_allclose(immediate_singular_values(step), singular_values(influence), rtol=1e-12)


# with and without a change half-way, to two levels or to a carried influence
@pytest.mark.parametrize(("deep", "gathered_us"), [(7.0, np.inf), (7.0, 0.0), (1e9, np.inf)])
@pytest.mark.parametrize("architecture", ["tanh_rnn", "lstm", "gru_reset_after"])
@pytest.mark.parametrize(
    ("method", "k", "selection"),
    [
        ("rtrl", None, None),
        ("sparse_rtrl", 4, "ring"),
        ("sparse_rtrl", 4, "dynamic"),
        ("sparse_rtrl", 4, "fisher_anti"),
        ("traces", None, None),
    ],
)
def test_both_implementations_find_the_same_and_training_is_the_same_with_and_without(
    monkeypatch, method, k, selection, architecture, deep, gathered_us
):
    monkeypatch.setattr(fused, "dear_depth", lambda size: deep)
    monkeypatch.setattr(Size, "block", 16)
    monkeypatch.setattr(Size, "gathered_us", gathered_us)
    own = SMALL | {"architecture": architecture} | ({"selection": selection} if selection else {})
    if selection == "fisher_anti":
        own["fisher_window"] = 10
    intervals = {"alignment_every": 20} | ({} if method == "traces" else {"spectrum_every": 15})
    exactly = {} if method == "traces" or selection == "dynamic" else {"tol": 0.0}
    measured = []
    for more in ({"implementation": "readable"}, {"implementation": "fused", **exactly}):
        plain, before = run_cell(method, k, **own, **more)
        probed, after = run_cell(method, k, **own, **more, **intervals)
        assert before.arrays["loss"].tobytes() == after.arrays["loss"].tobytes()
        plain.pop("seconds_per_step"), probed.pop("seconds_per_step")
        assert plain == probed
        measured.append({name: value for name, value in after.arrays.items() if name not in before.arrays})
    readable, compiled = measured
    assert readable.keys() == compiled.keys()
    for name, values in readable.items():
        np.testing.assert_allclose(compiled[name], values, rtol=1e-6, atol=1e-9, err_msg=name)
    assert len(readable["cosine_all"]) == 3
    assert ("condition" in readable) == (method != "traces")


def test_full_rtrl_is_aligned_with_itself_and_a_trace_is_not():
    _, full = run_cell("rtrl", **SMALL, alignment_every=20, tol=0.0)
    np.testing.assert_allclose(full.arrays["cosine_all"], 1, atol=1e-12)
    np.testing.assert_allclose(full.arrays["past_ratio_W"], 1, atol=1e-12)
    _, decayed = run_cell("traces", **SMALL, alignment_every=20, decay=0.95)
    assert decayed.arrays["cosine_all"].max() < 0.99
    _, immediate = run_cell("traces", **SMALL, alignment_every=20, decay=0.0)
    assert set(immediate.arrays["past_cosine_all"]) == {0}  # nothing of the past


def test_alignment_is_against_the_whole_past_whatever_the_rule_keeps():
    cosines = [
        run_cell("bptt", **SMALL, window=1, alignment_every=20, implementation=how)[1].arrays["cosine_all"]
        for how in ("readable", "fused")
    ]
    np.testing.assert_allclose(cosines[0], cosines[1], rtol=1e-9)
    assert cosines[0].max() < 0.999


@pytest.mark.parametrize("implementation", ["readable", "fused"])
def test_alignment_does_not_reach_over_the_beginning_of_a_sequence(implementation):
    # length 5: a sequence of ten steps; step 29 is graded, its past begins at step 20
    copied = {"stream": "copy", "loss": "cross_entropy", "steps": 40, "hidden": 6, "dtype": "float64"}
    exactly = {"tol": 0.0} if implementation == "fused" else {}
    _, recorder = run_cell("rtrl", **copied, **exactly, implementation=implementation, alignment_every=15)
    np.testing.assert_allclose(recorder.arrays["cosine_all"], [0.0, 1.0], atol=1e-9)  # step 14 is not graded
