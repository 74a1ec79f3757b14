"""Data streams by name."""

from workloads.registry import Registry
from workloads.streams.sine import SINE
from workloads.streams.stream import StreamKind

STREAMS: Registry[StreamKind] = Registry(
    "stream",
    {
        "sine": SINE,
    },
)
