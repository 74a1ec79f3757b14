"""What is known of processes that were ended for lack of memory, and which of them is charged."""

from __future__ import annotations

import pytest

from raysweep.orchestrator.executors import memory
from raysweep.orchestrator.executors.memory import killed_beside_another

OOM = """Task was killed due to the node running low on memory. Top 10 memory users: PID\tMEM(GB)\tCOMMAND
71\t3.80\tray::work
72\t0.06\tray::work
73\t0.30\t/usr/bin/raylet --x
"""


def test_who_is_killed_beside_a_hog_is_not_charged() -> None:
    assert [killed_beside_another(OOM, pid) for pid in (71, 72, 0)] == [False, True, False]
    assert not killed_beside_another("no table", 72)


@pytest.mark.parametrize(
    ("groups", "files", "count"),
    [
        ("0::/a/b", {"/sys/fs/cgroup/a/b/memory.events": "low 0\noom 7\noom_kill 3\n"}, 3),
        ("0::/a/b", {"/sys/fs/cgroup/memory.events": "oom_kill 4\n", "/proc/vmstat": "oom_kill 9\n"}, 4),
        ("3:cpu:/\n5:memory:/a\n0::/a", {"/sys/fs/cgroup/memory/a/memory.oom_control": "under_oom 0\noom_kill 5\n"}, 5),
        ("0::/", {"/proc/vmstat": "pgfault 1\noom_kill 9\n"}, 9),
        ("", {}, 0),
    ],
)
def test_kills_are_those_of_the_control_group_or_else_of_the_machine(groups, files, count, monkeypatch) -> None:
    texts = {"/proc/self/cgroup": groups, **files}
    monkeypatch.setattr(memory, "_read", lambda path: texts.get(str(path), ""))
    assert memory.oom_kills() == count
