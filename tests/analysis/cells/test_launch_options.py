"""Commands that run what is missing name the settings that the cells which are there were launched with."""

from __future__ import annotations

import shlex

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep import Store
from raysweep.analysis.cells.launch_options import LAUNCHED_WITH, commands, other_settings, typed
from raysweep.analysis.cells.source import from_store
from raysweep.orchestrator.sweep.spec import setting

SWEEP = """
name = "s"
workload = "any:run"
seeds = [1, 2]
[config]
rate = 0.5
data = "all"
[[grid]]
method = "m"
"""


def test_a_sweep_with_other_settings_is_resumed_with_them(cli, write) -> None:
    write("any.py", "def run(cell, context):\n    return {'x': 1.0}\n")
    write("s.toml", SWEEP)
    small = ["--set", "data=a 'part'", "--set", "rate=0.25"]
    assert cli("launch", "s.toml", "--inline", "--seeds", "1,2,3", *small).returncode == 0
    assert cli("launch", "s.toml", "--inline", "--seeds", "1").returncode == 0
    cells = from_store(Store()).cells
    assert dict(cells.select("cell_id", LAUNCHED_WITH).iter_rows()).keys() == set(cells["cell_id"])
    (both,) = commands([("s.toml", cells)])
    words = shlex.split(both)
    assert words[:3] == ["raysweep", "resume", "s.toml"]
    assert words[3:] == small  # of most cells
    planned = cli("plan", *words[2:])
    assert "2 cells in s" in planned.stdout
    assert "nothing to run" in planned.stdout
    assert commands([("s.toml", cells.filter(rate=0.5))]) == ["raysweep resume s.toml"]
    assert commands([("s.toml", cells.clear()), ("t.toml", pl.DataFrame())]) == [
        "raysweep launch s.toml", "raysweep launch t.toml",
    ]  # fmt: skip


def launched(*cells: tuple[str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(list(cells), schema=dict.fromkeys(["cell_id", "sweep", LAUNCHED_WITH], pl.String), orient="row")


def test_settings_that_are_not_the_sweeps_are_said_once_a_sweep() -> None:
    small = " --set epochs=1 --set patch=8"
    cells = launched(("a", "e7-heads", small), ("b", "e7-heads", small))
    assert other_settings([("paper/e7-heads", cells), ("paper/e7-heads", cells[:1])]) == {
        "paper/e7-heads": "Not the settings of paper/e7-heads: --set epochs=1 --set patch=8"
    }
    mixed = launched(("a", "e7-heads", small), ("b", "e7-heads", ""), ("c", "e7-heads", " --set epochs=2"))
    assert list(other_settings([("paper/e7-heads", mixed)]).values()) == [
        "Not the settings of paper/e7-heads: --set epochs=1 --set patch=8 (1 of 3 cells); --set epochs=2 (1 of 3 cells)"
    ]


def test_settings_belong_to_the_sweep_that_launched_the_cell() -> None:
    """Experiments 7 share their dense cells."""
    cells = launched(("a", "e7-heads", " --set patch=8"), ("b", "mine", " --set patch=8"))
    assert list(other_settings([("paper/e7-forward", cells)])) == ["paper/e7-heads", "mine"]


def test_nothing_is_said_of_cells_that_were_launched_as_the_file_is() -> None:
    assert other_settings([("paper/e7-heads", launched(("a", "e7-heads", "")))]) == {}
    assert other_settings([("paper/e7-heads", launched().drop(LAUNCHED_WITH))]) == {}
    assert other_settings([("paper/e7-heads", launched())]) == {}


@given(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs", "Cc"])),
        st.integers(-(2**62), 2**62),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["1", "true", "[1]", "a=b", "1979-05-27"]),
    )
)
def test_what_is_typed_is_what_was_set(value: object) -> None:
    option, text = shlex.split(typed({"key": value}))
    assert option == "--set"
    name, read = setting(text)
    assert (name, read) == ("key", value)
    assert type(read) is type(value)


@pytest.mark.parametrize("value", [[1, 2.5], ["a", "b"], []])
def test_lists_too(value: list[object]) -> None:
    assert setting(shlex.split(typed({"key": value}))[1]) == ("key", value)
