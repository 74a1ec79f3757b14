"""`diff`: comparison of two stores, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from raysweep.orchestrator.store.reader import Store

SCHEMA = {"cell_id": pl.String, "method": pl.String, "k": pl.Int64, "seed": pl.Int64, "difference": pl.String}
ONLY_FIRST, ONLY_SECOND, STATUS, METRICS, CODE = (
    "only in the first store", "only in the second store", "other status", "other metrics", "other code",
)  # fmt: skip


@dataclass(frozen=True)
class StoreDifferences:
    """The differences of two stores.

    Args:
        same: the number of cells that do not differ.
        cells: one row per difference: the columns of `SCHEMA`, then the differing values `first` and `second`.
    """

    same: int
    cells: pl.DataFrame

    def counts(self) -> dict[str, int]:
        """Count the differences by kind. A cell can have differences of several kinds."""
        kinds = self.cells["difference"].to_list()
        return {kind: kinds.count(kind) for kind in (ONLY_FIRST, ONLY_SECOND, STATUS, METRICS, CODE)}

    def __repr__(self) -> str:
        counts = [f"{count:,} {kind}" for kind, count in self.counts().items() if count]
        return f"{'; '.join(counts) or 'no differences'}; {self.same:,} cells the same"


def diff(first: Store, second: Store) -> StoreDifferences:
    """Compare two stores. Cells are the same if they have the same id, status, metrics and source digest.

    Metrics and source digests are compared only if the cell is done in both stores.
    """
    one, other = _cells(first), _cells(second)
    joined = one.join(other, on="cell_id", how="full", coalesce=True, suffix="_2", maintain_order="left_right")
    keys = [pl.coalesce(name, f"{name}_2").alias(name) for name in ("method", "k", "seed")]
    is_in = [pl.col(name).is_not_null() for name in ("status", "status_2")]
    both_done = (pl.col("status") == "done") & (pl.col("status_2") == "done")
    kinds = {
        ONLY_FIRST: (~is_in[1], "status"),
        ONLY_SECOND: (~is_in[0], "status"),
        STATUS: (pl.col("status").ne(pl.col("status_2")), "status"),
        METRICS: (both_done & pl.col("metrics").ne_missing(pl.col("metrics_2")), "metrics"),
        CODE: (both_done & pl.col("source_digest").ne_missing(pl.col("source_digest_2")), "source_digest"),
    }
    frames = [
        joined.filter(condition).select(
            "cell_id", *keys, pl.lit(kind).alias("difference"), pl.col(column).cast(pl.String).alias("first"),
            pl.col(f"{column}_2").cast(pl.String).alias("second"),
        )
        for kind, (condition, column) in kinds.items()
    ]  # fmt: skip
    cells = pl.concat(frames)
    return StoreDifferences(joined.height - cells["cell_id"].n_unique(), cells)


def _cells(store: Store) -> pl.DataFrame:
    """Read the cells of a store. Columns: cell_id, method, k, seed, status, metrics (as text), source_digest."""
    from raysweep.orchestrator.query.sql import cells_frame

    columns = ("cell_id", "method", "k", "seed", "status", "source_digest", "metrics")
    frame = cells_frame(store.require(), ", ".join(columns))
    texts = [
        None if row is None else ", ".join(f"{e['name']}={e['value']!r}" for e in sorted(row, key=lambda e: e["name"]))
        for row in frame["metrics"].to_list()
    ]
    return frame.select(*columns[:-1], pl.Series("metrics", texts, pl.String))
