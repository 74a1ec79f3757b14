"""Rate and time left, from the work of a window and the work that is left."""

from __future__ import annotations

import pytest

from raysweep.orchestrator.schedule.progress import pace


@pytest.mark.parametrize(
    ("cells", "work", "work_left", "seconds", "expected"),
    [
        (2, 5.0, 60.0, 10.0, (0.2, 120.0)),
        (20, 20, 10, 5.0, (4.0, 2.5)),  # cells that count alike
        (0, 5.0, 0.0, 10.0, (0.0, 0.0)),  # attempts that failed are work
        (0, 0.0, 60.0, 10.0, (0.0, None)),
        (1, 1.0, 1.0, 0.0, (1e9, 1e-9)),
    ],
)
def test_time_left_is_the_work_left_at_the_rate_of_the_window(cells, work, work_left, seconds, expected) -> None:
    assert pace(cells, work, work_left, seconds) == pytest.approx(expected)
