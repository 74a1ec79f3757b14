"""The order in which a store's cells were requested: by launch, then by the seed's position in the launch's request.

Evidence is accumulated in this order, which does not depend on outcomes: later requests only add to its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from raysweep.orchestrator.store.sweeps import RecordedSweep

MAX_SEEDS = 2**32
"""Factor in the place of a cell: place = number of the request * `MAX_SEEDS` + position of the seed in the request."""


def in_request_order(recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """Return the recorded cells in the order of their first requests.

    Args:
        recorded: the recorded sweeps, oldest first.

    Returns:
        Columns cell_id, seed, those of `cells.VARIANT`, retries (of the last request), and request_places: the cell's
        place in the order. Cells of one seed that were first requested together have the same place.
    """
    frames = [entry.requested for entry in sorted(recorded, key=_launch)]
    if not frames:
        return pl.DataFrame(schema={"cell_id": pl.String, "seed": pl.Int64, "request_places": pl.Int64})
    numbers = np.repeat(np.arange(len(frames)), [frame.height for frame in frames])
    every = pl.concat(frames).with_columns(request_places=pl.col("place") + pl.Series(numbers * MAX_SEEDS))
    retries = every.select("cell_id", "retries").unique("cell_id", keep="last")
    first = every.drop("place", "retries").unique("cell_id", keep="first", maintain_order=True)
    return first.join(retries, on="cell_id", maintain_order="left")


def _launch(entry: RecordedSweep) -> int:
    """Return the generation of the launch that recorded a sweep; 0 if the record has none.

    Generations number the launches on a store in their order.
    """
    epoch = entry.metadata.get("epoch")
    return epoch if isinstance(epoch, int) else 0
