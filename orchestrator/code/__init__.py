"""The source of a workload as data: what is recorded of it, and what a change of it means. Nothing is imported."""
