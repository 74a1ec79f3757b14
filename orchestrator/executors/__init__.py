"""Places where chunks run. Only this package knows Ray."""

from workloads.registry import Registry

EXECUTORS: Registry[str] = Registry(
    "executor",
    {
        "inline": "orchestrator.executors.inline:InlineExecutor",
        "ray": "orchestrator.executors.ray_tasks:RayExecutor",
    },
)
"""Name -> `module:class`, imported when chosen."""
