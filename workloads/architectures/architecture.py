"""What an architecture is: pure functions over named parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from workloads.arrays import Array, Parameters
from workloads.initial import Initial
from workloads.layout import Layout
from workloads.linearization import Linearization


class Architecture(NamedTuple):
    """A network with n hidden units, C state components and G gates (see `workloads.linearization`)."""

    components: int
    gates: int
    layout: Callable[[int, int, int], Layout]
    """(n, n_in, n_out) -> the named parameters and their order in the flat vector."""
    init: Callable[[int, int, int, Initial, np.random.Generator], dict[str, Array]]
    """(n, n_in, n_out, initial, generator) -> parameters, float64."""
    forward: Callable[[Parameters, Array, Array], tuple[Array, Linearization]]
    """(parameters, state (C, n), x (n_in,)) -> (new state (C, n), the step linearised there)."""
    predict: Callable[[Parameters, Array], Array]
    """(parameters, hidden (n,)) -> z (n_out,)."""
    readout_gradients: Callable[[Parameters, Array, Array], dict[str, Array]]
    """(parameters, hidden (n,), e (n_out,)) -> exact gradients of the readout's parameters."""
    signal: Callable[[Parameters, Array], Array]
    """(parameters, e (n_out,)) -> learning signal q = dL/dh (n,)."""
    unpack: Callable[[Array], dict[str, Array]]
    """Gradient by gates (G, n, m) -> gradients of the recurrent network's named parameters."""
