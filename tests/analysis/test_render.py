from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from analysis.tables import Column, Table
from analysis.tables.render import RENDERERS, shown
from analysis.tables.selection import MISSING_SCHEMA

TABLE = Table(
    name="9",
    title="Made up",
    columns=(
        Column("row", "label"),
        Column("MSE", "mse", "mse", sd="sd", mark="mark"),
        Column("n", "n", "count"),
    ),
    frame=pl.DataFrame(
        {
            "label": ["a|b", "[bold]c"],
            "mse": [0.0012345, None],
            "sd": [0.0002, None],
            "mark": ["*", ""],
            "n": [2, 0],
        }
    ),
    notes=("First note.", "Second."),
    sweep="paper/x",
    command="raysweep resume paper/x",
    missing=pl.DataFrame([("b", 7, "failed")], schema=MISSING_SCHEMA, orient="row"),
    cells=3,
    settings={"lr": 0.001},
)


def test_text() -> None:
    assert RENDERERS["text"](TABLE) == (
        "Table 9. Made up\n"
        "\n"
        "row                    MSE   n\n"
        "──────────────────────────────\n"
        "a|b       0.0012 ± 0.0002*   2\n"
        "[bold]c                  –   0\n"
        "\n"
        "First note.\n"
        "Second.\n"
    )


def test_text_fits_a_terminal() -> None:
    from analysis.tables.render import to_text

    lines = to_text(replace(TABLE, notes=("a note of words " * 4,)), width=24).splitlines()
    assert max(map(len, lines)) <= 24
    assert lines[-3:] == ["a note of words a note", "of words a note of words", "a note of words"]


def test_markdown() -> None:
    assert RENDERERS["markdown"](TABLE) == (
        "### Table 9. Made up\n"
        "\n"
        "| row | MSE | n |\n"
        "| --- | ---: | ---: |\n"
        "| a\\|b | 0.0012 ± 0.0002* | 2 |\n"
        "| [bold]c | – | 0 |\n"
        "\n"
        "- First note.\n"
        "- Second.\n"
        "\n"
        "Made by `raysweep table 9` out of `paper/x`.\n"
    )


def test_csv_is_unrounded() -> None:
    assert RENDERERS["csv"](TABLE) == ('label,mse,sd,mark,n\na|b,0.0012345,0.0002,*,2\n[bold]c,,,"",0\n')


def test_json_has_everything() -> None:
    assert json.loads(RENDERERS["json"](TABLE)) == {
        "name": "9",
        "title": "Made up",
        "sweep": "paper/x",
        "command": "raysweep resume paper/x",
        "complete": False,
        "cells": 3,
        "missing": [{"row": "b", "seed": 7, "status": "failed"}],
        "settings": {"lr": 0.001},
        "rows": [
            {"label": "a|b", "mse": 0.0012345, "sd": 0.0002, "mark": "*", "n": 2},
            {"label": "[bold]c", "mse": None, "sd": None, "mark": "", "n": 0},
        ],
        "notes": ["First note.", "Second."],
    }


@pytest.mark.parametrize(
    ("column", "row", "text"),
    [
        (Column("", "x", "mse"), {"x": 0.23456}, "0.23"),
        (Column("", "x", "percent"), {"x": -0.2}, "0"),
        (Column("", "x", "percent", upper="u", mark="m"), {"x": 78.0, "u": 84.0, "m": "*"}, "78–84*"),
        (Column("", "x", "percent", sd="s", mark="m"), {"x": 84.0, "s": 6.0, "m": None}, "84 ± 6"),
        (Column("", "x", "exact"), {"x": 6.25}, "6.25"),
        (Column("", "x", "count"), {"x": 12345}, "12345"),
        (Column("", "x", sd="s"), {"x": None, "s": 1.0}, "–"),
        (
            Column("", "x", "percent", sd="s", count="c", total="t"),
            {"x": 138.0, "s": 47.0, "c": 3, "t": 5},
            "138 ± 47 (3 of 5)",
        ),
        (Column("", "x", "percent", count="c", total="t"), {"x": 80.0, "c": 5, "t": 5}, "80"),
        (Column("", "x", "percent", count="c", total="t"), {"x": None, "c": 0, "t": 5}, "– (0 of 5)"),
    ],
)
def test_an_entry(column: Column, row: dict[str, object], text: str) -> None:
    assert shown(column, row) == text


def test_a_table_is_refused_whose_columns_its_frame_lacks() -> None:
    with pytest.raises(ValueError, match=r"^table 9: its frame has no column mse, sd$"):
        replace(TABLE, frame=TABLE.frame.drop("mse", "sd"))
    with pytest.raises(ValueError, match=r"^table 9: missing must have the columns row, seed, status$"):
        replace(TABLE, missing=pl.DataFrame({"row": []}))
