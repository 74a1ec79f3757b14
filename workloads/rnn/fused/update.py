"""Losses and optimisers of the compiled loop. Their formulas are those of `workloads.rnn.losses` and `optimizers`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.fused.compile_cache import compiled_part
from raysweep.workloads.rnn.training import Learner

MSE, HALF_SSE, CROSS_ENTROPY = 0, 1, 2
ADAM, ADAM_REFERENCE, SGD, RMSPROP = 0, 1, 2, 3


class Optimizer(NamedTuple):
    """An optimiser's settings. Settings that the optimiser does not have are 0."""

    kind: int  # ADAM, ADAM_REFERENCE, SGD or RMSPROP
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float


class Groups(NamedTuple):
    """The groups of flat parameters that RMSprop normalises together; empty if each parameter is normalised alone."""

    of: npt.NDArray[np.int32]  # (size,) group of each parameter; 0 has no parameter of the network
    sizes: npt.NDArray[np.float64]  # number of parameters of each group


def groups_of(learner: Learner, together: bool) -> tuple[Groups, Groups, Groups]:
    """Number the groups that the optimiser normalises together, for theta, readout and bias; empty unless `together`.

    Places in theta that belong to no parameter are group 0. Their gradient is 0.
    """
    shapes = learner.layout.shapes
    named = {name: np.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items(), start=1)}
    parts = (learner.architecture.pack(named), named["V"], named["c"])
    sizes = np.array([0, *learner.layout.sizes], np.float64)
    ids = [part.reshape(-1).astype(np.int32) for part in parts]
    theta, readout, bias = (Groups(of, sizes) if together else Groups(of[:0], sizes[:0]) for of in ids)
    return theta, readout, bias


@compiled_part
def update(
    parameters: Array,
    gradient: Array,
    first: Array,
    second: Array,
    scale: Array,
    kind: int,
    numbers: Array,
    groups: Groups,
) -> None:
    """Update flat parameters and their moments in place, by the gradient times scale[0].

    Args:
        parameters: flat parameters.
        gradient: the gradient before clipping.
        first: first moments.
        second: second moments.
        scale: (1,) the factor by which the clip scales the gradient.
        kind: the optimiser's code.
        numbers: the numbers from `optimizer_numbers`.
        groups: the groups of RMSprop.
    """
    rate, _, add1, keep2, add2, correction, epsilon = numbers
    factor = scale[0]
    if kind == SGD:
        for i in range(parameters.size):
            parameters[i] -= rate * (factor * gradient[i])
        return
    if kind == RMSPROP:
        if groups.of.size:
            means = np.zeros(groups.sizes.size)  # in float64, as a group may have a million parameters
            for i in range(parameters.size):
                g = factor * gradient[i]
                means[groups.of[i]] += g * g
            for group in range(means.size):
                means[group] /= max(groups.sizes[group], 1.0)
            for i in range(parameters.size):
                second[i] = keep2 * second[i] + add2 * means[groups.of[i]]
        else:
            for i in range(parameters.size):
                g = factor * gradient[i]
                second[i] = keep2 * second[i] + add2 * (g * g)
        for i in range(parameters.size):
            parameters[i] -= rate * (factor * gradient[i] / (np.sqrt(second[i]) + epsilon))
        return
    for i in range(parameters.size):
        g = factor * gradient[i]
        first[i] += add1 * (g - first[i])
        second[i] = keep2 * second[i] + add2 * (g * g)
        parameters[i] -= rate * (first[i] / (np.sqrt(second[i]) * correction + epsilon))


@compiled_part
def optimizer_numbers(optimizer: Optimizer, t: int, numbers: Array) -> None:
    """Write the constants of update number t, counted from 1, to `numbers` (7,) of the run's dtype."""
    kind, rate, beta1, beta2, epsilon = optimizer
    correction = 1.0
    if kind == ADAM:
        correction = 1.0 / math.sqrt(1.0 - beta2**t)
        rate = rate / (1.0 - beta1**t)
    elif kind == ADAM_REFERENCE:
        rate = rate * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
    numbers[0] = rate
    numbers[1] = beta1
    numbers[2] = 1.0 - beta1
    numbers[3] = beta2
    numbers[4] = 1.0 - beta2
    numbers[5] = correction
    numbers[6] = epsilon


@compiled_part
def loss_and_error(kind: int, prediction: Array, target: Array, error: Array) -> float:
    """Return the loss of a prediction z (n_out,), and fill `error` (n_out,) with dL/dz."""
    size = prediction.size
    total = 0.0
    if kind == CROSS_ENTROPY:
        top = prediction[0]
        for o in range(size):
            top = max(top, prediction[o])
        norm = 0.0
        weight = 0.0
        for o in range(size):
            error[o] = math.exp(prediction[o] - top)
            norm += error[o]
            weight += target[o]
        for o in range(size):
            total -= target[o] * (prediction[o] - top - math.log(norm))
            error[o] = weight * error[o] / norm - target[o]
        return total
    for o in range(size):
        difference = prediction[o] - target[o]
        total += difference * difference
        error[o] = difference * 2 / size if kind == MSE else difference
    return total / size if kind == MSE else 0.5 * total
