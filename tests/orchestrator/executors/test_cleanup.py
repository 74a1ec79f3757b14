"""Leftovers of killed launches are removed, and nothing else is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.orchestrator.executors.ray import cleanup


@pytest.fixture
def scratch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return cleanup.scratch()


def test_leftovers_of_a_killed_launch_are_removed_and_living_launches_are_not(scratch: Path) -> None:
    living = cleanup.LaunchFolder("living")
    dead = cleanup.LaunchFolder("dead")
    session = "session_2026-01-01_00-00-00_000000_4194000"
    owner = json.loads((dead.path / "owner.json").read_text()) | {"pid": 2**22 + 5, "session": session}
    (dead.path / "owner.json").write_text(json.dumps(owner))
    (dead.path / "stage").mkdir()
    for name, changes in (("elsewhere", {"boot": "another"}), ("space", {"process": {"space": "x", "started": "1"}})):
        other = cleanup.LaunchFolder(name)
        (other.path / "owner.json").write_text(json.dumps(owner | changes))
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    agent = subprocess.Popen([*sleeps, f"--session-dir=/tmp/ray/{session}", f"--log=/tmp/ray/{session}/logs"])
    bystander = subprocess.Popen([*sleeps, f"--session-dir=/tmp/ray/{session}7"])
    try:
        (line,) = cleanup.end_leftovers()
        assert "launch-dead" in line
        assert "ended 1 of its processes" in line
        assert agent.wait(10) == -9
        assert bystander.poll() is None
    finally:
        for process in (agent, bystander):
            process.kill()
            process.wait()
    assert sorted(path.name for path in scratch.iterdir()) == ["launch-elsewhere", "launch-living", "launch-space"]
    living.remove()
    assert cleanup.end_leftovers() == []


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"pid": "x", "process": {}}', '{"session": "../.."}'])
def test_invalid_owner_files_are_left_alone(scratch: Path, text: str) -> None:
    odd = cleanup.LaunchFolder("odd")
    (odd.path / "owner.json").write_text(text)
    assert cleanup.end_leftovers() == []
    assert odd.path.is_dir()


def test_somebody_elses_scratch_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    (folder / "theirs").mkdir()
    (folder / f"raysweep-{os.getuid()}").symlink_to(folder / "theirs")
    with pytest.raises(Exception, match="not a folder of this user"):
        cleanup.scratch()
