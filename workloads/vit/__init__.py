"""Sparse gradient transport in a vision transformer on Split CIFAR-10: Experiments 7 and 8 of the paper.

`workload` holds the checks of `settle`, `training` the course of a cell, `report` the cell's metrics. Only `run`
imports modules that import torch.
"""

from raysweep.workloads.vit.config import Config
from raysweep.workloads.vit.selection import METHODS
from raysweep.workloads.vit.workload import VERSION, cost, lacks, run, settle

__all__ = ["METHODS", "VERSION", "Config", "cost", "lacks", "run", "settle"]
