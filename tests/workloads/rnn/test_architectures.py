"""Architectures as mathematics: golden vectors, autograd with stopped products, finite differences, torch's cells."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.workloads import online_rnn
from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.architectures.gru import gru_reset_after, gru_reset_before
from raysweep.workloads.rnn.architectures.lru import lru
from raysweep.workloads.rnn.architectures.lstm import lstm, sigmoid
from raysweep.workloads.rnn.architectures.sparse_rnn import places
from raysweep.workloads.rnn.architectures.tanh_rnn import tanh_rnn
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.linearization import at_state, pull_back, push, read_back, transition
from raysweep.workloads.rnn.optimizers import adam, sgd
from raysweep.workloads.rnn.rules.bptt import bptt
from raysweep.workloads.rnn.rules.rtrl import rtrl
from raysweep.workloads.rnn.rules.sparse_rtrl import sparse_rtrl
from tests.workloads.rnn.replay import Problem, golden, masked

CASES = {
    "lstm": "lstm",
    "gru_after": "gru_reset_after",
    "gru_before": "gru_reset_before",
    "elstm": "elstm",
    "lru": "lru",
}
MASKED = (
    "lstm",
    "gru_reset_after",
    "gru_reset_before",
    "sparse_tanh_rnn",
    "tanh_rnn",
)  # those with connections between units
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
sizes = st.fixed_dictionaries(
    {"n": st.integers(1, 5), "n_in": st.integers(1, 3), "n_out": st.integers(1, 3), "seed": st.integers(0, 1000)}
)
few = settings(max_examples=8, deadline=None, derandomize=True)


def close(got, expected, atol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


# Golden vectors.


def stored(case: str, base: str) -> tuple[Problem, dict[str, np.ndarray]]:
    """The problem of a golden case, and its arrays."""
    arrays = golden(base) | golden(case)
    (n_in,), (n_out,), n = arrays["X"].shape[1:], arrays["Y"].shape[1:], arrays["h"].shape[1]
    problem = Problem(n, n_in, n_out, steps=1, architecture=CASES[base])
    if base == "lru":  # theirs is a diagonal
        problem.theta = problem.layout.join(arrays | {"D": np.diag(arrays["D"])})
        problem.state = np.stack([arrays["s0_0"].real, arrays["s0_0"].imag])
    else:
        problem.theta = problem.layout.join(arrays)
        hidden = arrays["s0_0"]
        first = {"lstm": [arrays.get("s0_1")], "gru_before": [np.zeros(n)]}.get(base, [])
        problem.state = np.array([*first, hidden])
    problem.inputs, problem.targets = arrays["X"], arrays["Y"]
    return problem, arrays


def of_a_diagonal(problem: Problem, grads: np.ndarray) -> np.ndarray:
    """Gradients with that of D replaced by its diagonal."""
    rows = []
    for row in grads:
        named = problem.layout.split(row)
        rows.append(np.concatenate([(np.diagonal(a) if k == "D" else a).ravel() for k, a in named.items()]))
    return np.array(rows)


@pytest.mark.parametrize("base", CASES)
@pytest.mark.parametrize("rule", [rtrl(), bptt(window=40)], ids=["rtrl", "bptt"])
def test_exact_gradients_are_the_stored_ones(base, rule):
    problem, arrays = stored(base, base)
    got = problem.replay(rule)
    close(got.grads if base != "lru" else of_a_diagonal(problem, got.grads), arrays["grads"])
    close(got.losses, arrays["loss"])
    close(got.states[:, 0] + 1j * got.states[:, 1] if base == "lru" else got.states[:, -1], arrays["h"])


@pytest.mark.parametrize("case", ["lstm_k0_eprop", "lstm_ring2", "gru_after_ring2"])
@pytest.mark.parametrize("gather", [False, True])
def test_masked_gradients_are_the_stored_ones(case, gather):
    problem, arrays = stored(case, "lstm" if case.startswith("lstm") else "gru_after")
    close(problem.replay(masked(arrays["mask"], gather)).grads, arrays["grads"])


# Autograd through all time, written from the papers' equations.


def tanh_step(P, product, state, x):
    return (torch.tanh(product(P["W"], state[0]) + P["U"] @ x + P["b"]),)


def sparse_step(P, product, state, x):
    n = len(state[0])
    W = torch.zeros(n, n, dtype=P["W"].dtype).index_put([torch.tensor(at) for at in places(n, min(4, n), 0)], P["W"])
    return tanh_step({**P, "W": W}, product, state, x)


def lstm_step(P, product, state, x):
    c, h = state
    W, U, b = P["W"].chunk(4), P["U"].chunk(4), P["b"].chunk(4)
    i, f, g, o = (product(W[j], h) + U[j] @ x + b[j] for j in range(4))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)


def gru_step(P, product, h, x, reset_after):
    W, U, b = P["W"].chunk(3), P["U"].chunk(3), P["b"].chunk(3)
    r, z = (torch.sigmoid(product(W[j], h) + U[j] @ x + b[j]) for j in range(2))
    recurrent = r * (product(W[2], h) + P["bhn"]) if reset_after else product(W[2], r * h)
    return (1 - z) * torch.tanh(U[2] @ x + b[2] + recurrent) + z * h


def gru_after_step(P, product, state, x):
    return (gru_step(P, product, state[0], x, reset_after=True),)


def gru_before_step(P, product, state, x):
    return torch.zeros_like(state[0]), gru_step(P, product, state[1], x, reset_after=False)


def elstm_step(P, product, state, x):
    (c,) = state
    z = torch.tanh(P["Uz"] @ x + P["wz"] * c + P["bz"])
    f = torch.sigmoid(P["Uf"] @ x + P["wf"] * c + P["bf"])
    return (f * c + (1 - f) * z,)


def lru_step(P, product, state, x):
    lam = torch.exp(torch.complex(-torch.exp(P["nu"]), torch.exp(P["theta"])))
    h = lam * torch.complex(*state) + torch.exp(P["gamma_log"]) * (torch.complex(P["B_re"], P["B_im"]) @ (x + 0j))
    return h.real, h.imag


STEPS = {
    "tanh_rnn": tanh_step,
    "sparse_tanh_rnn": sparse_step,
    "lstm": lstm_step,
    "gru_reset_after": gru_after_step,
    "gru_reset_before": gru_before_step,
    "elstm": elstm_step,
    "lru": lru_step,
}


def readout(P, state, x):
    if "D" not in P:
        return P["V"] @ state[-1] + P["c"]
    return (torch.complex(P["C_re"], P["C_im"]) @ torch.complex(*state)).real + P["D"] @ x


def autograd(problem: Problem, architecture: str, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Every step's dL_t/dtheta (T, P), recurrent products split into (M * R) h + ((1 - M) * R) sg(h); last state."""
    M = (
        torch.ones(problem.n, problem.n, dtype=torch.float64)
        if mask is None
        else torch.tensor(mask, dtype=torch.float64)
    )

    def product(R, h):
        return (M * R) @ h + ((1 - M) * R) @ h.detach()

    P = {k: torch.tensor(v, requires_grad=True) for k, v in problem.layout.split(problem.theta).items()}
    state, rows = tuple(torch.tensor(problem.state)), []
    for x, y in zip(torch.tensor(problem.inputs), torch.tensor(problem.targets), strict=True):
        state = STEPS[architecture](P, product, state, x)
        loss = 0.5 * ((readout(P, state, x) - y) ** 2).sum()
        grads = torch.autograd.grad(loss, list(P.values()), retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in grads]).numpy())
    return np.array(rows), torch.stack(state).detach().numpy()


