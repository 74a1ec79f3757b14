"""The workload `bci`: neural decoding across sessions (`workload`), from recordings of reaching (`recordings`)."""

from raysweep.workloads.bci.workload import METHODS, VERSION, Config, cost, lacks, run, settle

__all__ = ["METHODS", "VERSION", "Config", "cost", "lacks", "run", "settle"]
