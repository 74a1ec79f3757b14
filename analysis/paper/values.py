"""The numbers of the paper (arXiv 2603.15195) that tables and claims are compared with.

One CSV a table beside this file. Each value says where it stands, because the text at hand lost much of the paper's
mathematics; what is not known is not listed.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

PAPER_SEEDS = (42, 123, 7, 2024, 31337)
"""The paper's five seeds, of all experiments but those of the vision transformer."""

STANDINGS = {
    "table": "printed in the paper's table",
    "text": "printed in the paper's running text",
    "restored": "lost from the text at hand, put back from elsewhere in the paper",
    "implied": "computed from other numbers of the paper, not printed there",
}
"""Certainty of a value, from printed in the table down to implied."""


def paper_values(name: str) -> pl.DataFrame:
    """The paper's numbers for one table.

    Args:
        name: a CSV file of this folder, without `.csv` (`"table03"`).

    Returns:
        Columns `row`, `quantity`, `value` (of a range its lower end), `upper` (of a range), `sd`,
        `seed` (null: over seeds), `standing` (a key of `STANDINGS`) and `source`.
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
