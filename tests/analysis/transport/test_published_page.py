"""`docs/transport.md` as published follows from the saved cells."""

from pathlib import Path

import pytest

from raysweep.analysis.transport.cells import read
from raysweep.analysis.transport.experiment import number
from raysweep.analysis.transport.multiverse import QUESTIONS
from raysweep.analysis.transport.page import page
from raysweep.analysis.transport.question import answers

ROOT = Path(__file__).parents[3]
CELLS = str(ROOT / "docs" / "results" / "transport" / "cells.parquet")
PUBLISHED = (ROOT / "docs" / "transport.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["C16", "C19"])
def test_a_published_number_follows_from_the_cells(name: str) -> None:
    question = next(question for question in QUESTIONS if question.name == name)
    (answer,) = answers([question], read([CELLS]))
    assert answer.units == 60
    assert f"| {name} | {question.words} | {answer.verdict} | {number(answer)} |" in PUBLISHED


@pytest.mark.slow
def test_the_whole_page_follows_from_the_cells() -> None:
    assert page(read([CELLS])) == PUBLISHED
