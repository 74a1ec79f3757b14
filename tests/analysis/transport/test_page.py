"""The page of Experiments A to D follows from its saved cells, and has every question with its query."""

import dataclasses
import hashlib
from pathlib import Path

import polars as pl
import pytest

from raysweep.analysis.transport.experiment import as_answered
from raysweep.analysis.transport.page import EXPERIMENTS, SUMMARY, page, state
from raysweep.analysis.transport.question import Answer, answers

ROOT = Path(__file__).parents[3]
CELLS = ROOT / "docs" / "results" / "transport" / "cells.parquet"
pytestmark = pytest.mark.usefixtures("few_resamples")
EMPTY = pl.DataFrame(schema={"experiment": pl.String, "status": pl.String})


def test_without_cells_the_page_is_the_plan() -> None:
    text = page(EMPTY)
    for experiment in EXPERIMENTS:
        for question in experiment.questions:
            assert f"| {question.name} | {question.words} | not run |" in text
            assert f"```sql\n{question.query}\n```" in text
    assert "Not run yet: A, B, C, D." in text


def test_an_experiment_is_run_in_full_or_in_part() -> None:
    nothing = [answers(experiment.questions, experiment.own(EMPTY)) for experiment in EXPERIMENTS]
    whole = [dataclasses.replace(answer, units=30) for answer in nothing[2]]
    assert state([nothing[0], nothing[1], whole, nothing[3]]) == "Run: C. Not run yet: A, B, D."
    part = [*whole[:2], *nothing[2][2:]]
    assert state([nothing[0], nothing[1], part, nothing[3]]).startswith(f"Run in part: C (2 of {len(part)} questions).")


def test_names_of_questions_are_unique() -> None:
    names = [question.name for experiment in EXPERIMENTS for question in experiment.questions]
    assert len(set(names)) == len(names)


def test_a_text_on_other_answers_than_these_is_left_out() -> None:
    (question, other, *_) = EXPERIMENTS[0].questions
    given = [Answer(q, "yes", "yes", 1.0, 0.9, 1.1, 30, "") for q in (question, other)]
    text = "It is so (A1, A2: yes), and so (A1 to A2: yes)."
    assert as_answered(text, given) == text
    assert as_answered(text, [dataclasses.replace(answer, units=0) for answer in given]) == ""
    changed = [given[0], dataclasses.replace(given[1], verdict="open")]
    assert as_answered(text, changed).endswith("as these cells answer otherwise: A2.")
    alone = "It may be so (A2: open (on its own: yes))."
    assert as_answered(alone, changed) == alone
    assert "A2" in as_answered(alone, [given[0], dataclasses.replace(changed[1], alone="no")])


def test_the_published_texts_are_on_the_published_answers() -> None:
    published = (ROOT / "docs" / "transport.md").read_text(encoding="utf-8")
    for text in (SUMMARY, *(experiment.remarks for experiment in EXPERIMENTS)):
        assert text in published


def test_the_saved_cells_have_the_published_hashes() -> None:
    folder = ROOT / "docs" / "results"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split() for line in lines)}
    assert hashes == {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.parquet")
    }
