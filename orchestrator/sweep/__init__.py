"""Sweep files, workloads, and the cells that they define."""
