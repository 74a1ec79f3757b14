"""What an architecture is: pure functions that a learner and its rule are written against.

A learning rule sees an architecture only through its linearised steps; the fused kernels through `pack` and
`unpack`, which put the parameters of all gates into one array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.linearization import Step
from raysweep.workloads.rnn.parameters import Layout


class Architecture(NamedTuple):
    """A network with n hidden units, C state components and G gates (see `raysweep.workloads.rnn.linearization`)."""

    components: int
    gates: int
    layout: Callable[[int, int, int], Layout]
    """(n, n_in, n_out) -> the named parameters and their order in the flat vector."""
    init: Callable[[int, int, int, Initial, np.random.Generator], dict[str, Array]]
    """(n, n_in, n_out, initial, generator) -> parameters, float64."""
    forward: Callable[[Parameters, Array, Array], tuple[Array, Step]]
    """(parameters, state (C, n), x (n_in,)) -> (new state (C, n), the step linearised there)."""
    predict: Callable[[Parameters, Array, Array], Array]
    """(parameters, state (C, n), x (n_in,)) -> z (n_out,)."""
    readout_gradients: Callable[[Parameters, Array, Array, Array], dict[str, Array]]
    """(parameters, state (C, n), x (n_in,), e (n_out,)) -> exact gradients of the readout's parameters."""
    signal: Callable[[Parameters, Array], Array]
    """(parameters, e (n_out,)) -> learning signal q = dL/ds (Q, n) of the last Q components."""
    pack: Callable[[Parameters], Array]
    """Named parameters -> (G, n, m), rows theta_g[i] = [W_g[i], U_g[i], b_g[i]], zero where a gate has none."""
    unpack: Callable[[Array], dict[str, Array]]
    """(G, n, m), a gradient or packed parameters -> the recurrent network's named arrays."""
    inputs: Callable[[int, int], int] = lambda n, n_in: n + n_in + 1
    """(n, n_in) -> m, inputs a gate."""
    read: int = 1
    """Q: the readout sees the last Q state components."""
    stages: int = 1
    recurrent: bool = True
    """Whether units read one another."""
    shared_inputs: bool = True
    """Whether all gates see the same input vector [h_{t-1}; x_t; 1]."""
