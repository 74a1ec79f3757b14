"""`docs/transport.md` as published follows from the saved cells."""

import re
from pathlib import Path

import pytest

from raysweep.analysis.transport.experiment import number
from raysweep.analysis.transport.multiverse import QUESTIONS
from raysweep.analysis.transport.page import EXPERIMENTS, page, read
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


ROW = re.compile(r"^\| ([A-D]\d+) \| .*? \| (yes|no|open|on the margin|not run)(?: \(on its own: ([\w ]+)\))? \|", re.M)
CITED = re.compile(r"\b([A-D]\d+)((?:(?:, | to )[A-D]\d+)*): (yes|no|open|on the margin)(?: \(on its own: ([\w ]+)\))?")


def test_what_the_text_says_of_a_question_is_its_answer() -> None:
    answer_of = {name: (verdict, alone or verdict) for name, verdict, alone in ROW.findall(PUBLISHED)}
    assert answer_of.keys() == {question.name for experiment in EXPERIMENTS for question in experiment.questions}
    text = " ".join(line for line in PUBLISHED.splitlines() if not line.startswith("|"))
    cited = set()
    for first, others, verdict, alone in CITED.findall(" ".join(text.split())):
        names = [first]
        for word, name in re.findall(r"(, | to )(\S+)", others):
            after = int(names[-1][1:]) + 1 if word == " to " else int(name[1:])
            names += [f"{name[0]}{number}" for number in range(after, int(name[1:]) + 1)]
        for name in names:
            assert answer_of[name][0] == verdict, name
            assert not alone or answer_of[name][1] == alone, name
            cited.add(name)
    assert {name[0] for name in cited} == {"A", "B", "C", "D"}


@pytest.mark.slow
def test_the_whole_page_follows_from_the_cells() -> None:
    assert page(read([CELLS])) == PUBLISHED
