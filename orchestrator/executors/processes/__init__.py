"""The executor of worker processes on this machine, without Ray."""
