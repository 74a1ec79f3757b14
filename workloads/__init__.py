"""What the cells of a sweep run. Nothing here knows of Ray, the store or the analysis."""

from raysweep.workloads.registry import Registry

WORKLOADS: Registry[str] = Registry(
    "workload",
    {
        "online_rnn": "raysweep.workloads.online_rnn:run",
        "bci": "raysweep.workloads.bci:run",
        "vit": "raysweep.workloads.vit:run",
    },
)
"""Our own workloads by name, as `module:function` (see `raysweep.workloads.interface`)."""
