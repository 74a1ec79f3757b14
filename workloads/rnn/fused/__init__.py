"""The masked-RTRL family compiled: a cell's whole loop in one call (see `raysweep.workloads.rnn.fused.kernel`)."""
