"""A launch: all stages in order."""
