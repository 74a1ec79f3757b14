"""Rules beyond one component and one gate, masks while weights change, what a step leaves untouched, its clip."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from raysweep.workloads.rnn.losses import LOSSES
from raysweep.workloads.rnn.optimizers import adam, sgd
from raysweep.workloads.rnn.rules.bptt import bptt
from raysweep.workloads.rnn.rules.rtrl import rtrl
from raysweep.workloads.rnn.rules.rule import Shape
from raysweep.workloads.rnn.rules.sparse_rtrl import sparse_rtrl
from raysweep.workloads.rnn.rules.traces import traces
from raysweep.workloads.rnn.training import Learner, begin, learn_step
from tests.workloads.rnn.replay import Problem, chain, every_pair, example_rule


def close(got, expected, atol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def gradients(rule, seen):
    """(T, G, n, m) and the rule's last state."""
    own, _, _, inputs = seen[0].step[0]
    shape = Shape(len(own), len(inputs), 1, own.shape[2], inputs.shape[1], True, own.dtype, 1)
    rng = np.random.default_rng(0)
    state, rows = rule.init(shape, rng), []
    for one in seen:
        gradient, state, _ = rule.update(one, state, rng)
        rows.append(gradient)
    return np.array(rows), state


def by_definition(seen, mask):
    """J[c, i, g, j, l] written out from equations (1) and (2) of `raysweep.workloads.rnn.linearization`."""
    own, _, _, inputs = seen[0].step[0]
    components, n, (gates, m) = len(own), own.shape[2], inputs.shape
    influence, rows = np.zeros((components, n, gates, n, m)), []
    for one in seen:
        own, gain, weights, inputs = one.step[0]
        kept = np.einsum("cei,eigjl->cigjl", own, influence)
        through = np.einsum("cfi,fis,is,sgjl->cigjl", gain, weights, mask, influence[-1])
        immediate = np.einsum("cgi,ij,gl->cigjl", gain, np.eye(n), inputs)
        influence = kept + through + immediate
        rows.append(np.einsum("i,igjl->gjl", one.signal[0], influence[-1]))
    return np.array(rows)


every_size = pytest.mark.parametrize(
    ("components", "gates", "n"), [(1, 1, 5), (2, 4, 5), (1, 3, 4), (3, 2, 4), (2, 4, 1)], ids=str
)


@every_size
def test_exact_rules_over_any_components_and_gates(components, gates, n):
    seen = chain(components, gates, n, m=3, steps=6)
    expected = by_definition(seen, np.ones((n, n)))
    assert np.abs(expected).max() > 0.1
    for rule in (rtrl(), bptt(window=6), sparse_rtrl(n, gather=False), sparse_rtrl(n, gather=True)):
        close(gradients(rule, seen)[0], expected)


@every_size
@pytest.mark.parametrize("gather", [False, True])
def test_masked_rules_over_any_components_and_gates(components, gates, n, gather):
    seen = chain(components, gates, n, m=3, steps=6, seed=1)
    for k in range(n + 1):
        got, state = gradients(sparse_rtrl(k, "random", gather=gather), seen)
        close(got, by_definition(seen, state.mask))


@every_size
def test_traces_and_window_1_over_any_components_and_gates(components, gates, n):
    seen = chain(components, gates, n, m=3, steps=4)
    trace = np.zeros((gates, n, 3))
    for one, got, none, window in zip(
        seen,
        gradients(traces(decay=0.9, gain=0.2), seen)[0],
        gradients(traces(decay=0.0), seen)[0],
        gradients(bptt(window=1), seen)[0],
        strict=True,
    ):
        immediate = np.einsum("gi,gl->gil", one.step[0].gain[-1], one.step[0].inputs)
        trace = 0.9 * trace + 0.2 * immediate
        close(got, one.signal[0][:, None] * trace, 1e-14)
        close(none, one.signal[0][:, None] * immediate, 1e-14)
        np.testing.assert_array_equal(none, window)


def online(problem, leak, thetas, mask):
    """Sum over s <= t of dL_t/dtheta_s, each step with parameters of its own, by autograd."""
    h, copies, rows = torch.tensor(problem.state[0]), [], []
    mask = torch.tensor(mask)
    for theta, x, y in zip(thetas, problem.inputs, problem.targets, strict=True):
        leaf = torch.tensor(theta, requires_grad=True)
        copies.append(leaf)
        parts = torch.split(leaf, [np.prod(shape).item() for shape in problem.layout.shapes.values()])
        W, U, b, V, c = (p.reshape(s) for p, s in zip(parts, problem.layout.shapes.values(), strict=True))
        pre = (mask * W) @ h + ((1 - mask) * W) @ h.detach() + U @ torch.tensor(x) + b
        h = (1 - leak) * h + leak * torch.tanh(pre)
        loss = 0.5 * ((V @ h + c - torch.tensor(y)) ** 2).sum()
        rows.append(sum(torch.autograd.grad(loss, copies, retain_graph=True)).numpy())
    return np.array(rows)


