"""UORO, KF-RTRL, R-KF and r-OK: stored replays, exact expectations over all signs, variances, limits."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from raysweep.workloads import online_rnn
from raysweep.workloads.registry import UnknownName
from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.linearization import local_gradient, push, transition
from raysweep.workloads.rnn.optimizers import sgd
from raysweep.workloads.rnn.rules import RULES, kf_rtrl, ok, rkf_rtrl, uoro
from raysweep.workloads.rnn.rules.bptt import bptt
from raysweep.workloads.rnn.rules.rtrl import rtrl
from raysweep.workloads.rnn.rules.rule import Observation, Rule, Shape
from tests.workloads.rnn.replay import SHARED, Problem, chain, golden, run_cell

MODULES = {"uoro": uoro, "kf_rtrl": kf_rtrl, "rkf_rtrl": rkf_rtrl, "ok": ok}
EPSILON_VARIANTS = ("guarded", "tallec", "sketched", "braintrace")  # those with an exact D A


def close(got, expected, atol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


# Steps, and every way that the signs along them can fall.


def shape_of(seen) -> Shape:
    stages = seen[0].step
    components, _, n = stages[0].own.shape
    gates = sum(len(stage.inputs) for stage in stages)
    m, dtype = stages[0].inputs.shape[1], stages[0].own.dtype
    return Shape(components, gates, len(seen[0].signal), n, m, recurrent=True, dtype=dtype, n_out=1)


def share_inputs(seen):
    """The same steps, every gate reading what the first reads."""
    return [
        one._replace(step=tuple(stage._replace(inputs=0 * stage.inputs + stage.inputs[:1]) for stage in one.step))
        for one in seen
    ]


def every(count):
    return [np.array(drawn) for drawn in itertools.product((1.0, -1.0), repeat=count)]


def gradients_over(rule, module, seen, draws, advance=None, sure=0):
    """Gradients of the last step's loss, one for each sequence of draws, (sequences, G, n, m).

    Args:
        rule: gives the state to begin with.
        module: its `advance` and `contract`.
        seen: the steps.
        draws: each way that a step's noise can fall.
        advance: in place of the module's.
        sure: first steps that only take the last of the draws, as theirs make no difference.
    """
    states = [rule.init(shape_of(seen), np.random.default_rng(0))]
    for t, one in enumerate(seen):
        fall = draws[-1:] if t < sure else draws
        states = [(advance or module.advance)(one, state, drawn) for state in states for drawn in fall]
    return np.array([module.contract(state, seen[-1].signal) for state in states])


def unreversed(count):
    return [drawn for drawn in every(count) if drawn[0] > 0]


def gradients(rule, seen):
    """Of every step, (T, G, n, m)."""
    rng = np.random.default_rng(0)
    state, rows = rule.init(shape_of(seen), rng), []
    for one in seen:
        gradient, state, _ = rule.update(one, state, rng)
        rows.append(gradient)
    return np.array(rows)


def exact(seen):
    return gradients(rtrl(), seen)[-1]


def check_mean(got, seen, atol=1e-12):
    expected = exact(seen)
    assert np.abs(expected).max() > 0.05
    assert got.std(0).max() > 0.05  # something was random
    close(got.mean(0), expected, atol)


@pytest.mark.parametrize(
    ("components", "gates", "n", "steps", "variant"),
    [(2, 4, 2, 3, "guarded"), (3, 2, 1, 4, "guarded"), *((1, 1, 2, 5, variant) for variant in EPSILON_VARIANTS)],
    ids=str,
)
def test_uoro_is_right_on_average(components, gates, n, steps, variant):
    seen = chain(components, gates, n, m=3, steps=steps)
    rule = uoro.uoro(variant)
    draws = [nu.reshape(components, n) for nu in every(components * n)]
    got = gradients_over(
        rule, uoro, seen, draws, lambda one, state, nu: uoro.advance(one, state, nu, uoro.VARIANTS[variant])
    )
    check_mean(got, seen)


def test_uoro_is_right_on_average_where_a_step_has_two_stages():
    first, second = (chain(1, 2, 2, m=3, steps=4, seed=seed) for seed in (1, 2))
    seen = [one._replace(step=one.step + other.step) for one, other in zip(first, second, strict=True)]
    expected = None
    for one in seen:  # RTRL over stages, written out: I of the first stage passes through the second
        D = transition(one.step)
        immediate = np.array([local_gradient(one.step, axis[None]) for axis in np.eye(2)])
        expected = immediate if expected is None else np.einsum("ik,kgjl->igjl", D, expected) + immediate
    got = gradients_over(uoro.uoro(), uoro, seen, [nu[None] for nu in every(2)])
    off_diagonal = immediate[0, :, 1]
    assert np.abs(off_diagonal).max() > 0.05  # a parameter's immediate influence on another unit
    close(got.mean(0), np.einsum("i,igjl->gjl", seen[-1].signal[0], expected))
    assert got.std(0).max() > 0.05


@pytest.mark.parametrize(("components", "gates", "n", "steps"), [(2, 2, 2, 3), (1, 1, 2, 5), (2, 3, 1, 4)], ids=str)
def test_rkf_is_right_on_average(components, gates, n, steps):
    seen = chain(components, gates, n, m=3, steps=steps)
    check_mean(gradients_over(rkf_rtrl.rkf_rtrl(), rkf_rtrl, seen, every(gates * n)), seen)


@pytest.mark.parametrize(("components", "gates", "n"), [(2, 4, 3), (1, 1, 4), (3, 2, 1)], ids=str)
def test_kf_is_right_on_average(components, gates, n):
    seen = share_inputs(chain(components, gates, n, m=4, steps=5))
    check_mean(gradients_over(kf_rtrl.kf_rtrl(), kf_rtrl, seen, every(2)), seen)


@pytest.mark.parametrize(
    ("rank", "steps", "components", "gates", "n"),
    [(1, 4, 2, 4, 3), (1, 4, 1, 1, 2), (2, 5, 2, 4, 3), (2, 4, 1, 1, 3), (3, 5, 1, 1, 4), (3, 5, 2, 2, 3)],
)
def test_ok_is_right_on_average(rank, steps, components, gates, n):
    seen = share_inputs(chain(components, gates, n, m=6, steps=steps))
    # no sign matters before the first mixing, nor whether a step's are all reversed: both are tested below
    draws, sure = (every(2), 0) if rank == 1 else (unreversed(rank + 1), rank - 1)
    check_mean(gradients_over(ok.ok(rank), ok, seen, draws, sure=sure), seen)


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_ok_with_all_signs_reversed_is_the_same_product(rank):
    rng = np.random.default_rng(rank)
    u, A = rng.standard_normal((rank + 1, 7)), rng.standard_normal((rank + 1, 20))
    drawn = rng.choice([-1.0, 1.0], rank + 1)
    products = [np.einsum("sl,sp->lp", *ok.reduce(u, A, sign * drawn)) for sign in (1, -1)]
    close(products[0], products[1])
    assert np.abs(products[0] - u.T @ A).max() > 0.1


# Golden: learning with stored noise, expectations by an independent enumeration.


def replayed(module, begun, advance, noise) -> Rule:
    """A rule whose noise is given, one row a step."""

    def update(seen, state, rng):
        t, factors = state
        factors = advance(seen, factors, noise[t])
        return module.contract(factors, seen.signal), (t + 1, factors), {"A": factors.A}

    return Rule(lambda shape, rng: (0, begun), update)


@pytest.mark.parametrize("case", ["uoro", "kf_rtrl", "rkf_rtrl"])
def test_learning_follows_marschalls_framework(case):
    stored = golden_stochastic(case)
    module = MODULES[case]
    A, B, nu = stored["init_A"], stored["init_B"], stored["nu"]
    if case == "uoro":
        begun, nu = uoro.RankOne(A[None], B[None]), nu[:, None]
    else:
        begun = (kf_rtrl.Kronecker if case == "kf_rtrl" else rkf_rtrl.ReverseKronecker)(A, B)
    got = Problem.stored(stored).replay(replayed(module, begun, module.advance, nu), sgd(learning_rate=0.002))
    close(got.grads, stored["grads"])
    close(got.states[:, 0], stored["a"])
    close(got.losses / 2, stored["loss"])
    close(np.array([info["A"].ravel() for info in got.infos]), stored["A"])
    at = np.abs(got.thetas[:, None] - stored["weights"][None]).max(-1).argmin(0)
    assert set(np.diff(at)) == {10}
    close(got.thetas[at], stored["weights"])


def golden_stochastic(case: str) -> dict[str, np.ndarray]:
    stored = golden(case)  # a name of two words also reads the case of its first, of which there is none
    assert stored["nu"].shape[0] == 100
    assert np.abs(stored["a0"]).max() > 0.1
    return stored


@pytest.mark.parametrize("case", ["uoro", "kf", "rkf"])
def test_mean_and_spread_over_all_signs_are_the_stored_ones(case):
    stored = golden_expectations()
    module = {"uoro": uoro, "kf": kf_rtrl, "rkf": rkf_rtrl}[case]
    parameters = {**{name: stored[name] for name in "WUbV"}, "c": np.zeros(1)}
    architecture = ARCHITECTURES["tanh_rnn"].build(leak=1.0)
    state, seen, empty = np.zeros((1, 2)), [], np.zeros(0)
    for x, y in zip(stored["X"], stored["Y"], strict=True):
        state, step = architecture.forward(parameters, state, x)
        signal = architecture.signal(parameters, architecture.predict(parameters, state, x) - y)
        seen.append(Observation(step, signal, parameters, x, empty, empty, y, empty, lambda s: s))
    draws = [nu[None] for nu in every(2)] if case == "uoro" else every(2)
    rule = RULES[{"uoro": "uoro", "kf": "kf_rtrl", "rkf": "rkf_rtrl"}[case]].build()
    got = gradients_over(rule, module, seen, draws)[:, 0]
    assert len(got) == 256
    close(got.mean(0), stored[f"{case}_mean"])
    close(got.mean(0), stored["exact"])
    close(got.std(0), stored[f"{case}_std"])


def golden_expectations() -> dict[str, np.ndarray]:
    golden("vanilla")  # skips where there is no such folder
    with np.load(Path(os.environ.get("RAYSWEEP_SHARED", SHARED)) / "golden" / "torch.npz") as arrays:
        return {name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith("expect/")}


# UORO: its noise and its variants.


@pytest.mark.parametrize("noise", ["sign", "gaussian"])
@pytest.mark.parametrize("variant", EPSILON_VARIANTS)
def test_what_is_left_of_noise_and_its_reverse_is_one_exact_step(variant, noise):
    # (A (x) B)(nu) and (A (x) B)(-nu) differ in the cross products only, whatever nu and the rhos are
    (seen,) = chain(2, 3, 4, m=3, steps=1)
    rng = np.random.default_rng(0)
    state = uoro.RankOne(rng.standard_normal((2, 4)), rng.standard_normal((3, 4, 3)))
    nu = uoro.NOISES[noise](rng, (2, 4), np.dtype("float64"))
    after = [uoro.advance(seen, state, sign * nu, uoro.VARIANTS[variant]) for sign in (1, -1)]
    products = [np.multiply.outer(one.A, one.B) for one in after]
    expected = np.multiply.outer(push(seen.step, state.A), state.B)
    expected += np.multiply.outer(nu, local_gradient(seen.step, nu))
    close((products[0] + products[1]) / 2, expected, 1e-12)
    assert np.abs(products[0] - products[1]).max() > 0.1


def test_each_variant_scales_as_its_source():
    (seen,) = chain(1, 1, 5, m=3, steps=1)
    rng = np.random.default_rng(0)
    A, B, nu = 1e-6 * rng.standard_normal((1, 5)), 1e-5 * rng.standard_normal((1, 5, 3)), rng.standard_normal((1, 5))
    F, M = push(seen.step, A), local_gradient(seen.step, nu)
    f, b, v, m = (np.sqrt((array**2).sum()) for array in (F, B, nu, M))
    expected = {
        "guarded": (np.sqrt(b / f), np.sqrt(m / v)),
        "tallec": (np.sqrt((b + 1e-5) / (f + 1e-5)), np.sqrt((m + 1e-5) / (v + 1e-5))),
        "braintrace": (np.sqrt((b + 1e-12) / (f + 1e-12)), np.sqrt((m + 1e-12) / (v + 1e-12))),
        "sketched": (np.sqrt(b / max(f, 1e-7)), np.sqrt(m / v)),
        "marschall": (np.sqrt(b / (f + 1e-3)) + 1e-3, np.sqrt(m / (np.sqrt(5) + 1e-3)) + 1e-3),
    }
    assert set(expected) == set(uoro.VARIANTS)
    linear = seen._replace(before=0 * A, after=0 * A, move=lambda s: push(seen.step, s))
    for name, (rho0, rho1) in expected.items():
        variant = uoro.VARIANTS[name]
        got = uoro.advance(linear, uoro.RankOne(A, B), nu, variant._replace(epsilon=variant.epsilon or 1e-3))
        if name == "guarded":
            got = uoro.advance(seen, uoro.RankOne(A, B), nu)
        np.testing.assert_allclose(got.A, rho0 * F + rho1 * nu, rtol=1e-12)
        np.testing.assert_allclose(got.B, B / rho0 + M / rho1, rtol=1e-12)
    tiny = uoro.advance(seen, uoro.RankOne(0 * A, B), nu, uoro.VARIANTS["sketched"])  # 1e-7 in place of ||F|| = 0
    np.testing.assert_allclose(tiny.B, B / np.sqrt(b / 1e-7) + M / np.sqrt(m / v), rtol=1e-12)
    faded = uoro.advance(seen, uoro.RankOne(1e6 * A, 0 * B), nu, uoro.VARIANTS["sketched"])  # rho0 = 0 is clipped
    np.testing.assert_allclose(faded.A, 1e-7 * (1e6 * F) + np.sqrt(m / v) * nu, rtol=1e-12)
    large = uoro.advance(seen, uoro.RankOne(0 * A, 1e12 * B), nu, uoro.VARIANTS["sketched"])  # and at 1e7
    np.testing.assert_allclose(large.B, 1e12 * B / 1e7 + M / np.sqrt(m / v), rtol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_finite_difference_is_the_exact_product_up_to_rounding(architecture):
    problem = Problem(n=6, steps=15, architecture=architecture)
    difference = uoro.uoro("marschall", epsilon=1e-8)

    def update(seen, state, rng):
        # the same rule, D A exact: the step's own linearisation in place of the network
        linear = seen._replace(before=0 * seen.before, after=0 * seen.after, move=lambda s: push(seen.step, s))
        return difference.update(linear, state, rng)

    expected = problem.replay(Rule(difference.init, update)).grads
    got = problem.replay(difference).grads
    assert np.abs(got - expected).max() < 1e-6 * np.abs(expected).max()
    assert np.abs(got - expected).max() > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", uoro.VARIANTS)
@pytest.mark.parametrize("noise", uoro.NOISES)
@pytest.mark.parametrize("n", [1, 6])
def test_every_variant_keeps_dtype_and_stays_finite(variant, noise, dtype, n):
    got = Problem(n=n, n_in=1, n_out=1, steps=40, dtype=dtype).replay(uoro.uoro(variant, noise), sgd(0.01))
    assert got.grads.dtype == got.rule_state.A.dtype == got.rule_state.B.dtype == dtype
    assert np.isfinite(got.grads).all()
    assert np.abs(got.grads).max() > 1e-3


def test_marschalls_start_is_drawn_and_the_others_is_zero():
    shape = Shape(2, 3, 1, 40, 50, recurrent=True, dtype=np.dtype("float64"), n_out=1)
    A, B = uoro.uoro("marschall").init(shape, np.random.default_rng(0))
    assert A.shape == (2, 40)
    assert B.shape == (3, 40, 50)
    assert B.std() == pytest.approx(1, abs=0.05)
    assert abs(B.mean()) < 0.05
    for name in EPSILON_VARIANTS:
        assert not any(array.any() for array in uoro.uoro(name).init(shape, np.random.default_rng(0)))


def test_noise_is_even_independent_and_of_unit_variance():
    for draw, fourth in ((uoro.signs, 1.0), (uoro.gaussians, 3.0)):
        drawn = draw(np.random.default_rng(0), (4, 50_000), np.dtype("float64"))
        close(drawn @ drawn.T / 50_000, np.eye(4), 0.03)
        close(drawn.mean(1), 0, 0.03)
        close((drawn**4).mean(1), fourth, 0.15)
    assert set(np.unique(uoro.signs(np.random.default_rng(0), (100,), np.dtype("float32")))) == {-1, 1}


@pytest.mark.parametrize("name", MODULES)
def test_each_step_draws_every_sign_pattern_as_often(name):
    # the update is `advance` with signs that are uniform, so what holds over all sign sequences holds of the rule
    module, seen = MODULES[name], share_inputs(chain(1, 2, 2, m=4, steps=4))
    rule = RULES[name].build(**{"rank": 1} if name == "ok" else {})
    state = rule.init(shape_of(seen), np.random.default_rng(0))
    for t in range(3):
        state = rule.update(seen[t], state, np.random.default_rng(t))[1]
    draws = every({"uoro": 2, "kf_rtrl": 2, "rkf_rtrl": 4, "ok": 2}[name])
    if name == "uoro":
        draws = [nu[None] for nu in draws]
    possible = np.array([module.contract(module.advance(seen[3], state, nu), seen[3].signal) for nu in draws])
    rng, counts = np.random.default_rng(5), np.zeros(len(draws))
    for _ in range(800):
        distances = np.abs(rule.update(seen[3], state, rng)[0] - possible).max((1, 2, 3))
        assert distances.min() == 0
        counts += distances < 1e-12  # a pattern and its reverse give one product
    expected = 800 * np.array([(np.abs(possible - one).max((1, 2, 3)) < 1e-12).mean() for one in possible])
    assert expected.max() < 800
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all()


# What the rules are without noise, and how much noise they have.


@pytest.mark.parametrize("name", MODULES)
def test_same_generator_same_bits_another_generator_another_gradient(name):
    problem = Problem(n=6, steps=12)
    runs = [problem.replay(RULES[name].build(), sgd(0.01), seed=seed).grads for seed in (3, 3, 4)]
    assert runs[0].tobytes() == runs[1].tobytes()
    assert np.abs(runs[0] - runs[2]).max() > 1e-3


@pytest.mark.parametrize("name", ["kf_rtrl", "ok"])
def test_kronecker_products_are_exact_at_the_first_step(name):
    seen = share_inputs(chain(2, 4, 5, m=3, steps=1))
    close(gradients(RULES[name].build(), seen)[0], exact(seen), 1e-14)


def test_the_first_steps_of_uoro_and_rkf():
    seen = chain(1, 2, 4, m=3, steps=1)
    stage, signal = seen[0].step[0], seen[0].signal[0]
    nu = np.array([1.0, -1, -1, 1])
    state = uoro.advance(seen[0], uoro.uoro().init(shape_of(seen), np.random.default_rng(0)), nu[None])
    M = np.einsum("i,gi,gl->gil", nu, stage.gain[0], stage.inputs)
    close(uoro.contract(state, signal[None]), (signal @ nu) * M, 1e-14)
    assert np.linalg.norm(state.A) == pytest.approx(np.linalg.norm(state.B), rel=1e-14)
    nu = np.array([[1.0, -1, -1, 1], [1, 1, -1, 1]])
    begun = rkf_rtrl.rkf_rtrl().init(shape_of(seen), np.random.default_rng(0))
    state = rkf_rtrl.advance(seen[0], begun, nu.ravel())
    per_input = np.einsum("i,gi,gi,gl->l", signal, nu, stage.gain[0], stage.inputs)
    close(rkf_rtrl.contract(state, signal[None]), nu[:, :, None] * per_input, 1e-14)


@pytest.mark.parametrize(("components", "gates", "n"), [(1, 1, 5), (2, 4, 4), (3, 2, 4)], ids=str)
@pytest.mark.parametrize("rank", [6, 9])
def test_ok_is_rtrl_while_its_rank_lasts(components, gates, n, rank):
    seen = share_inputs(chain(components, gates, n, m=12, steps=6))
    close(gradients(ok.ok(rank), seen), gradients(rtrl(), seen))
    for seed in range(5):  # whatever the signs are
        rng, state = np.random.default_rng(seed), ok.ok(rank).init(shape_of(seen), np.random.default_rng(0))
        for one in seen:
            state = ok.advance(one, state, rng.choice([-1.0, 1.0], rank + 1))
        close(ok.contract(state, seen[-1].signal), exact(seen))


def test_ok_is_rtrl_for_good_at_a_rank_of_all_inputs():
    problem = Problem(n=4, n_in=1, n_out=2, steps=40)  # m = 6
    expected = problem.replay(rtrl(), sgd(0.05)).grads
    close(problem.replay(ok.ok(6), sgd(0.05)).grads, expected, 1e-11)
    assert np.abs(problem.replay(ok.ok(3), sgd(0.05)).grads - expected).max() > 1e-3


def test_less_noise_with_more_rank_and_less_than_kf():
    seen = share_inputs(chain(2, 3, 4, m=5, steps=4))
    kf, *by_rank = (
        ((got - exact(seen)) ** 2).mean(0).sum()
        for got in (
            gradients_over(kf_rtrl.kf_rtrl(), kf_rtrl, seen, every(2)),
            gradients_over(ok.ok(1), ok, seen, every(2)),
            gradients_over(ok.ok(2), ok, seen, unreversed(3), sure=1),
            gradients_over(ok.ok(3), ok, seen, unreversed(4), sure=2),
        )
    )
    assert kf >= by_rank[0] > by_rank[1] > by_rank[2] > 1e-6


@pytest.mark.parametrize("rank", [1, 2, 4, 6])
@pytest.mark.parametrize("decay", [1.0, 0.3])
def test_the_variance_of_a_reduction_is_the_least_one(rank, decay):
    rng = np.random.default_rng(rank)
    scales = decay ** np.arange(rank + 1)
    u, A = rng.standard_normal((rank + 1, 9)), scales[:, None] * rng.standard_normal((rank + 1, 12))
    whole = u.T @ A
    products = np.array([np.einsum("sl,sp->lp", *ok.reduce(u, A, drawn)) for drawn in every(rank + 1)])
    close(products.mean(0), whole)
    ascending = np.linalg.svd(whole, compute_uv=False)[: rank + 1][::-1]
    # mixing b + 1 into b is possible where no weight of (6) is imaginary
    possible = [
        ascending[: b + 1].sum() ** 2 / b - (ascending[: b + 1] ** 2).sum()
        for b in range(1, rank + 1)
        if b * ascending[b] <= ascending[: b + 1].sum() + 1e-12
    ]
    variance = ((products - whole) ** 2).mean(0).sum()
    assert variance == pytest.approx(min(possible), rel=1e-10)
    if rank == 1:
        assert variance == pytest.approx(2 * np.prod(ascending), rel=1e-10)
    assert (np.linalg.matrix_rank(products, tol=1e-10) <= rank).all()


def test_ok_does_not_depend_on_lapacks_signs(monkeypatch):
    rng = np.random.default_rng(0)
    u, A, drawn = rng.standard_normal((4, 7)), rng.standard_normal((4, 20)), rng.choice([-1.0, 1.0], 4)
    expected = np.einsum("sl,sp->lp", *ok.reduce(u, A, drawn))
    qr, svd = np.linalg.qr, np.linalg.svd

    def other_qr(matrix):
        Q, R = qr(matrix)
        flips = rng.choice([-1.0, 1.0], len(R))
        return Q * flips, flips[:, None] * R

    def other_svd(matrix, full_matrices):
        P, s, Q = svd(matrix, full_matrices=full_matrices)
        flips = rng.choice([-1.0, 1.0], len(s))
        return P * flips, s, flips[:, None] * Q

    monkeypatch.setattr(np.linalg, "qr", other_qr)
    monkeypatch.setattr(np.linalg, "svd", other_svd)
    for _ in range(10):
        close(np.einsum("sl,sp->lp", *ok.reduce(u, A, drawn)), expected)


def test_ok_terms_have_factors_of_equal_norm():
    rng = np.random.default_rng(0)
    u, A = ok.reduce(rng.standard_normal((5, 9)), 7 * rng.standard_normal((5, 30)), rng.choice([-1.0, 1.0], 5))
    np.testing.assert_allclose(np.linalg.norm(u, axis=1), np.linalg.norm(A, axis=1), rtol=1e-12)


@pytest.mark.parametrize("singular", [[0.0] * 4, [2.0, 0, 0, 0], [3.0, 1, 0, 0], [3.0, 2, 1, 0], [1.0, 1, 1, 1]])
def test_mixing_has_the_singular_values_on_its_diagonal(singular):
    s = np.array(singular)
    for drawn in every(4):
        X = ok.mixing(s, drawn, rank=3)
        close(np.diagonal(X @ X.T), s, 1e-15)
        if s[-1] == 0:
            close(X @ X.T, np.diag(s), 1e-15)  # rank 3 holds all there is


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_a_past_nothing_is_divided_by_zero(name, dtype):
    # W = 0: D is zero, so is what is carried; KF and OK are then exact at every step
    problem = Problem(n=5, steps=6, dtype=dtype)
    problem.theta[:25] = 0
    got = problem.replay(RULES[name].build()).grads
    assert got.dtype == dtype
    assert np.isfinite(got).all()
    if name in ("kf_rtrl", "ok"):
        close(got, problem.replay(bptt(window=1)).grads, 1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("name", MODULES)
def test_without_a_new_influence_what_is_carried_is_only_moved(name):
    seen = share_inputs(chain(1, 1, 3, m=4, steps=3))
    stage = seen[2].step[0]
    seen[2] = seen[2]._replace(step=(stage._replace(gain=0 * stage.gain, own=0.5 + 0 * stage.own),))
    module, rule = MODULES[name], RULES[name].build(**{"rank": 1} if name == "ok" else {})
    state = rule.init(shape_of(seen), np.random.default_rng(0))
    for one in seen[:2]:
        state = rule.update(one, state, np.random.default_rng(1))[1]
    before = module.contract(state, seen[2].signal)
    assert np.abs(before).max() > 1e-3
    close(rule.update(seen[2], state, np.random.default_rng(2))[0], 0.5 * before, 1e-13)


@pytest.mark.parametrize(
    ("name", "own"), [*((name, {}) for name in MODULES), *(("uoro", {"uoro_variant": v}) for v in EPSILON_VARIANTS)]
)
def test_an_influence_that_blows_up_is_seen_not_raised(name, own):
    seen = share_inputs(chain(1, 1, 3, m=4, steps=3))
    stage = seen[1].step[0]
    seen[1] = seen[1]._replace(step=(stage._replace(own=np.full_like(stage.own, np.inf)),))
    with np.errstate(all="ignore"):
        got = gradients(RULES[name].build(**own), seen)
    assert np.isfinite(got[0]).all()
    assert not np.isfinite(got[2]).any()


@pytest.mark.parametrize("name", MODULES)
def test_where_the_rules_are_defined(name):
    fits = {
        "uoro": lambda a: True,
        "rkf_rtrl": lambda a: a.stages == 1,
        "kf_rtrl": lambda a: a.stages == 1 and a.shared_inputs,
        "ok": lambda a: a.stages == 1 and a.shared_inputs,
    }[name]
    assert (RULES[name].gradient, RULES[name].draws_noise) == ("unbiased", True)
    base = ARCHITECTURES["tanh_rnn"].build(leak=1.0)
    for stages, shared, recurrent in itertools.product((1, 2), (True, False), (True, False)):
        architecture = base._replace(stages=stages, shared_inputs=shared, recurrent=recurrent)
        assert (RULES[name].undefined_on(architecture) is None) == fits(architecture)


# As settings of a cell.


def test_settings_are_named_checked_and_belong_to_their_rule():
    assert set(get_args(uoro.UoroVariant)) == set(uoro.VARIANTS)
    assert set(get_args(uoro.Noise)) == set(uoro.NOISES)
    with pytest.raises(ValidationError, match=r"'guarded', 'tallec', 'marschall', 'sketched' or 'braintrace'"):
        online_rnn.Config(uoro_variant="talec")
    with pytest.raises(ValidationError, match="'sign' or 'gaussian'"):
        online_rnn.Config(noise="uniform")
    with pytest.raises(ValidationError, match="rank"):
        online_rnn.Config(rank=0)
    with pytest.raises(ValueError, match="rank has no effect on method 'uoro'"):
        online_rnn.settle("uoro", None, online_rnn.Config(rank=2))
    with pytest.raises(ValueError, match="k = 4 has no effect on method 'kf_rtrl'"):
        online_rnn.settle("kf_rtrl", 4, online_rnn.Config())
    with pytest.raises(UnknownName, match="did you mean 'tallec'"):
        uoro.uoro("talec")
    settled = online_rnn.settle("uoro", None, online_rnn.Config())[1]
    assert (settled.uoro_variant, settled.noise, settled.rank) == ("guarded", "sign", None)
    assert online_rnn.settle("ok", None, online_rnn.Config())[1].rank == 4


@pytest.mark.parametrize("name", MODULES)
def test_cells_run(name):
    metrics, _ = run_cell(name, steps=60, hidden=8, shift=30)
    assert metrics["diverged"] == 0
    assert math.isfinite(metrics["mse_post_all"])
