"""The interface of an architecture: the pure functions through which a learner and its rule use a network.

A learning rule sees an architecture only through its linearised steps. The fused kernels see it through `pack` and
`unpack`, which put the parameters of all gates into one array. `separate_gates` builds these two functions,
`stacked_gates` a whole architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.linearization import Step
from raysweep.workloads.rnn.parameters import Layout
from raysweep.workloads.rnn.readout import predict, readout_gradients, transposed_readout


class Architecture(NamedTuple):
    """A network with n hidden units, C state components and G gates (see `raysweep.workloads.rnn.linearization`)."""

    components: int
    gates: int
    layout: Callable[[int, int, int], Layout]
    """(n, n_in, n_out) -> the named parameters and their order in the flat vector."""
    init: Callable[[int, int, int, Initial, np.random.Generator], dict[str, Array]]
    """(n, n_in, n_out, initial, generator) -> parameters, float64."""
    forward: Callable[[Parameters, Array, Array], tuple[Array, Step]]
    """(parameters, state (C, n), x (n_in,)) -> (new state (C, n), the step linearised at the old state)."""
    pack: Callable[[Parameters], Array]
    """Named parameters -> (G, n, m), rows theta_g[i] = [W_g[i], U_g[i], b_g[i]]; zeros for parts that a gate lacks."""
    unpack: Callable[[Array], dict[str, Array]]
    """(G, n, m), a gradient or packed parameters -> the recurrent network's named arrays."""
    predict: Callable[[Parameters, Array, Array], Array] = predict
    """(parameters, state (C, n), x (n_in,)) -> z (n_out,)."""
    readout_gradients: Callable[[Parameters, Array, Array, Array], dict[str, Array]] = readout_gradients
    """(parameters, state (C, n), x (n_in,), e (n_out,)) -> exact gradients of the readout's parameters."""
    signal: Callable[[Parameters, Array], Array] = transposed_readout
    """(parameters, e (n_out,)) -> learning signal q = dL/ds (Q, n) of the last Q components."""
    inputs: Callable[[int, int], int] = lambda n, n_in: n + n_in + 1
    """(n, n_in) -> m, the number of inputs per gate."""
    read: int = 1
    """Q: the readout sees the last Q state components."""
    stages: int = 1
    recurrent: bool = True
    """Whether units read one another."""
    shared_inputs: bool = True
    """Whether all gates see the same input vector [h_{t-1}; x_t; 1]."""


Forward = Callable[[Parameters, Array, Array], tuple[Array, Step]]
Unpack = Callable[[Array], dict[str, Array]]


def stacked_gates(gates: int, forward: Forward, components: int = 1, biases: Sequence[float] = ()) -> Architecture:
    """Build an architecture whose gates all have recurrent weights, input weights and a bias.

    The parameters are stacked by gate: W (G n, n), U (G n, n_in), b (G n,). They are drawn gate by gate.

    Args:
        gates: G.
        forward: as `Architecture.forward`.
        components: C.
        biases: the initial bias of each gate; empty: 0.
    """

    def layout(n: int, n_in: int, n_out: int) -> Layout:
        return Layout({"W": (gates * n, n), "U": (gates * n, n_in), "b": (gates * n,), "V": (n_out, n), "c": (n_out,)})

    def init(n: int, n_in: int, n_out: int, initial: Initial, rng: np.random.Generator) -> dict[str, Array]:
        return {
            "W": np.concatenate([initial.recurrent_weights(rng, n) for _ in range(gates)]),
            "U": np.concatenate([initial.input_weights(rng, n, n_in) for _ in range(gates)]),
            "b": np.repeat(biases or [0.0] * gates, n),
            "V": initial.output_weights(rng, n, n_out),
            "c": np.zeros(n_out),
        }

    def pack(parameters: Parameters) -> Array:
        rows = np.concatenate([parameters["W"], parameters["U"], parameters["b"][:, None]], axis=1)
        return rows.reshape(gates, len(rows) // gates, -1)

    def unpack(gradient: Array) -> dict[str, Array]:
        _, n, m = gradient.shape
        rows = gradient.reshape(gates * n, m)
        return {"W": rows[:, :n], "U": rows[:, n:-1], "b": rows[:, -1]}

    return Architecture(components, gates, layout, init, forward, pack, unpack)


def separate_gates(gates: Sequence[tuple[str, str]]) -> tuple[Callable[[Parameters], Array], Unpack]:
    """Build `pack` and `unpack` for gates that read no other unit.

    The parameters of such a gate are weights (n, n_in) for the input x_t, and one number per unit (n,) for the
    constant 1.

    Args:
        gates: the names of the two parameters of each gate; "" for a parameter that the gate does not have.
    """

    def pack(parameters: Parameters) -> Array:
        first = next(parameters[weights] for weights, _ in gates if weights)
        n, n_in = first.shape
        rows = np.zeros((len(gates), n, n_in + 1), first.dtype)
        for gate, (weights, numbers) in enumerate(gates):
            if weights:
                rows[gate, :, :-1] = parameters[weights]
            if numbers:
                rows[gate, :, -1] = parameters[numbers]
        return rows

    def unpack(gradient: Array) -> dict[str, Array]:
        matrices = {weights: gradient[gate, :, :-1] for gate, (weights, _) in enumerate(gates) if weights}
        return matrices | {numbers: gradient[gate, :, -1] for gate, (_, numbers) in enumerate(gates) if numbers}

    return pack, unpack
