"""The masked-RTRL family compiled: a cell's whole loop in one call (see `workloads.fused.kernel`)."""
