"""The data sets that workloads read and do not make themselves: what `raysweep data` fetches and lists."""

from workloads.registry import Registry

DATASETS: Registry[str] = Registry(
    "data set", {"indy": "workloads.recordings.indy:DATASET", "cifar10": "workloads.vit.cifar10:DATASET"}
)
"""Data sets by name, as `module:object` of a `workloads.datasets.dataset.Dataset`."""
