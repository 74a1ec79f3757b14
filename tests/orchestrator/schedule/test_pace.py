"""Rate and time left, from the work of a window and the work that is left."""

from __future__ import annotations

import pytest

from raysweep.orchestrator.schedule.progress import Progress, pace


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


def test_the_pace_counts_the_last_batch_however_long_ago_it_was() -> None:
    """A commit to a slow disk may take a thousand times as long as the cells."""
    progress = Progress(total=1, done=1, work_done=1.0, work_left=0.0, began=0.0, history=[(0.001, 1, 1.0)])
    assert progress.pace(100.0) == (0.01, 0.0)