def test_every_architecture_has_a_reference():
    assert STEPS.keys() == ARCHITECTURES.keys()
    assert [name for name, kind in ARCHITECTURES.items() if kind.build(**kind.defaults).recurrent] == sorted(MASKED)


@every_architecture
@few
@given(size=sizes)
def test_rtrl_is_autograd_through_all_time(architecture, size):
    problem = Problem(steps=7, architecture=architecture, **size)
    grads, state = autograd(problem, architecture)
    got = problem.replay(rtrl())
    close(got.grads, grads)
    close(got.states[-1], state)
    close(problem.replay(bptt(window=7)).grads, grads)


@every_architecture
def test_rtrl_is_autograd_with_one_of_everything(architecture):
    problem = Problem(1, 1, 1, steps=12, architecture=architecture)
    grads, _ = autograd(problem, architecture)
    assert np.abs(grads).max() > 1e-2
    close(problem.replay(rtrl()).grads, grads)


@pytest.mark.parametrize("architecture", MASKED)
@few
@given(size=sizes, data=st.data())
def test_sparse_rtrl_is_autograd_with_stopped_products(architecture, size, data):
    problem = Problem(steps=7, architecture=architecture, **size)
    include_self = data.draw(st.booleans())
    k = data.draw(st.integers(int(include_self), size["n"]))
    for gather in (False, True):
        got = problem.replay(sparse_rtrl(k, "random", include_self, gather=gather))
        close(got.grads, autograd(problem, architecture, got.rule_state.mask)[0])


