"""A cell's id is a file format: literal ids are pinned, and equal settings are one cell."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.identity import canonical_json, cell_ids, hash_parts
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.sweep.spec import Sweep

FLAT = st.dictionaries(
    st.text(max_size=8),
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.lists(st.integers(-9, 9), max_size=3),
    max_size=4,
)


def test_pinned_id() -> None:
    parts = hash_parts("mine:run", "1", "sine", "sparse_rtrl", 4, {"hidden": 64, "decay": None, "rate": 0.001})
    assert cell_ids(parts, [42]).to_list() == ["0db8a98635930db11f96f3a1"]


def test_bundled_ids_are_pinned() -> None:
    cells = expand([Sweep.load("paper/e1-sine").with_seeds([42])]).wide()
    assert cells.select("method", "k", "cell_id").rows() == [
        ("traces", 0, "df91cc6873aceb0df1be57cd"),
        ("traces", 0, "654fc6cd43c7a4af1aa9d724"),
        ("sparse_rtrl", 4, "a9d3df462a607505812201f9"),
        ("sparse_rtrl", 8, "f77fc51fe595a99aae28ff25"),
        ("sparse_rtrl", 16, "50d51ea4f61b9ba9e369223d"),
        ("sparse_rtrl", 32, "53090d1d54a2b9754a1aaf37"),
        ("rtrl", 64, "36ceba91e5bf58c7bdcd18e4"),
        ("bptt", None, "f003e2da91467e9cec81a4a4"),
    ]


@given(config=FLAT, seed=st.integers(0, 2**63 - 1), version=st.text(max_size=5), k=st.none() | st.integers(0, 99))
def test_id_is_the_hash_of_the_whole_canonical_json(config: dict, seed: int, version: str, k: int | None) -> None:
    whole = {
        "config": config,
        "experiment": "e",
        "k": k,
        "method": "m",
        "scheme": 1,
        "seed": seed,
        "version": version,
        "workload": "w",
    }
    expected = hashlib.sha256(canonical_json(whole).encode()).hexdigest()[:24]
    assert cell_ids(hash_parts("w", version, "e", "m", k, config), [seed]).to_list() == [expected]


@given(number=st.integers(-(2**53) + 1, 2**53 - 1))
def test_numbers_equal_in_value_are_one(number: int) -> None:
    assert canonical_json({"x": number}) == canonical_json({"x": float(number)})


def test_zero_has_no_sign_and_true_is_no_number() -> None:
    assert canonical_json([0.0, -0.0, True]) == "[0,0,true]"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_only_finite_numbers(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        canonical_json({"x": bad})


def test_a_field_added_later_leaves_old_ids_alone(write) -> None:
    write("grown.py", "def run(cell, context):\n    return {}\n")
    text = 'name="g"\nworkload="grown:run"\nseeds=[1]\n[config]\nx=1\n[[grid]]\nmethod="a"\n'
    before = expand([Sweep.from_text(text)]).cells["cell_id"][0]
    write(
        "grown2.py",
        """
        from typing import Annotated
        from pydantic import BaseModel
        from raysweep.workloads.interface import AddedLater

        class Config(BaseModel, frozen=True, extra="forbid"):
            x: int
            y: Annotated[float, AddedLater(0.5)] = 0.5

        def run(cell, context):
            return {}
        """,
    )
    import grown2

    from raysweep.orchestrator.sweep import cells
    from raysweep.orchestrator.sweep.loading import workload

    plain = workload.load_workload("grown:run")
    grown = Workload(**{**vars(plain), "config_model": grown2.Config})
    original, cells.workload_of = cells.workload_of, lambda *_: grown
    try:
        same = expand([Sweep.from_text(text)]).cells["cell_id"][0]
        other = expand([Sweep.from_text(text.replace("x=1", "x=1\ny=0.25"))]).cells["cell_id"][0]
    finally:
        cells.workload_of = original
    assert same == before
    assert other != before


def test_the_same_cell_of_two_sweeps_is_one(write) -> None:
    write("twice.py", "def run(cell, context):\n    return {}\n")
    text = 'name="{}"\nexperiment="e"\nworkload="twice:run"\nseeds={}\n[[grid]]\nmethod="a"\n'
    table = expand([Sweep.from_text(text.format("one", "[1,2]")), Sweep.from_text(text.format("two", "[2,3]"))])
    assert table.wide().select("sweep", "seed").rows() == [("one", 1), ("one", 2), ("two", 3)]


def test_k_that_settles_to_the_same_cell_is_a_duplicate() -> None:
    text = (
        'name="d"\nworkload="online_rnn"\nseeds=[1]\n[config]\nhidden=8\n'
        '[[grid]]\nmethod="rtrl"\n[[grid]]\nmethod="rtrl"\nk=8\n'
    )
    with pytest.raises(InputError, match=r"grid\[1\].*gives the same cells as grid\[0\]"):
        expand([Sweep.from_text(text)])
