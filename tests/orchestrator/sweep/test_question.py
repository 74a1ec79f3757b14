"""`[[question]]` blocks: what is refused, what is compared with what, and that cell ids do not depend on them."""

from __future__ import annotations

import jsonschema
import pytest

from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.grammar.question import label, labels, pairings
from raysweep.orchestrator.sweep.json_schema import schema
from raysweep.orchestrator.sweep.spec import Sweep

SWEEP = """
workload = "tiny:run"
seeds = [1]
[[grid]]
method = ["a", "b"]
"""
QUESTION = """
[[question]]
name = "q"
a = "method = 'a'"
b = "method = 'b'"
metric = "value"
"""


def test_a_question_is_read_and_changes_no_cell_id(write) -> None:
    write("tiny.py", "def run(cell, context):\n    return {'value': 1.0}\n")
    plain, questioned = Sweep.from_text(SWEEP), Sweep.from_text(SWEEP + QUESTION + 'margin = 1\nbetter = "higher"\n')
    (question,) = questioned.questions
    assert (question.name, question.margin, question.better, questioned.problems) == ("q", 1, "higher", ())
    assert expand([plain]).cells.equals(expand([questioned]).cells)
    assert question.digest != Sweep.from_text(SWEEP + QUESTION).questions[0].digest


def test_all_mistakes_of_a_block_are_reported() -> None:
    bad = """
[[question]]
name = ""
a = "k = 1"
margin = -1
better = "bigger"
pair = "batch"
metrics = "x"
[[question]]
name = "two"
metric = "x"
best_of = "k = 1"
margin = 1
"""
    problems = [line.removeprefix("sweep: ") for line in Sweep.from_text(SWEEP + bad + QUESTION * 2).problems]
    assert problems == [
        "question[0]: unknown key 'metrics'; did you mean 'metric'? Known: a, b, best_of, better, margin, metric, "
        "name, pair",
        "question[0].name: '' is not text of 1 to 1,000 characters",
        'question[0].metric: missing; add metric = "..."',
        "question[0]: give two predicates a and b, such as a = \"method = 'sgd'\", or one in best_of",
        'question[0].better: \'bigger\' is neither "lower" nor "higher"',
        "question[0].pair: 'batch' is not valid; cells are paired by \"seed\"",
        "question[0].margin: -1 is not a positive number",
        "question[1].margin: not valid beside best_of",
        "question[3].name: 'q' appears twice; rename one of the questions",
    ]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (QUESTION, True), (QUESTION + "margin = 0.5\n", True), (QUESTION + "margin = 0\n", False),
        (QUESTION + 'best_of = "true"\n', False), (QUESTION + "extra = 1\n", False),
        ('[[question]]\nname = "q"\nmetric = "m"\nbest_of = "true"\n', True), ('[[question]]\nname = "q"\n', False),
    ],
)  # fmt: skip
def test_the_json_schema_agrees(text: str, valid: bool) -> None:
    import tomllib

    validator = jsonschema.Draft7Validator(schema())
    assert validator.is_valid(tomllib.loads(SWEEP + text)) is valid
    assert (not Sweep.from_text(SWEEP + text).problems) is valid


SETTINGS = [
    {"method": "a", "k": None, "rate": 0.1, "width": 8},
    {"method": "a", "k": None, "rate": 0.2, "width": 8},
    {"method": "b", "k": 4, "rate": 0.1, "width": 16},
    {"method": "b", "k": 4, "rate": 0.2, "width": 16},
    {"method": "b", "k": 8, "rate": 0.2, "width": 16},
    {"method": "b", "k": 4, "rate": 0.3, "width": 16},
]


def test_settings_are_paired_at_equal_values_of_what_varies_on_both_sides() -> None:
    result = pairings([0, 1], [2, 3, 5], SETTINGS)
    assert [(p.a, p.b, p.stratum, p.differing) for p in result.pairs] == [
        (0, 2, "rate=0.1", ("method", "k", "width")), (1, 3, "rate=0.2", ("method", "k", "width")),
    ]  # fmt: skip
    assert result.left_out == ("only the second side has cells at rate=0.3",)


def test_settings_that_cannot_be_told_apart_are_refused() -> None:
    assert pairings([1], [3, 4], SETTINGS).problems == (
        "the second side selects 2 settings (b, k=4; b, k=8); select one of them",
    )
    assert pairings([0, 1], [2, 3, 4], SETTINGS).problems == (
        "the second side selects 2 settings at rate=0.2 (b, k=4; b, k=8); select one of them",
    )
    assert "both sides select a, rate=0.1" in pairings([0, 1], [0, 2], SETTINGS).problems[0]


def test_a_label_has_what_differs() -> None:
    names = ["a, rate=0.1, width=8", "a, rate=0.2, width=8", "b, k=4, rate=0.1, width=16"]
    assert [label(setting, SETTINGS[:3]) for setting in SETTINGS[:3]] == labels(SETTINGS[:3]) == names
