"""Recurrent architectures by name."""

import math

from workloads.architectures.architecture import Architecture
from workloads.architectures.elstm import elstm
from workloads.architectures.gru import gru_reset_after, gru_reset_before
from workloads.architectures.lru import lru
from workloads.architectures.lstm import lstm
from workloads.architectures.tanh_rnn import tanh_rnn
from workloads.component import Component
from workloads.registry import Registry

ARCHITECTURES: Registry[Component[Architecture]] = Registry(
    "architecture",
    {
        "elstm": Component(elstm),
        "gru_reset_after": Component(gru_reset_after),
        "gru_reset_before": Component(gru_reset_before),
        "lru": Component(lru, {"radius_min": 0.0, "radius_max": 1.0, "phase_max": 2 * math.pi}),
        "lstm": Component(lstm, {"forget_bias": 1.0}),
        "tanh_rnn": Component(tanh_rnn, {"leak": 1.0}),
    },
)
