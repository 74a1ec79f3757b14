"""A launch: planning, running and recording the cells of sweeps, in order."""
