"""What cells run: workloads, imported by name, and the files behind them."""
