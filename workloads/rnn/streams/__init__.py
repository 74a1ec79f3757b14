"""Data streams by name."""

from workloads.registry import Registry
from workloads.streams.adding import ADDING
from workloads.streams.copy import COPY
from workloads.streams.lorenz import LORENZ
from workloads.streams.multi_sine import MULTI_SINE
from workloads.streams.sine import SINE
from workloads.streams.stream import StreamKind

STREAMS: Registry[StreamKind] = Registry(
    "stream",
    {
        "adding": ADDING,
        "copy": COPY,
        "lorenz": LORENZ,
        "multi_sine": MULTI_SINE,
        "sine": SINE,
    },
)