@pytest.mark.parametrize("leak", [1.0, 0.3])
@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize(("k", "selection"), [(0, "ring"), (2, "ring"), (3, "random"), (6, "ring")])
def test_influence_is_that_of_the_weights_of_each_time(k, selection, gather, leak):
    problem = Problem(n=6, steps=10, leak=leak)
    got = problem.replay(sparse_rtrl(k, selection, gather=gather), sgd(0.1))
    assert np.abs(got.thetas[-1] - problem.theta).max() > 0.05
    thetas = [problem.theta, *got.thetas[:-1]]
    close(got.grads, online(problem, leak, thetas, got.rule_state.mask))


@pytest.mark.parametrize("leak", [1.0, 0.3])
@pytest.mark.parametrize("k", [0, 2, 4, 10])
def test_gathering_is_the_dense_product_while_learning(k, leak):
    problem = Problem(n=10, steps=40, leak=leak)
    dense, gathered = (
        problem.replay(sparse_rtrl(k, "random", gather=gather), adam(1e-2, 0.9, 0.999, 1e-8))
        for gather in (False, True)
    )
    close(gathered.grads, dense.grads, 1e-11)
    close(gathered.rule_state.influence, dense.rule_state.influence, 1e-11)


@pytest.mark.parametrize(("k", "gathers"), [(2, True), (4, False)])
def test_either_form_is_taken_on_its_own(k, gathers):
    problem = Problem(n=40, n_in=1, n_out=1, steps=3, scale=0.2)
    got = problem.replay(sparse_rtrl(k))
    assert (got.rule_state.sources is not None) == gathers
    close(got.grads, problem.replay(sparse_rtrl(k, gather=not gathers)).grads, 1e-13)


def learner_of(problem, rule, optimizer, clip):
    return Learner(problem.architecture, problem.layout, rule, optimizer, LOSSES["mse"], clip)


def arrays_in(value) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [array for part in value for array in arrays_in(part)] if isinstance(value, (tuple, list)) else []


@every_pair
def test_a_step_is_pure(rule, architecture):
    # the rule's and the optimiser's state too: the same step taken twice from one place gives the same bits
    problem = Problem(n=8, steps=5, architecture=architecture)
    learner = learner_of(problem, example_rule(rule, 8), adam(1e-2, 0.9, 0.999, 1e-8), 1.0)
    now = begin(learner, problem.theta, problem.n, problem.n_in, np.random.default_rng(0))
    for t, (x, target) in enumerate(zip(problem.inputs, problem.targets, strict=True)):
        before = copy.deepcopy(now)
        after, outcome = learn_step(learner, now, x, target, np.random.default_rng(t))
        again, other = learn_step(learner, now, x, target, np.random.default_rng(t))
        assert len(arrays_in(now)) >= 4
        for first, second in ((now, before), (after, again), (outcome, other)):
            for one, two in zip(arrays_in(first), arrays_in(second), strict=True):
                np.testing.assert_array_equal(one, two)
        now = after


@pytest.mark.parametrize(("clip", "clips"), [(0.05, True), (1e3, False), (0.0, False)])
def test_a_step_clips_all_parameters_together_before_the_optimizer(clip, clips):
    problem = Problem(steps=1)
    learner = learner_of(problem, rtrl(), sgd(learning_rate=1.0), clip)
    now = begin(learner, problem.theta, problem.n, problem.n_in, np.random.default_rng(0))
    after, outcome = learn_step(learner, now, problem.inputs[0], problem.targets[0], np.random.default_rng(0))
    norm = np.linalg.norm(outcome.gradient)
    assert norm > 0.05
    assert outcome.norm == pytest.approx(norm, rel=1e-14)  # both of the gradient before the clip
    leaf = torch.nn.Parameter(torch.zeros(problem.layout.size, dtype=torch.float64))
    leaf.grad = torch.tensor(outcome.gradient)
    if clips:
        torch.nn.utils.clip_grad_norm_([leaf], clip)
    close(problem.theta - after.theta, leaf.grad.numpy(), 1e-14)
