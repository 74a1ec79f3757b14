"""Local rules, SnAp, KeRNL, DNI, the two other BPTTs, cross-entropy: golden runs, limits, definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.influence import advance, none_yet
from raysweep.workloads.rnn.linearization import transition
from raysweep.workloads.rnn.losses import LOSSES, cross_entropy
from raysweep.workloads.rnn.optimizers import sgd
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.rules.bptt import bptt
from raysweep.workloads.rnn.rules.dni import Interface, dni
from raysweep.workloads.rnn.rules.efficient_bptt import e_bptt
from raysweep.workloads.rnn.rules.eprop import eprop
from raysweep.workloads.rnn.rules.future_bptt import f_bptt
from raysweep.workloads.rnn.rules.kernl import Kernel, kernl
from raysweep.workloads.rnn.rules.pp_prop import pp_prop
from raysweep.workloads.rnn.rules.rflo import rflo
from raysweep.workloads.rnn.rules.rtrl import rtrl
from raysweep.workloads.rnn.rules.rule import Rule, Shape
from raysweep.workloads.rnn.rules.snap import reach, snap
from raysweep.workloads.rnn.rules.sparse_rtrl import sparse_rtrl
from raysweep.workloads.rnn.rules.traces import traces
from raysweep.workloads.rnn.training import Learner, begin, learn_step
from tests.workloads.rnn.replay import Problem, chain, golden, run_cell


def close(got, expected, atol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def fitting(rule: str) -> list[str]:
    """Architectures that a rule is defined on."""
    entry = RULES[rule]
    return [name for name, kind in ARCHITECTURES.items() if entry.undefined_on(kind.build(**kind.defaults)) is None]


# Whole runs of Marschall's framework.


class Played:
    """A noise generator that gives what was recorded."""

    def __init__(self, draws):
        self.draws = iter(draws)

    def standard_normal(self, size):
        draw = next(self.draws)
        assert draw.shape == (size,)
        return draw


def watched(rule: Rule, begun=None, noise=None) -> tuple[Rule, list]:
    """The rule from a given state and under a given noise, and the list of its states to come."""
    states = []

    def update(seen, state, rng):
        gradient, state, info = rule.update(seen, state, noise or rng)
        states.append(state)
        return gradient, state, info

    return Rule(rule.init if begun is None else lambda shape, rng: begun, update), states


def follow(case: str, rule: Rule, leak=1.0, learning_rate=0.02, loss="half_sse") -> dict[str, np.ndarray]:
    """Replays a case to 1e-12: gradients, states, losses, weights."""
    stored = golden(case)
    got = Problem.stored(stored, leak).replay(rule, sgd(learning_rate), loss)
    close(got.grads, stored["grads"])
    close(got.states[:, 0], stored["a"])
    close(got.losses / 2 if loss == "half_sse" else got.losses, stored["loss"])
    at = np.abs(got.thetas[:, None] - stored["weights"][None]).max(-1).argmin(0)
    assert set(np.diff(at)) == {10}  # stored every 10 steps
    close(got.thetas[at], stored["weights"])
    return stored


@pytest.mark.parametrize(
    ("case", "rule", "learning"),
    [
        ("rflo_sgd_n16", rflo("symmetric"), {}),
        ("rflo_sgd_n16", eprop(), {}),
        ("fbptt5", f_bptt(5), {}),
        ("ebptt5", e_bptt(5), {}),
        ("rtrl_leak_ce", rtrl(), {"leak": 0.3, "learning_rate": 0.05, "loss": "cross_entropy"}),
        ("rtrl_leak_ce", snap(2), {"leak": 0.3, "learning_rate": 0.05, "loss": "cross_entropy"}),
    ],
)
def test_a_run_follows_marschalls_framework(case, rule, learning):
    follow(case, rule, **learning)


def test_rflo_with_another_rate_than_the_networks_follows_marschalls_framework():
    inner = rflo("symmetric")

    def update(seen, state, rng):
        (stage,) = seen.step
        slower = stage._replace(own=np.full_like(stage.own, 0.95), gain=0.05 * stage.gain)
        return inner.update(seen._replace(step=(slower,)), state, rng)

    follow("rflo_decay095", Rule(inner.init, update))


def test_kernl_follows_marschalls_framework():
    stored = golden("kernl")
    nothing = np.zeros(8)
    begun = Kernel(
        A=stored["init_A"],
        gam=stored["init_alpha"],
        B=np.zeros((1, 8, 11)),
        Om=nothing,
        Gam=nothing,
        zeta=stored["init_zeta"],
        copy=stored["init_noisy_rnn.a"],
    )
    rule, states = watched(kernl(0.5, 1e-3), begun, Played(stored["zeta"] / 1e-3))
    follow("kernl", rule, leak=0.5)
    close([state.A for state in states], stored["A"])
    close([state.gam for state in states], stored["alpha"])
    assert np.abs(states[-1].A - states[0].A).max() > 1e-4


def test_dni_follows_marschalls_framework():
    stored = golden("dni")
    rule, states = watched(dni(0.02, 5), Interface(stored["init_A"], stored["init_A"], 0, None, None))
    follow("dni", rule)
    close([state.A for state in states], stored["A"])


# E-prop and RFLO.


@pytest.mark.parametrize("architecture", sorted(set(fitting("eprop")) & set(fitting("sparse_rtrl"))))
def test_eprop_is_sparse_rtrl_without_sources(architecture):
    problem = Problem(steps=15, architecture=architecture)
    expected = problem.replay(sparse_rtrl(0, gather=False), sgd(0.05)).grads
    close(problem.replay(eprop(), sgd(0.05)).grads, expected)
    assert np.abs(problem.replay(rtrl(), sgd(0.05)).grads - expected).max() > 1e-3


@pytest.mark.parametrize("architecture", ["elstm", "lru"])
def test_eprop_is_rtrl_where_units_do_not_read_one_another(architecture):
    problem = Problem(steps=15, architecture=architecture)
    close(problem.replay(eprop(), sgd(0.05)).grads, problem.replay(rtrl(), sgd(0.05)).grads)


@pytest.mark.parametrize("architecture", fitting("pp_prop"))
def test_pp_prop_without_decay_is_the_immediate_gradient(architecture):
    problem = Problem(steps=15, architecture=architecture)
    close(problem.replay(pp_prop(0.0), sgd(1e-3)).grads, problem.replay(traces(0.0), sgd(1e-3)).grads)


@pytest.mark.parametrize("read", [1, 2])
def test_pp_prop_of_constant_inputs_is_eprop_that_forgets(read):
    shape, decay = Shape(2, 3, read, 5, 4, True, np.dtype("float64"), 3), 0.7
    rng = np.random.default_rng(5)
    ours, others = pp_prop(decay), eprop()
    state, other = ours.init(shape, rng), others.init(shape, rng)
    for one in chain(2, 3, 5, m=4, steps=12):
        (stage,) = one.step
        stage = stage._replace(inputs=np.arange(12.0).reshape(3, 4))
        one = one._replace(signal=rng.standard_normal((read, 5)), step=(stage,))
        forgets = one._replace(step=(stage._replace(own=decay * stage.own),))
        gradient, state, _ = ours.update(one, state, rng)
        expected, other, _ = others.update(forgets, other, rng)
        close(gradient, expected, 1e-12)


def test_pp_prop_is_the_product_of_two_traces():
    shape, decay, rng = Shape(1, 1, 1, 5, 4, True, np.dtype("float64"), 1), 0.7, np.random.default_rng(5)
    seen = list(chain(1, 1, 5, m=4, steps=9))
    rule = pp_prop(decay)
    state = rule.init(shape, rng)
    for t, one in enumerate(seen):
        gradient, state, _ = rule.update(one, state, rng)
        stages = [past.step[0] for past in seen[: t + 1]]
        weights = decay ** np.arange(t, -1, -1)
        inputs = sum(weight * stage.inputs[0] for weight, stage in zip(weights, stages, strict=True))
        own = [np.prod([stage.own[0, 0] for stage in stages[s + 1 :]], axis=0) for s in range(t + 1)]
        units = sum(w * path * stage.gain[0, 0] for w, path, stage in zip(weights, own, stages, strict=True))
        close(gradient[0], np.outer(one.signal[0] * units / weights.sum(), inputs), 1e-12)


@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_rflo_is_the_decaying_trace(leak):
    problem = Problem(steps=20, leak=leak)
    close(problem.replay(rflo("symmetric"), sgd(0.05)).grads, problem.replay(traces(1 - leak), sgd(0.05)).grads)


@pytest.mark.parametrize("read", [1, 2])
def test_random_feedback_replaces_the_readout_in_the_signal(read):
    rng = np.random.default_rng(5)
    seen = [
        one._replace(signal=rng.standard_normal((read, 5)), error=rng.standard_normal(3))
        for one in chain(2, 3, 5, m=4, steps=6)
    ]
    rule = eprop("random")
    shape = Shape(2, 3, read, 5, 4, True, np.dtype("float64"), 3)
    begun = rule.init(shape, np.random.default_rng(9))
    B = begun.feedback
    assert B.shape == (read, 5, 3)
    aligned = [one._replace(signal=np.einsum("qio,o->qi", B, one.error)) for one in seen]
    state, other = begun, eprop().init(shape, rng)
    for one, same in zip(seen, aligned, strict=True):
        gradient, state, _ = rule.update(one, state, rng)
        expected, other, _ = eprop().update(same, other, rng)
        close(gradient, expected, 1e-14)
        assert state.feedback is B  # drawn once
    assert rule.reset(state, begun).feedback is B
    assert not rule.reset(state, begun).influence.any()


def test_random_feedback_is_of_variance_one_over_the_outputs():
    B = rflo().init(Shape(1, 1, 1, 500, 3, True, np.dtype("float64"), 20), np.random.default_rng(0)).feedback
    assert np.abs(B.mean()) < 5 * np.sqrt(1 / 20 / B.size)
    assert B.var() == pytest.approx(1 / 20, rel=5 * np.sqrt(2 / B.size))


# SnAp.


@pytest.mark.parametrize("architecture", ["gru_reset_after", "lstm", "tanh_rnn"])
def test_snap_on_dense_weights(architecture):
    problem = Problem(steps=15, architecture=architecture)
    first = problem.replay(snap(1), sgd(0.05)).grads
    close(first, problem.replay(sparse_rtrl(1, "random", include_self=True, gather=False), sgd(0.05)).grads)
    full = problem.replay(rtrl(), sgd(0.05)).grads
    close(problem.replay(snap(2), sgd(0.05)).grads, full)
    assert np.abs(first - full).max() > 1e-3


def on_a_graph(edges, n=6):
    """A tanh RNN whose unit i reads j for (i, j) in edges."""
    problem = Problem(n, steps=40, scale=0.9, leak=0.7)
    mask = np.zeros((n, n))
    mask[tuple(np.array(edges).T)] = 1
    weights = {k: v.copy() for k, v in problem.layout.split(problem.theta).items()}
    problem.theta = problem.layout.join(weights | {"W": weights["W"] * mask})
    return problem


RING = [(i, (i + 1) % 6) for i in range(6)]


@pytest.mark.parametrize(
    ("edges", "diameter"),
    [([*RING, *((j, i) for i, j in RING)], 3), (RING, 5), ([*RING, *((i, i) for i in range(6))], 5)],
    ids=["both ways", "one way", "one way and self"],
)
def test_snap_nears_rtrl_with_its_order_and_reaches_it_at_the_diameter(edges, diameter):
    problem = on_a_graph(edges)
    exact = problem.replay(rtrl()).grads
    far = [np.abs(problem.replay(snap(order)).grads - exact).max() for order in range(1, diameter + 2)]
    assert all(later < sooner for sooner, later in pairwise(far))
    assert far[-2] > 1e-6
    assert far[-1] < 1e-12


def test_the_pattern_stays_when_weights_are_learned_and_when_a_sequence_ends():
    problem = on_a_graph(RING)
    rule, states = watched(snap(3))
    got = problem.replay(rule, sgd(0.1))
    assert problem.layout.split(got.thetas[-1])["W"].all()  # the missing connections grew
    distance = (np.arange(6)[None, :] - np.arange(6)[:, None]) % 6
    np.testing.assert_array_equal(states[-1].pattern[:, 0], distance < 3)
    again = snap(3).reset(states[-1], None)
    assert again.pattern is states[-1].pattern
    assert not again.influence.any()
    assert snap(3).reset(None, None) is None


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (2, 3), (1, 2)], ids=str)
def test_snap_over_stages_is_its_definition(order, sizes):
    # by numbers: J where sum_{s < order} |D|^s |I| is nonzero, a unit's components together
    components, gates = sizes
    n, m = 6, 3
    rng = np.random.default_rng(2)
    parts = [chain(components, gates, n, m, steps=5, seed=seed) for seed in (0, 1)]
    sparse = [rng.random((n, n)) < 0.2 for _ in parts]
    seen = []
    for pair in zip(*parts, strict=True):
        stages = [one.step[0] for one in pair]
        step = tuple(s._replace(weights=s.weights * kept) for s, kept in zip(stages, sparse, strict=True))
        seen.append(pair[0]._replace(step=step))
    positive = tuple(stage._replace(**{k: np.abs(v) for k, v in stage._asdict().items()}) for stage in seen[0].step)
    immediate = advance(none_yet(components, 2 * gates, n, m, np.dtype("float64")), positive)
    if components > 1:  # whichever component of its own unit a parameter moves, the unit has it
        blocks = immediate.reshape(components, n, 2 * gates, n, m)
        blocks[:] = blocks.sum(0)
    reached = sum(np.linalg.matrix_power(transition(positive), s) @ immediate for s in range(order))
    pattern = (reached.reshape(components, n, 2 * gates, n, m) > 0).any((0, 4))
    np.testing.assert_array_equal(reach(seen[0].step, order), pattern)
    assert not pattern.all()
    influence, expected = np.zeros_like(immediate), []
    for one in seen:
        influence = advance(influence, one.step).reshape(components, n, 2 * gates, n, m)
        influence = (influence * pattern[None, :, :, :, None]).reshape(immediate.shape)
        expected.append((one.signal[0] @ influence[-n:]).reshape(2 * gates, n, m))
    rule, state, rows = snap(order), None, []
    for one in seen:
        gradient, state, _ = rule.update(one, state, rng)
        rows.append(gradient)
    close(rows, expected)


def test_snap_on_the_gru_that_resets_first_keeps_what_the_reset_gate_does_to_others():
    problem = Problem(n=5, steps=8, architecture="gru_reset_before")
    first, full = (problem.replay(rule).grads for rule in (snap(1), rtrl()))
    close(first[0], full[0], 1e-14)
    assert np.abs(first - full).max() > 1e-4
    close(problem.replay(snap(2)).grads, full)


# KeRNL.


@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_a_kernel_that_does_not_learn_is_rflo(leak):
    problem = Problem(steps=20, leak=leak)
    got = problem.replay(kernl(kernel_rate=0.0, perturbation=0.1, kernel_leak=leak), sgd(0.05)).grads
    close(got, problem.replay(rflo("symmetric"), sgd(0.05)).grads, 1e-14)


def test_the_kernel_learns_to_predict_the_perturbed_copy():
    def error_of(rate):
        problem = Problem(n=5, n_in=1, n_out=1, steps=2000, leak=0.3, scale=0.4)
        rule, states = watched(kernl(rate, 1e-2, 0.5))
        got = problem.replay(rule)
        errors = [
            np.sum((state.A @ state.Om - state.copy + after[0]) ** 2)
            for state, after in zip(states, got.states, strict=True)
        ]
        return np.mean(errors[-500:]), np.abs(states[-1].gam - 0.5).max()

    (frozen, _), (learned, moved) = error_of(0.0), error_of(10.0)
    assert learned < 0.5 * frozen
    assert moved > 0.1


def test_what_kernl_and_dni_learned_outlives_a_sequence():
    problem = Problem(steps=30)
    for rule, kept, dropped in (
        (kernl(1.0, 0.1), ("A", "gam", "zeta"), ("B", "Om", "Gam")),
        (dni(0.1, 5), ("A", "old", "t"), ()),
    ):
        ran, states = watched(rule)
        problem.replay(ran)
        state = states[-1]
        shape = Shape(1, 1, 1, problem.n, problem.n + problem.n_in + 1, True, np.dtype("float64"), 3)
        begun = rule.init(shape, np.random.default_rng(0))
        again = rule.reset(state, begun)
        assert np.abs(again.A - begun.A).max() > 1e-3
        for name in kept:
            np.testing.assert_array_equal(getattr(again, name), getattr(state, name))
        for name in dropped:
            assert getattr(state, name).any()
            assert not getattr(again, name).any()
    assert again.features is None
    assert again.signal is None


# DNI.


def test_where_the_future_owes_nothing_dni_learns_the_present():
    # D = 0 and q linear in the features: the guess becomes q itself
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((4, 4 + 2 + 1))
    rule = dni(dni_rate=0.05)
    state = rule.init(Shape(1, 1, 1, 4, 3, True, np.dtype("float64"), 2), rng)
    (one,) = chain(1, 1, 4, m=3, steps=1)
    stage = one.step[0]._replace(own=np.zeros((1, 1, 4)), weights=np.zeros((1, 4, 4)))
    for _ in range(3000):
        after, target = rng.standard_normal((1, 4)), rng.standard_normal(2)
        signal = truth @ np.concatenate([after[0], target, [1.0]])
        here = one._replace(step=(stage,), before=after, after=after, target=target, signal=signal[None])
        gradient, state, _ = rule.update(here, state, rng)
    close(state.A, truth, 1e-8)
    close(gradient, np.einsum("i,i,l->il", signal, stage.gain[0, 0], stage.inputs[0])[None], 1e-7)


# F-BPTT and E-BPTT.


@pytest.mark.parametrize("architecture", fitting("f_bptt"))
def test_future_and_efficient_bptt_out_of_sliding_windows(architecture):
    # at fixed weights BPTT(w+1) - BPTT(w) is what step s - w did to the loss of step s
    problem, T = Problem(n=4, steps=11, architecture=architecture), 4
    reach_of = [problem.replay(bptt(w)).grads for w in range(1, T + 1)]
    done_by = [reach_of[0], *(longer - shorter for shorter, longer in pairwise(reach_of))]
    future, efficient = (problem.replay(rule).grads for rule in (f_bptt(T), e_bptt(T)))
    recurrent = problem.layout.join(problem.architecture.unpack(np.ones_like(packed(problem))) | zeros(problem)) > 0
    for t in range(11):
        first = t - T + 1
        expected = sum(done_by[w][first + w] for w in range(T)) if first >= 0 else np.zeros_like(future[t])
        close(future[t][recurrent], expected[recurrent])
        ends = (t + 1) % T == 0
        expected = sum(reach_of[w][first + w] for w in range(T)) if ends else np.zeros_like(future[t])
        close(efficient[t][recurrent], expected[recurrent])
        close(future[t][~recurrent], reach_of[0][t][~recurrent], 0)  # the readout's, at every step
        close(efficient[t][~recurrent], reach_of[0][t][~recurrent], 0)
    assert np.abs(future[T - 1 :, recurrent]).max(1).min() > 1e-3


def packed(problem):
    return problem.architecture.pack(problem.layout.split(problem.theta))


def zeros(problem):
    """Zeros for the parameters of the readout."""
    parameters = problem.layout.split(problem.theta)
    state, x = problem.state, problem.inputs[0]
    error = np.zeros_like(problem.targets[0])
    return problem.architecture.readout_gradients(parameters, state, x, error)


def learn(problem, rule, learning_rate, flush):
    """The change of theta over the stream and `flush` further steps that nothing is asked of."""
    learner = Learner(problem.architecture, problem.layout, rule, sgd(learning_rate), LOSSES["half_sse"], clip=0.0)
    now = begin(learner, problem.theta, problem.n, problem.n_in, np.random.default_rng(0))
    steps = len(problem.inputs)
    for t in range(steps + flush):
        now, _ = learn_step(
            learner, now, problem.inputs[t % steps], problem.targets[t % steps], np.random.default_rng(1), t < steps
        )
    return now.theta - problem.theta


@pytest.mark.parametrize("architecture", ["tanh_rnn", "lstm", "gru_reset_before", "lru"])
def test_every_way_of_summing_gives_the_same_weights_to_first_order(architecture):
    T = 40
    problem = Problem(n=5, steps=T, architecture=architecture)
    ways = {"rtrl": (rtrl(), 0), "future": (f_bptt(T), T - 1), "efficient": (e_bptt(T), 0)}
    apart = {}
    for learning_rate in (1e-5, 1e-6):
        moved = {name: learn(problem, rule, learning_rate, flush) for name, (rule, flush) in ways.items()}
        size = np.abs(moved["rtrl"]).max()
        assert size > learning_rate  # it did move, and
        apart[learning_rate] = [np.abs(moved[name] - moved["rtrl"]).max() / size for name in ("future", "efficient")]
        assert max(apart[learning_rate]) < 1e3 * learning_rate
    for coarse, fine in zip(apart[1e-5], apart[1e-6], strict=True):
        assert fine == pytest.approx(coarse / 10, rel=0.05)  # what is left is of second order


# Cross-entropy.


@pytest.mark.parametrize("n_out", [1, 2, 7])
def test_cross_entropy_is_torchs(n_out):
    rng = np.random.default_rng(0)
    z, y = 3 * rng.standard_normal(n_out), rng.dirichlet(np.ones(n_out))
    leaf = torch.tensor(z[None], requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(y[None]))
    expected.backward()
    loss, error = cross_entropy(z, y)
    assert loss == pytest.approx(expected.item(), rel=1e-13, abs=1e-15)
    close(error, leaf.grad[0].numpy(), 1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_huge_scores_is_finite_and_keeps_its_dtype(dtype):
    z, y = np.array([3e4, 0.0, -3e4], dtype), np.array([0.0, 0.25, 0.75], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, error = cross_entropy(z, y)
    assert isinstance(loss, float)
    assert loss == pytest.approx(0.25 * 3e4 + 0.75 * 6e4, rel=1e-6)
    assert error.dtype == dtype
    close(error, [1.0, -0.25, -0.75], 0)
    sure = cross_entropy(z, np.array([1, 0, 0], dtype))
    assert sure[0] == 0
    assert not sure[1].any()


# As cells.


@pytest.mark.parametrize(
    ("method", "k", "own"),
    [
        ("eprop", 0, {"feedback": "symmetric"}),
        ("rflo", 0, {"feedback": "random"}),
        ("snap", None, {"order": 1}),
        ("kernl", None, {"kernel_rate": 0.5, "perturbation": 1e-5, "kernel_leak": 0.8}),
        ("dni", None, {"dni_rate": 0.02, "dni_interval": 5}),
        ("f_bptt", None, {"window": 10}),
        ("e_bptt", None, {"window": 10}),
    ],
)
def test_a_cell_settles_and_learns(method, k, own):
    from raysweep.workloads import online_rnn

    settled_k, settled = online_rnn.settle(method, None, online_rnn.Config(hidden=8))
    assert settled_k == k
    assert {name: getattr(settled, name) for name in own} == own
    with pytest.raises(ValueError, match="leave k out"):
        online_rnn.settle(method, 3, online_rnn.Config(hidden=8))
    metrics, _ = run_cell(method, hidden=8, steps=200, shift=100)
    assert metrics["diverged"] == 0


@pytest.mark.parametrize(
    ("method", "architecture"),
    [
        ("eprop", "gru_reset_before"),
        ("rflo", "lstm"),
        ("rflo", "gru_reset_after"),
        ("snap", "elstm"),
        ("kernl", "lru"),
        ("dni", "lstm"),
    ],
)
def test_a_rule_is_refused_where_it_is_not_defined(method, architecture):
    assert architecture not in fitting(method)
    assert "tanh_rnn" in fitting(method)
