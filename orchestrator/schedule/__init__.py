"""Planning and driving: which cells run, in which order, and how often each is tried."""
