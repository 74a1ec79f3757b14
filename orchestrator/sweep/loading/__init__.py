"""The workloads that cells run: their import by name, and their source files."""
