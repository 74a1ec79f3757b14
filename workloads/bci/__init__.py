"""Neural decoding across recording sessions, Experiment 9 of the paper."""

from raysweep.workloads.bci.workload import METHODS, VERSION, Config, cost, lacks, run, settle

__all__ = ["METHODS", "VERSION", "Config", "cost", "lacks", "run", "settle"]
