"""Learning rules by name."""

from workloads.registry import Registry
from workloads.rules.bptt import BPTT
from workloads.rules.rtrl import RTRL
from workloads.rules.rule import LearningRule
from workloads.rules.sparse_rtrl import SPARSE_RTRL
from workloads.rules.traces import TRACES

RULES: Registry[LearningRule] = Registry(
    "method",
    {
        "bptt": BPTT,
        "rtrl": RTRL,
        "sparse_rtrl": SPARSE_RTRL,
        "traces": TRACES,
    },
)
