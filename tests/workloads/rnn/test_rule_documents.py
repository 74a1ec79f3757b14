"""docs/rules.md and docs/notation.md say what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from raysweep.workloads import online_rnn
from raysweep.workloads.rnn import probes
from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.fused import train as fused
from raysweep.workloads.rnn.fused.kernel import SMOOTHING
from raysweep.workloads.rnn.learner import DEFAULT_TOL
from raysweep.workloads.rnn.masks import FISHER, SELECTIONS, WEIGHTS_EVERY
from raysweep.workloads.rnn.optimizers import sgd
from raysweep.workloads.rnn.rules import RULES, describe
from raysweep.workloads.rnn.rules.bptt import bptt
from raysweep.workloads.rnn.rules.efficient_bptt import e_bptt
from raysweep.workloads.rnn.rules.future_bptt import f_bptt
from raysweep.workloads.seeds import CODES
from tests.workloads.rnn.replay import Problem, run_cell

TEXT = describe.DOCUMENT.read_text(encoding="utf-8")
NOTATION = (describe.DOCUMENT.parent / "notation.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Cells of every table row."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]


def test_what_is_generated_is_what_is_committed():
    assert describe.rewritten(TEXT) == TEXT, "run python -m raysweep.workloads.rnn.rules.describe"


def test_every_part_is_written_anew_and_nothing_else():
    emptied = TEXT
    for part in describe.parts().values():
        assert part in emptied
        emptied = emptied.replace(part, "stale", 1)
    assert describe.rewritten(emptied) == TEXT
    with pytest.raises(ValueError, match="'uoro' 0 times"):
        describe.rewritten(TEXT.replace("<!-- uoro -->", ""))


def refused(method: str, **config) -> str:
    """What settling such a cell says, or nothing."""
    try:
        online_rnn.settle(method, 2 if RULES[method].takes_k else None, online_rnn.Config(hidden=4, **config))
    except ValueError as error:
        return str(error)
    return ""


def test_the_table_of_architectures_is_what_cells_are_told():
    head, *table = rows(describe.defined_on())
    names = [name.strip("`") for name in head[1:]]
    reasons = dict(re.findall(r"- (\w): (.+)", describe.defined_on()))
    assert names == sorted(ARCHITECTURES)
    assert [row[0] for row in table[1:]] == [f"`{rule}`" for rule in RULES]
    for rule, *cells in table[1:]:
        for architecture, cell in zip(names, cells, strict=True):
            problem = refused(rule.strip("`"), architecture=architecture)
            assert bool(problem) == cell.startswith("no")
            for letter in cell.removeprefix("no: ").split(", ") if problem else ():
                assert reasons[letter] in problem


def test_what_is_marked_as_compiled_is_what_runs_compiled():
    marks = {row[0].strip("`"): row[-1] for row in rows(describe.traits())[2:]}
    for rule, mark in marks.items():
        own = {name: values for name, values in describe.CHOICES.items() if name in RULES[rule].defaults}
        for name, values in own.items() or (("hidden", (4,)),):
            for value in values:
                k = 2 if RULES[rule].takes_k else None
                config = online_rnn.Config(**{"hidden": 4, name: value})
                runs = online_rnn.settle(rule, k, config)[1].implementation == "fused"
                assert runs == (mark == "yes" or f"`{value}`" in mark)


def test_every_rule_selection_and_test_that_is_named_exists():
    headings = re.findall(r"^### `(\w+)`$", TEXT, re.M)
    assert sorted(headings) == sorted(RULES)
    assert f"{len(RULES)} rules on {len(ARCHITECTURES)} architectures" in TEXT
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []
    assert [name for name in SELECTIONS if not re.search(rf"\b{name}\b", TEXT.split("## Masks")[1])] == []


def test_the_numbers_are_those_of_the_code():
    assert FISHER == {"fisher_window": 200}
    assert WEIGHTS_EVERY == 200
    for number in (
        f"`fisher_window` is {FISHER['fisher_window']} steps unless given",
        f"at the first step and every {WEIGHTS_EVERY} steps",
        f"as a part of the signal's norm: {DEFAULT_TOL} unless given",
        f"weight {SMOOTHING} a step",
        f"memory bound of {fused.HISTORY_BYTES / 2**30:g} GiB",
        f"first r hold {probes.RANK_SHARE * 100:g} %",
        f"at most {probes.SINGULAR:.0e}".replace("e+", "e"),
        f"until {probes.FORGOTTEN} of the signal",
        *(f"| `{name}` | {code} |" for name, code in CODES.items()),
    ):
        assert number in TEXT


def test_every_array_of_a_probe_is_documented():
    size = {"hidden": 4, "steps": 40, "shift": 20, "spectrum_every": 20, "alignment_every": 20}
    for own in ({}, {"architecture": "lru"}):
        _, probed = run_cell("rtrl", **size, **own)
        for name in probed.arrays.keys() - {"loss"}:
            documented = re.sub("(cosine|ratio)_.*", r"\1_GROUP", name)
            assert f"`{documented}`" in TEXT


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names: dict[str, object] = {}
    exec(compile(example, "docs/rules.md", "exec"), names)
    assert np.isfinite(names["outcome"].gradient).all()
    assert names["outcome"].by_gates.shape == (4, 16, 19)


ASSIGNED = re.compile(
    r"(?<![\w^])([A-Za-z][A-Za-z0-9]*)(?:_(?:[A-Za-z]+|\{[^}]*\}))?(?:\^M)?(?:\[[^=]*?\])?\s*(?:<-|\+=|=|~)\s"
)


def bare(symbols: str) -> set[str]:
    """Symbols of a cell of the notation without their indices."""
    return {re.split(r"[_^]", symbol)[0] for symbol in symbols.split(", ")}


def test_every_symbol_that_a_rule_defines_is_in_the_notation():
    common, single = (rows(part)[1:] for part in NOTATION.split("## Letters of single rules"))
    everywhere = set().union(*(bare(row[0]) for row in common))
    for rule in RULES:
        known = everywhere.union(*(bare(row[1]) for row in single if row[0] == rule))
        used = set(ASSIGNED.findall(describe.parts()[rule]))
        assert {"G"} < used
        assert used - known == set(), rule


def test_every_name_in_the_notation_is_in_the_code():
    package = describe.PACKAGE
    common, single = (rows(part)[1:] for part in NOTATION.split("## Letters of single rules"))
    everything = [*package.rglob("*.py"), *(package.parents[1] / "analysis").rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in everything)
    for row in common:
        for name in re.findall(r"`(\w+)`", row[1]):
            assert re.search(rf"\b{name}\b", source), name
    files = {rule: Path(inspect.getfile(entry.build)) for rule, entry in RULES.items()}
    for rule, _, names, *_ in single:
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", files[rule].read_text(encoding="utf-8")), (rule, name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_windows_of_one_step_are_the_immediate_gradient(architecture):
    problem = Problem(n=4, steps=10, architecture=architecture)
    expected = problem.replay(bptt(1), sgd(0.05)).grads
    for rule in (e_bptt(1), f_bptt(1)):
        np.testing.assert_allclose(problem.replay(rule, sgd(0.05)).grads, expected, rtol=0, atol=1e-14)
