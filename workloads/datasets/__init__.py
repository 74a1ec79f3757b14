"""Data sets that workloads read; `raysweep data` lists and fetches them."""

from raysweep.workloads.registry import Registry

DATASETS: Registry[str] = Registry(
    "data set",
    {"indy": "raysweep.workloads.bci.recordings.indy:DATASET", "cifar10": "raysweep.workloads.vit.cifar10:DATASET"},
)
"""Name -> `module:object`, a `raysweep.workloads.datasets.dataset.Dataset`."""
