"""The compiled training loop of the masked-RTRL family: a whole run in one call (see `workloads.rnn.fused.kernel`)."""
