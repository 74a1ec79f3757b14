"""Data streams by name."""

from raysweep.workloads.registry import Registry
from raysweep.workloads.rnn.streams.adding import ADDING
from raysweep.workloads.rnn.streams.copy import COPY
from raysweep.workloads.rnn.streams.lorenz import LORENZ
from raysweep.workloads.rnn.streams.multi_sine import MULTI_SINE
from raysweep.workloads.rnn.streams.sine import SINE
from raysweep.workloads.rnn.streams.stream import StreamKind

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
