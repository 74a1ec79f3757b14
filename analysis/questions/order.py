"""The order in which a store's cells were requested: by launch, then by the seed's place in the launch's request.

Evidence is counted in this order, which no outcome can influence: a later request never comes before an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from raysweep.orchestrator.store.sweeps import RecordedSweep

MAX_SEEDS = 2**32
"""A place is the number of the request times this, plus the seed's place in the request."""
SCHEMA = {"cell_id": pl.String, "asked": pl.Int64}


def request_order(recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """The place of each recorded cell among all requested ones.

    Args:
        recorded: the recorded sweeps, oldest first.

    Returns:
        Columns cell_id and asked. Cells of one seed and one request have the same place.
    """
    parts = [pl.DataFrame(schema=SCHEMA)]
    for number, entry in enumerate(sorted(recorded, key=_launch)):
        cells = entry.table.cells
        seeds = cells.select(pl.col("seed").unique(maintain_order=True)).with_row_index("place")
        place = pl.col("place").cast(pl.Int64) + number * MAX_SEEDS
        parts.append(cells.join(seeds, on="seed", maintain_order="left").select("cell_id", asked=place))
    return pl.concat(parts).unique("cell_id", keep="first", maintain_order=True)


def _launch(entry: RecordedSweep) -> int:
    """The number of the launch that recorded a sweep; 0 in foreign records."""
    epoch = entry.metadata.get("epoch")
    return epoch if isinstance(epoch, int) else 0
