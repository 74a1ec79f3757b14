"""Executors: the parts that run chunks of cells. Only `executors.ray` imports Ray."""

from raysweep.workloads.registry import Registry

EXECUTORS: Registry[str] = Registry(
    "executor",
    {
        "inline": "raysweep.orchestrator.executors.inline:InlineExecutor",
        "processes": "raysweep.orchestrator.executors.processes.executor:ProcessExecutor",
        "ray": "raysweep.orchestrator.executors.ray.executor:RayExecutor",
    },
)
"""Name of an executor -> its class as `module:class`, which is imported at its first use."""
