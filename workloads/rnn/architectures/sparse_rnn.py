r"""The tanh RNN with sparse recurrent weights: each unit reads s units, and the other weights do not exist.

    pre_t = W h_{t-1} + U x_t + b       W (n, n), nonzero in the s places of each row that the graph has   (1)
    h_t   = tanh(pre_t)                 h (n,)                                                           (2)

The parameter `W` (n s,) holds the existing weights alone, row by row in ascending order of the units that are read. So
clip, optimiser and updates see no other, and a weight that does not exist stays 0. The graph is drawn evenly: s
different units for each unit, itself possibly among them. It depends on n, s and `graph`, not on the cell's seed:
seeds differ in weights, not in structure.

The initial weights are those of the dense network in these places, times sqrt(n / s). A row's expected square norm is
then that of the dense network. At s = n the two networks are the same.

In such a network a parameter reaches other units only step by step along the graph. This is the setting in which SnAp
of order 2 and higher differs from full RTRL and from order 1 (Menick et al. 2021).
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.architectures.architecture import Architecture, stacked_gates
from raysweep.workloads.rnn.architectures.tanh_rnn import tanh_rnn
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.linearization import Step
from raysweep.workloads.rnn.parameters import Layout


@functools.cache
def places(n: int, fan_in: int, graph: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Draw the places of the weights: rows and columns (n s,), in the order of the parameter `W`."""
    drawn = np.random.default_rng([graph, n, fan_in]).random((n, n)).argsort(axis=1)[:, :fan_in]
    return np.repeat(np.arange(n), fan_in), np.sort(drawn, axis=1).ravel()


def sparse_tanh_rnn(fan_in: int = 4, graph: int = 0) -> Architecture:
    """Build the sparse tanh RNN of equations (1) and (2).

    Args:
        fan_in: s, the number of units that each unit reads; all n if there are fewer.
        graph: the number of the graph.
    """
    dense = tanh_rnn()

    def at(n: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        return places(n, min(fan_in, n), graph)

    def whole(parameters: Parameters) -> dict[str, Array]:
        n = len(parameters["b"])
        weights = np.zeros((n, n), parameters["W"].dtype)
        weights[at(n)] = parameters["W"]
        return {**parameters, "W": weights}

    def layout(n: int, n_in: int, n_out: int) -> Layout:
        return Layout(dense.layout(n, n_in, n_out).shapes | {"W": (len(at(n)[0]),)})

    def init(n: int, n_in: int, n_out: int, initial: Initial, rng: np.random.Generator) -> dict[str, Array]:
        drawn = dense.init(n, n_in, n_out, initial, rng)
        return drawn | {"W": np.sqrt(n / min(fan_in, n)) * drawn["W"][at(n)]}

    def forward(parameters: Parameters, state: Array, x: Array) -> tuple[Array, Step]:
        return dense.forward(whole(parameters), state, x)

    def pack(parameters: Parameters) -> Array:
        return dense.pack(whole(parameters))

    def unpack(gradient: Array) -> dict[str, Array]:
        named = dense.unpack(gradient)
        return named | {"W": named["W"][at(gradient.shape[1])]}

    return stacked_gates(1, forward)._replace(layout=layout, init=init, pack=pack, unpack=unpack)
