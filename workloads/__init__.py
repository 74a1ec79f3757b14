"""What the cells of a sweep run. Nothing here knows of Ray, the store or the analysis."""

from workloads.registry import Registry

WORKLOADS: Registry[str] = Registry(
    "workload",
    {"online_rnn": "workloads.online_rnn:run", "bci": "workloads.bci:run", "vit": "workloads.vit:run"},
)
"""Our own workloads by name, as `module:function` (see `workloads.interface`)."""
