"""The numbers of the paper (arXiv 2603.15195) with which tables and claims are compared.

This folder has one CSV file per table. Our copy of the paper lost much of its mathematics. So each value has a source,
and a standing that tells how certain it is. Unknown values are not listed.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

PAPER_SEEDS = (42, 123, 7, 2024, 31337)
"""The five seeds of all the paper's experiments except those with the vision transformer."""

STANDINGS = {
    "table": "printed in the paper's table",
    "text": "printed in the paper's running text",
    "restored": "lost from the text at hand, put back from elsewhere in the paper",
    "implied": "computed from other numbers of the paper, not printed there",
}
"""Standing of a value -> its description, from most to least certain."""


def paper_values(name: str) -> pl.DataFrame:
    """Read the paper's numbers for one table.

    Args:
        name: the name of a CSV file in this folder, without `.csv` (`"table03"`).

    Returns:
        Columns: `row`, `quantity`, `value` (or the lower end of a range), `upper` (the upper end of a range), `sd`,
            `seed` (null: over seeds), `standing` (a key of `STANDINGS`), `source`.
    """
    schema = {
        "row": pl.String,
        "quantity": pl.String,
        "value": pl.Float64,
        "upper": pl.Float64,
        "sd": pl.Float64,
        "seed": pl.Int64,
        "standing": pl.String,
        "source": pl.String,
    }
    return pl.read_csv(Path(__file__).with_name(f"{name}.csv"), schema=schema)
