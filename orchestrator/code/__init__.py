"""Records of workloads' source, and the effect of code changes on results. The source is parsed, never imported."""
