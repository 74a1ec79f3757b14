"""The compact set of ids is a set."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.orchestrator.store.id_set import IdSet

IDS = st.lists(
    st.one_of(st.binary(min_size=12, max_size=12), st.integers(0, 300).map(lambda n: n.to_bytes(12, "little"))),
    max_size=40,
).map(lambda ids: [packed.hex() for packed in ids])


@settings(max_examples=60, deadline=None)
@given(st.lists(IDS, max_size=8), IDS)
def test_it_is_a_set(batches: list[list[str]], others: list[str]) -> None:
    ids, plain = IdSet(), set()
    for batch in batches:
        ids.update(batch)
        plain.update(batch)
    assert set(ids) == plain
    assert len(ids) == len(plain)
    every = [*others, *plain]
    assert ids.has(every) == [one in plain for one in every]
    assert [one in ids for one in others] == [one in plain for one in others]


@pytest.mark.slow
def test_it_takes_little() -> None:
    tracemalloc.start()
    ids = IdSet()
    for at in range(0, 100_000, 500):
        ids.update([f"{n:024x}" for n in range(at, at + 500)])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 100_000
    assert size < 2.5e6


def test_invalid_ids_are_refused() -> None:
    for wrong in (["xyz"], ["ab"], ["g" * 24], ["a" * 20, "a" * 28]):
        with pytest.raises(ValueError, match=r".+"):
            IdSet(wrong)
