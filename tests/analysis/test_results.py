"""The folder of results: all of it from one source, the same bytes twice, and what is lacking is said."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from store_frames import frame, one_seed

from analysis.figures import FIGURES
from analysis.results import write
from analysis.source import ARRAYS_SCHEMA, Source
from analysis.tables import TABLES


def test_results_are_the_same_bytes_twice_and_say_what_they_lack(tmp_path: Path) -> None:
    cells = frame(cell for seed in (42, 123) for cell in one_seed(seed))
    source = Source(cells, lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))
    folders = [tmp_path / name for name in ("one", "two")]
    lacking = [write(source, folder) for folder in folders]
    assert lacking[0] == lacking[1]
    files = {path.name: path.read_bytes() for path in folders[0].iterdir()}
    assert files == {path.name: path.read_bytes() for path in folders[1].iterdir()}
    said = {line.split(":")[0] for line in lacking[0]}
    assert "figure curves" in said  # no loss curves were recorded
    made = {f"table{name}.md" for name in TABLES if f"table {name}" not in said}
    made |= {f"{name}.svg" for name in FIGURES if f"figure {name}" not in said}
    assert files.keys() == made | {"figures.md", "claims.md"}
    assert b"not run" in files["claims.md"]
