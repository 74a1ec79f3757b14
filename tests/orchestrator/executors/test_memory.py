"""Which of the processes that Ray kills on a node out of memory is charged."""

from __future__ import annotations

from raysweep.orchestrator.executors.ray.memory import killed_beside_another

OOM = """Task was killed due to the node running low on memory. Top 10 memory users: PID\tMEM(GB)\tCOMMAND
71\t3.80\tray::work
72\t0.06\tray::work
73\t0.30\t/usr/bin/raylet --x
"""


def test_who_is_killed_beside_a_hog_is_not_charged() -> None:
    assert [killed_beside_another(OOM, pid) for pid in (71, 72, 0)] == [False, True, False]
    assert not killed_beside_another("no table", 72)
