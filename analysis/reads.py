"""The recorded arrays that claims, tables and figures read, which are saved with published cells."""

from __future__ import annotations

from raysweep.analysis.claims import CLAIMS
from raysweep.analysis.figures import READS
from raysweep.analysis.tables import table13


def arrays_read() -> frozenset[tuple[str, str]]:
    """Return pairs of an experiment and the name of an array that is read of its cells."""
    selections = [*(part for parts in READS.values() for part in parts), *table13.PANELS]
    pairs = {(selection.experiment, name) for selection in selections for name in selection.arrays}
    for claim in CLAIMS.values():
        for line in claim.lines:
            for cells in (*line.cells, *line.aside_cells):
                if cells.reduce is not None:
                    pairs |= {(cells.experiment, cells.metric)}
                    pairs |= {(cells.experiment, cells.decay_0_metric)} if cells.decay_0_metric else set()
    return frozenset(pairs)