@pytest.mark.parametrize("architecture", MASKED)
def test_a_mask_changes_the_gradient(architecture):
    problem = Problem(n=5, steps=7, architecture=architecture)
    grads, _ = autograd(problem, architecture)
    assert np.abs(problem.replay(sparse_rtrl(2, "random")).grads - grads).max() > 1e-3


def test_the_product_with_the_reset_state_is_masked_within_a_step():
    # the first step has no past, so all that a mask can take away is what a reset gate does to other units
    problem = Problem(n=5, steps=1, architecture="gru_reset_before")
    exact = problem.layout.split(problem.replay(rtrl()).grads[0])
    none = problem.layout.split(problem.replay(sparse_rtrl(0)).grads[0])
    for name, array in exact.items():
        by_gate = array.reshape(3 if name in ("W", "U", "b") else 1, -1)
        differs = np.abs(by_gate - none[name].reshape(by_gate.shape)).max(1) > 1e-6
        assert differs.tolist() == ([True, False, False] if len(by_gate) == 3 else [False])
    assert not none["W"].reshape(3, -1)[0].any()


# One step.


def central(function, at: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Jacobian (function's size, at's size) by central differences."""
    columns = []
    for index in np.ndindex(at.shape):
        shifts = np.zeros_like(at)
        shifts[index] = h
        columns.append((function(at + shifts) - function(at - shifts)).ravel() / (2 * h))
    return np.array(columns).T


@every_architecture
def test_the_linearised_step_is_the_finite_difference_of_forward(architecture):
    problem = Problem(n=4, n_in=2, steps=1, architecture=architecture)
    network, layout, x = problem.architecture, problem.layout, problem.inputs[0]
    parameters = layout.split(problem.theta)
    _, step = network.forward(parameters, problem.state, x)
    close(transition(step), central(lambda s: network.forward(parameters, s, x)[0], problem.state), 1e-8)

    by_theta = central(lambda theta: network.forward(layout.split(theta), problem.state, x)[0], problem.theta)
    assert np.abs(by_theta).max() > 0.1
    for row, adjoint in zip(by_theta, np.eye(len(by_theta)), strict=True):
        gradient, _ = read_back(step, adjoint.reshape(problem.state.shape))
        named = {k: np.zeros_like(v) for k, v in parameters.items()} | network.unpack(gradient)
        close(layout.join(named), row, 1e-8)


@every_architecture
@pytest.mark.parametrize("masks", [False, True])
def test_a_step_is_pushed_and_pulled_by_its_transition(architecture, masks):
    problem = Problem(n=4, steps=1, architecture=architecture)
    _, step = problem.architecture.forward(problem.layout.split(problem.theta), problem.state, problem.inputs[0])
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (4, 4)).astype(float) if masks else None
    D, v = transition(step, mask), rng.standard_normal(problem.state.shape)
    close(push(step, v, mask).ravel(), D @ v.ravel())
    close(pull_back(step, v, mask).ravel(), D.T @ v.ravel())
    close(read_back(step, v, mask)[1].ravel(), D.T @ v.ravel())


@every_architecture
def test_the_learning_signal_is_the_finite_difference_of_the_readout(architecture):
    problem = Problem(n=4, steps=1, architecture=architecture)
    network, parameters, x = problem.architecture, problem.layout.split(problem.theta), problem.inputs[0]
    _, step = network.forward(parameters, problem.state, x)
    error = np.array([1.0, -2.0, 0.5])
    jacobian = central(lambda s: network.predict(parameters, s, x), problem.state)
    close(at_state(step, network.signal(parameters, error)).ravel(), error @ jacobian, 1e-9)


@every_architecture
@pytest.mark.parametrize("size", [(1, 1, 1), (4, 3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_has_the_declared_shapes_and_dtype(architecture, size, dtype):
    problem = Problem(*size, steps=1, architecture=architecture, dtype=dtype)
    network, parameters, x = problem.architecture, problem.layout.split(problem.theta), problem.inputs[0]
    n, n_in, n_out = size
    m, components = network.inputs(n, n_in), network.components
    state, step = network.forward(parameters, problem.state, x)
    packed, signal = network.pack(parameters), network.signal(parameters, np.ones(n_out, dtype))
    assert len(step) == network.stages
    assert state.shape == (components, n)
    assert packed.shape == (network.gates, n, m)
    assert signal.shape == (network.read, n)
    assert sum(len(stage.inputs) for stage in step) == network.gates
    assert all(bool(len(stage.weights)) == network.recurrent for stage in step)
    shared = {tuple(row) for stage in step for row in stage.inputs}
    assert (len(shared) == 1) == network.shared_inputs
    for own, gain, weights, inputs in step:
        assert own.shape == (components, components, n)
        assert gain.shape == (components, len(inputs), n)
        assert weights.shape[1:] == (n, n)
        assert inputs.shape[1] == m
    arrays = [state, packed, signal, *(array for stage in step for array in stage)]
    arrays += network.unpack(packed).values()
    arrays += network.readout_gradients(parameters, state, x, np.ones(n_out, dtype)).values()
    assert {array.dtype.name for array in arrays} == {dtype}


# The packed form.


@every_architecture
@pytest.mark.parametrize("size", [(1, 1, 1), (4, 3, 2)])
def test_pack_and_unpack_are_inverse_and_adjoint(architecture, size):
    problem = Problem(*size, steps=1, architecture=architecture)
    network, parameters = problem.architecture, problem.layout.split(problem.theta)
    packed = network.pack(parameters)
    back = network.unpack(packed)
    readout_names = network.readout_gradients(parameters, problem.state, problem.inputs[0], np.ones(size[2])).keys()
    assert back.keys() == parameters.keys() - readout_names
    for name, array in back.items():
        np.testing.assert_array_equal(array, parameters[name])
    assert np.count_nonzero(packed) == sum(array.size for array in back.values())  # zero where a gate has none
    gradient = np.random.default_rng(0).standard_normal(packed.shape)
    named = network.unpack(gradient)
    assert np.vdot(packed, gradient) == pytest.approx(sum(np.vdot(parameters[k], v) for k, v in named.items()))


@every_architecture
def test_packed_rows_have_a_steps_recurrent_weights_and_its_zero_inputs(architecture):
    problem = Problem(n=4, n_in=2, steps=1, architecture=architecture)
    network, parameters = problem.architecture, problem.layout.split(problem.theta)
    _, step = network.forward(parameters, problem.state, problem.inputs[0])
    packed, gate = network.pack(parameters), 0
    for stage in step:
        rows = packed[gate : gate + len(stage.inputs)]
        if network.recurrent:
            np.testing.assert_array_equal(rows[: len(stage.weights), :, :4], stage.weights)
        # a column is in the packed form exactly where its gate has that input
        np.testing.assert_array_equal((rows != 0).all(1), stage.inputs != 0)
        np.testing.assert_array_equal((rows != 0).any(1), stage.inputs != 0)
        gate += len(stage.inputs)
    assert gate == network.gates


# torch's own cells.


def filled(cell: torch.nn.Module, **arrays: np.ndarray) -> torch.nn.Module:
    with torch.no_grad():
        for name, array in arrays.items():
            getattr(cell, name).copy_(torch.tensor(array))
    return cell


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 3, 2)])
def test_forward_is_torchs_lstm(size):
    problem = Problem(*size, steps=6, architecture="lstm")
    n, n_in, _ = size
    P = problem.layout.split(problem.theta)
    cell = filled(
        torch.nn.LSTM(n_in, n, dtype=torch.float64),
        weight_hh_l0=P["W"],
        weight_ih_l0=P["U"],
        bias_ih_l0=P["b"],
        bias_hh_l0=np.zeros(4 * n),
    )
    c, h = torch.tensor(problem.state)[:, None]
    outputs, (_, last) = cell(torch.tensor(problem.inputs), (h, c))
    got = problem.replay(bptt(window=1)).states
    close(got[:, 1], outputs.detach().numpy(), 1e-14)
    close(got[-1, 0], last[0].detach().numpy(), 1e-14)


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 3, 2)])
def test_forward_is_torchs_gru(size):
    problem = Problem(*size, steps=6, architecture="gru_reset_after")
    n, n_in, _ = size
    P = problem.layout.split(problem.theta)
    cell = filled(
        torch.nn.GRU(n_in, n, dtype=torch.float64),
        weight_hh_l0=P["W"],
        weight_ih_l0=P["U"],
        bias_ih_l0=P["b"],
        bias_hh_l0=np.concatenate([np.zeros(2 * n), P["bhn"]]),
    )
    outputs, _ = cell(torch.tensor(problem.inputs), torch.tensor(problem.state))
    close(problem.replay(bptt(window=1)).states[:, 0], outputs.detach().numpy(), 1e-14)


# Limits.


@pytest.mark.parametrize("architecture", ["gru_reset_after", "gru_reset_before"])
def test_a_gru_with_gates_at_rest_is_a_leaky_tanh_rnn(architecture):
    leak = 0.3
    problem = Problem(n=5, steps=8, architecture=architecture)
    P = problem.layout.split(problem.theta)
    candidate = {name: np.split(P[name], 3)[2] for name in ("W", "U", "b")}
    gates = {name: np.concatenate([np.zeros_like(v), np.zeros_like(v), v]) for name, v in candidate.items()}
    gates["b"][:5] = 50.0  # r = 1
    gates["b"][5:10] = math.log((1 - leak) / leak)  # z = 1 - leak
    problem.theta = problem.layout.join(P | gates | ({"bhn": np.zeros(5)} if "bhn" in P else {}))
    plain = Problem(n=5, steps=8, leak=leak)
    plain.theta = plain.layout.join(candidate | {"V": P["V"], "c": P["c"]})
    plain.inputs, plain.targets, plain.state = problem.inputs, problem.targets, problem.state[-1:]
    got, expected = problem.replay(rtrl()), plain.replay(rtrl())
    close(got.states[:, -1], expected.states[:, 0], 1e-14)
    for gated, alone in zip(got.grads, expected.grads, strict=True):
        mine, theirs = problem.layout.split(gated), plain.layout.split(alone)
        for name in candidate:
            close(np.split(mine[name], 3)[2], theirs[name])


def test_an_lstm_that_only_remembers_keeps_its_cells_and_every_influence_on_them():
    problem = Problem(n=4, steps=10, architecture="lstm")
    P = problem.layout.split(problem.theta)
    b = np.repeat([-800.0, 800.0, 0.0, 0.0], 4)  # i = 0, f = 1
    problem.theta = problem.layout.join(P | {"b": b})
    got = problem.replay(rtrl())
    close(got.states[:, 0], np.tile(problem.state[0], (10, 1)), 0)
    _, step = problem.architecture.forward(P | {"b": b}, problem.state, problem.inputs[0])
    np.testing.assert_array_equal(transition(step)[:4, :4], np.eye(4))


def test_nothing_propagated_along_connections_is_eprop():
    # e-prop: within-unit path f of the cell, the parameters' eps of each cell, o tanh' at the output
    problem = Problem(n=4, n_in=2, steps=10, architecture="lstm")
    P = problem.layout.split(problem.theta)
    (c, h), traces = problem.state, np.zeros((3, 4, 7))
    for got, x, y in zip(problem.replay(sparse_rtrl(0)).grads, problem.inputs, problem.targets, strict=True):
        ahat = np.concatenate([h, x, [1.0]])
        pre = P["W"] @ h + P["U"] @ x + P["b"]
        i, f, g, o = (np.tanh(p) if gate == 2 else 1 / (1 + np.exp(-p)) for gate, p in enumerate(np.split(pre, 4)))
        psi = np.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g**2)])
        traces = f[None, :, None] * traces + psi[:, :, None] * ahat
        c = f * c + i * g
        h = o * np.tanh(c)
        signal = P["V"].T @ (P["V"] @ h + P["c"] - y)
        cells = (signal * o * (1 - np.tanh(c) ** 2))[None, :, None] * traces
        output = np.outer(signal * np.tanh(c) * o * (1 - o), ahat)
        rows = np.concatenate([*cells, output])
        close(got[: 16 * 7], np.concatenate([rows[:, :4].ravel(), rows[:, 4:6].ravel(), rows[:, 6]]))


def test_an_lru_with_real_lam_is_an_exponential_average():
    problem = Problem(n=3, n_in=1, n_out=1, steps=9, architecture="lru")
    P = problem.layout.split(problem.theta)
    lam = np.array([0.2, 0.5, 0.9])
    turn = {"nu": np.log(-np.log(lam)), "theta": np.full(3, math.log(2 * math.pi)), "gamma_log": np.zeros(3)}
    problem.theta = problem.layout.join(P | turn)
    problem.state = np.zeros((2, 3))
    got = problem.replay(rtrl()).states
    powers = lam[:, None] ** np.arange(9)[::-1] @ problem.inputs[:, 0]
    close(got[-1], np.stack([P["B_re"][:, 0], P["B_im"][:, 0]]) * powers)


def test_sigmoid():
    pre = np.array([-800.0, -30.0, -1.0, 0.0, 2.0, 800.0])
    close(sigmoid(pre), torch.sigmoid(torch.tensor(pre)).numpy(), 1e-15)
    assert sigmoid(pre.astype("float32")).dtype == "float32"


# Initial weights.


@pytest.mark.parametrize("forget_bias", [1.0, -2.0])
def test_an_lstm_starts_with_its_forget_bias(forget_bias):
    drawn = lstm(forget_bias).init(5, 2, 1, Initial(), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn["b"].reshape(4, 5), [[0] * 5, [forget_bias] * 5, [0] * 5, [0] * 5])
    assert not drawn["c"].any()


@pytest.mark.parametrize(("build", "gates"), [(lstm, 4), (gru_reset_after, 3), (gru_reset_before, 3), (tanh_rnn, 1)])
def test_each_gates_recurrent_block_is_orthogonal_and_its_own(build, gates):
    drawn = build().init(6, 2, 1, Initial("orthogonal", 0.5), np.random.default_rng(0))
    blocks = drawn["W"].reshape(gates, 6, 6)
    for block in blocks:
        close(block @ block.T, 0.25 * np.eye(6), 1e-14)
    assert len({block.tobytes() for block in blocks}) == gates
    assert len({block.tobytes() for block in drawn["U"].reshape(gates, 6, 2)}) == gates


def test_an_elstms_units_are_networks_of_one_unit():
    drawn = ARCHITECTURES["elstm"].build().init(50, 2, 1, Initial("orthogonal", 0.3), np.random.default_rng(0))
    for name in ("wz", "wf"):
        assert {round(float(w), 12) for w in drawn[name]} == {-0.3, 0.3}
    assert np.any(drawn["wz"] != drawn["wf"])


@pytest.mark.parametrize(
    ("radius_min", "radius_max", "phase_max"), [(0.0, 1.0, 2 * math.pi), (0.9, 0.99, 0.3), (0.5, 0.5, 1.0)]
)
def test_an_lru_starts_on_the_ring_uniformly_by_area(radius_min, radius_max, phase_max):
    drawn = lru(radius_min, radius_max, phase_max).init(4000, 1, 1, Initial("normal"), np.random.default_rng(0))
    modulus, phase = np.exp(-np.exp(drawn["nu"])), np.exp(drawn["theta"])
    assert radius_min - 1e-12 <= modulus.min()
    assert modulus.max() <= radius_max + 1e-12
    assert phase.min() > 0
    assert phase.max() <= phase_max + 1e-12
    close(np.exp(drawn["gamma_log"]), np.sqrt(1 - modulus**2), 1e-9)
    # means of uniform draws, to five standard errors
    area, width = modulus**2, radius_max**2 - radius_min**2
    assert abs(area.mean() - radius_min**2 - width / 2) <= 5 * width / math.sqrt(12 * 4000) + 1e-12
    assert abs(phase.mean() - phase_max / 2) < 5 * phase_max / math.sqrt(12 * 4000)


class Ends:
    """A generator at the ends of its interval."""

    def __init__(self, value):
        self.value = value

    def random(self, size):
        return np.full(size, self.value)

    def standard_normal(self, size):
        return np.zeros(size)


@pytest.mark.parametrize("value", [0.0, 1.0 - 2.0**-53])
@pytest.mark.parametrize("radius", [(0.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
def test_an_lru_never_starts_at_an_infinite_logarithm(value, radius):
    drawn = lru(*radius).init(2, 1, 1, Initial("normal", input="normal", output="normal"), Ends(value))
    assert all(np.isfinite(array).all() for array in drawn.values())


@pytest.mark.parametrize("own", [{"radius_min": 0.9, "radius_max": 0.5}, {"radius_max": 1.5}, {"phase_max": 0.0}])
def test_an_lru_without_a_ring_is_refused(own):
    with pytest.raises(ValueError, match=next(iter(own))):
        lru(**own)


# As cells.


@pytest.mark.parametrize(
    ("architecture", "setting", "default"),
    [
        ("lstm", "forget_bias", 1.0),
        ("lru", "radius_min", 0.0),
        ("lru", "radius_max", 1.0),
        ("lru", "phase_max", 2 * math.pi),
    ],
)
def test_settings_belong_to_their_architecture(architecture, setting, default):
    assert getattr(online_rnn.settle("rtrl", None, online_rnn.Config(architecture=architecture))[1], setting) == default
    assert getattr(online_rnn.settle("rtrl", None, online_rnn.Config())[1], setting) is None
    with pytest.raises(ValueError, match=f"{setting} has no effect on architecture 'tanh_rnn'"):
        online_rnn.settle("rtrl", None, online_rnn.Config(**{setting: 0.5}))


@pytest.mark.parametrize("architecture", ["elstm", "lru"])
def test_masks_are_refused_where_there_is_nothing_to_mask(architecture):
    with pytest.raises(ValueError, match="no recurrent connections"):
        online_rnn.settle("sparse_rtrl", 4, online_rnn.Config(architecture=architecture))


@pytest.mark.parametrize("architecture", sorted(CASES.values()))
def test_every_architecture_learns_to_predict_a_sine(architecture):
    problem = Problem(n=8, n_in=1, n_out=1, scale=0.4, architecture=architecture)
    wave = np.sin(0.3 * np.arange(1001.0))[:, None]
    problem.inputs, problem.targets = wave[:-1], wave[1:]
    losses = 2 * problem.replay(rtrl(), adam(3e-3, 0.9, 0.999, 1e-8)).losses
    # without memory the best is a gain of cos(0.3) on the last value: sin(0.3)^2 / 2 = 0.044
    assert losses[-200:].mean() < 0.005


@pytest.mark.parametrize("architecture", sorted(CASES.values()))
def test_a_step_against_the_gradient_lowers_the_loss(architecture):
    problem = Problem(n=4, steps=1, architecture=architecture)
    first = problem.replay(rtrl(), sgd(1e-3))
    before, problem.theta = problem.theta, first.thetas[0]
    expected = 1e-3 * np.sum(first.grads[0] ** 2)
    assert first.losses[0] - problem.replay(rtrl()).losses[0] == pytest.approx(expected, rel=0.05)
    close(before - problem.theta, 1e-3 * first.grads[0], 1e-15)
