"""The data sets that workloads read and do not make themselves: what `raysweep data` fetches and lists."""

from raysweep.workloads.registry import Registry

DATASETS: Registry[str] = Registry(
    "data set",
    {"indy": "raysweep.workloads.bci.recordings.indy:DATASET", "cifar10": "raysweep.workloads.vit.cifar10:DATASET"},
)
"""Data sets by name, as `module:object` of a `raysweep.workloads.datasets.dataset.Dataset`."""
