"""When the spectrum of the influence J has collapsed: one definition for the table, the claims and the figure."""

from __future__ import annotations

COLLAPSED = 100.0
"""Condition number (largest over smallest singular value) above which a spectrum has collapsed; on a seed this holds
once any recorded step is above it, or the run diverged. The paper's own bound is lost. Ten times the 10 from which,
by its Sec. 5.1, random paths no longer do."""
