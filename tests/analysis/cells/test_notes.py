"""Notes about cells: how seeds are listed."""

from __future__ import annotations

from raysweep.analysis.cells.notes import named_seeds


def test_successive_seeds_are_a_range() -> None:
    assert named_seeds([]) == ""
    assert named_seeds([7]) == "seed 7"
    assert named_seeds([42, 7, 8, 1000, 1001, 1002, 1004]) == "seeds 42, 7, 8, 1000..1002, 1004"
