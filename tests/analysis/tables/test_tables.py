"""What holds for every table, and how one is shown."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from raysweep.analysis.cells.selection import MISSING_SCHEMA
from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.paper.values import STANDINGS, paper_values
from raysweep.analysis.tables import TABLES, Column, Table
from raysweep.analysis.tables.render import RENDERERS, shown, to_text
from raysweep.workloads.registry import UnknownName
from tests.analysis.store_frames import frame, one_seed

PAPER_VALUES = Path(sys.modules["raysweep.analysis.paper.values"].__file__ or "").parent

SMALL = Table(
    name="0",
    title="Two rows",
    columns=(
        Column("", "label"),
        Column("of paths\n%", "fraction", "exact"),
        Column("MSE", "mse", "mse", sd="sd"),
        Column("R %", "low", "percent", upper="high", mark="mark", count="rated", total="n"),
    ),
    frame=pl.DataFrame(
        {
            "label": ["a|b", "c [d]"],
            "fraction": [6.25, None],
            "mse": [0.00184, None],
            "sd": [0.00061, None],
            "low": [78.4, None],
            "high": [84.0, None],
            "mark": ["*", None],
            "rated": [3, 0],
            "n": [5, 0],
        }
    ),
    notes=("A note.", "Another."),
    sweeps=("paper/none",),
    command="raysweep launch paper/none",
    missing=pl.DataFrame([("a", 7, "failed")], schema=MISSING_SCHEMA, orient="row"),
    cells=4,
    settings={"hidden": 64},
)


def source(cells: list[dict[str, object]]) -> Source:
    return Source(frame(cells), lambda _: pl.DataFrame(schema=ARRAYS_SCHEMA))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("cells", [[], one_seed(1), one_seed(1) + one_seed(2)], ids=["none", "one", "two"])
def test_every_table_in_every_format(name: str, cells: list[dict[str, object]]) -> None:
    table = TABLES[name](source(cells))
    assert table.name == name
    for render in RENDERERS.values():
        text = render(table)
        assert text.endswith("\n")
        assert "nan" not in text.lower()
    assert all(note.strip() == note for note in table.notes)


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(UnknownName, match="unknown table '33'; Known: learning-rate, small-k, 3, 4, 5"):
        TABLES["33"]
    with pytest.raises(UnknownName, match="unknown table format 'txt'; did you mean 'text'\\?"):
        RENDERERS["txt"]


def test_text() -> None:
    assert to_text(SMALL) == (
        "Table 0. Two rows\n"
        "\n"
        "        of paths\n"
        "               %               MSE               R %\n"
        "────────────────────────────────────────────────────\n"
        "a|b         6.25   0.0018 ± 0.0006   78–84* (3 of 5)\n"
        "c [d]          –                 –                 –\n"
        "\n"
        "A note.\n"
        "Another.\n"
    )


def test_text_keeps_to_the_terminals_width() -> None:
    lines = to_text(TABLES["3"](source(one_seed(1) + one_seed(2))), width=80).splitlines()
    assert max(map(len, lines)) <= 80


def test_markdown() -> None:
    assert RENDERERS["markdown"](SMALL) == (
        "### Table 0. Two rows\n"
        "\n"
        "|  | of paths % | MSE | R % |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| a\\|b | 6.25 | 0.0018 ± 0.0006 | 78–84* (3 of 5) |\n"
        "| c [d] | – | – | – |\n"
        "\n"
        "- A note.\n"
        "- Another.\n"
        "\n"
        "Made by `raysweep table 0` out of `paper/none`.\n"
    )


def test_csv_is_the_frame_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(RENDERERS["csv"](SMALL))))
    assert [(row["label"], row["mse"], row["high"]) for row in rows] == [
        ("a|b", "0.00184", "84.0"),
        ("c [d]", "", ""),
    ]


def test_json_is_everything() -> None:
    document = json.loads(RENDERERS["json"](SMALL))
    assert document.pop("rows") == SMALL.frame.to_dicts()
    assert document == {
        "name": "0",
        "title": "Two rows",
        "sweeps": ["paper/none"],
        "command": "raysweep launch paper/none",
        "complete": False,
        "cells": 4,
        "missing": [{"row": "a", "seed": 7, "status": "failed"}],
        "settings": {"hidden": 64},
        "notes": ["A note.", "Another."],
    }


@pytest.mark.parametrize(
    ("value", "sd", "text"),
    [
        (0.3, 0.2, "0.30 ± 0.20"),
        (0.00019, 0.0003, "0.00019 ± 0.00030"),
        (0.045, 0.0, "0.045 ± 0"),
        (7.5e-05, 3e-05, "7.5e-05 ± 3e-05"),
        (0.0006, None, "0.0006"),
        (412.0, 96.0, "4.1e+02 ± 96"),
        (None, None, "–"),
    ],
)
def test_an_mse_and_its_sd_end_at_the_same_place(value: float | None, sd: float | None, text: str) -> None:
    assert shown(Column("", "mse", "mse", sd="sd"), {"mse": value, "sd": sd}) == text


@pytest.mark.parametrize(("value", "text"), [(-0.3, "0"), (-50.4, "-50"), (138.2, "138")])
def test_percent(value: float, text: str) -> None:
    assert shown(Column("", "r", "percent"), {"r": value}) == text


def test_a_column_that_the_frame_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="table 0: its frame has no column elsewhere"):
        Table("0", "t", (Column("", "elsewhere"),), SMALL.frame, (), ("s",), "c", SMALL.missing, 0)
    with pytest.raises(ValueError, match="missing must have the columns row, seed, status"):
        Table("0", "t", (), SMALL.frame, (), ("s",), "c", SMALL.frame, 0)


@pytest.mark.parametrize("name", sorted(path.stem for path in PAPER_VALUES.glob("*.csv")))
def test_the_papers_values_say_where_they_stand(name: str) -> None:
    values = paper_values(name)
    assert set(values["standing"].to_list()) <= set(STANDINGS)
    assert values["source"].null_count() == values["value"].null_count() == 0
    assert not values.select(pl.struct("row", "quantity", "seed").is_duplicated().any()).item()


def test_importing_the_package_is_light() -> None:
    """The package alone loads the standard library only; the tables load Polars besides."""
    heavy = ["polars", "numpy", "rich", "matplotlib", "ray", "torch", "pydantic", "pyarrow", "duckdb"]
    loaded = f"import sys; print([name for name in {heavy} if name in sys.modules])"
    for imported, allowed in (
        ("raysweep.analysis", set[str]()),
        ("raysweep.analysis.tables.render, raysweep.analysis.tables", {"polars"}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"import {imported}; {loaded}"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
        )
        assert set(json.loads(done.stdout.replace("'", '"'))) <= allowed
