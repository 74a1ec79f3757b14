"""The bundled workloads. Nothing here imports Ray, the store or the analysis."""

from raysweep.workloads.registry import Registry

WORKLOADS: Registry[str] = Registry(
    "workload",
    {
        "online_rnn": "raysweep.workloads.online_rnn:run",
        "bci": "raysweep.workloads.bci:run",
        "vit": "raysweep.workloads.vit:run",
    },
)
"""Bundled workloads: name -> `module:function` (see `raysweep.workloads.interface`)."""
