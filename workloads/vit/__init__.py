"""Sparse gradient transport in a vision transformer on Split CIFAR-10: Experiments 7 and 8 of the paper.

The module `workload` has the functions of the workload's interface, such as `settle`, which checks a cell's settings.
`training` trains a cell's network, and `report` computes its metrics. Torch is not imported with this package, only
when the function `run` is called.
"""

from raysweep.workloads.vit.config import Config
from raysweep.workloads.vit.selection import METHODS
from raysweep.workloads.vit.workload import VERSION, cost, lacks, run, settle

__all__ = ["METHODS", "VERSION", "Config", "cost", "lacks", "run", "settle"]
