"""Recurrent architectures by name."""

import math

from raysweep.workloads.registry import Registry
from raysweep.workloads.rnn.architectures.architecture import Architecture
from raysweep.workloads.rnn.architectures.elstm import elstm
from raysweep.workloads.rnn.architectures.gru import gru_reset_after, gru_reset_before
from raysweep.workloads.rnn.architectures.lru import lru
from raysweep.workloads.rnn.architectures.lstm import lstm
from raysweep.workloads.rnn.architectures.sparse_rnn import sparse_tanh_rnn
from raysweep.workloads.rnn.architectures.tanh_rnn import tanh_rnn
from raysweep.workloads.rnn.component import Component

ARCHITECTURES: Registry[Component[Architecture]] = Registry(
    "architecture",
    {
        "elstm": Component(elstm),
        "gru_reset_after": Component(gru_reset_after),
        "gru_reset_before": Component(gru_reset_before),
        "lru": Component(lru, {"radius_min": 0.0, "radius_max": 1.0, "phase_max": 2 * math.pi}),
        "lstm": Component(lstm, {"forget_bias": 1.0}),
        "sparse_tanh_rnn": Component(sparse_tanh_rnn, {"fan_in": 4, "graph": 0}),
        "tanh_rnn": Component(tanh_rnn, {"leak": 1.0}),
    },
)
