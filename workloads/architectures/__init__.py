"""Recurrent architectures by name."""

from workloads.architectures.architecture import Architecture
from workloads.architectures.tanh_rnn import tanh_rnn
from workloads.component import Component
from workloads.registry import Registry

ARCHITECTURES: Registry[Component[Architecture]] = Registry(
    "architecture",
    {
        "tanh_rnn": Component(tanh_rnn, {"leak": 1.0}),
    },
)
