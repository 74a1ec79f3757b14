"""A launch: planning, running and recording of the cells of sweeps."""
