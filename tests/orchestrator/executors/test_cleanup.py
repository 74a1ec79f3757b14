"""Leftovers of killed launches are removed, and nothing else is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.orchestrator.executors import cleanup


@pytest.fixture
def scratch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return cleanup.scratch()


def test_leftovers_of_a_killed_launch_are_removed_and_living_launches_are_not(scratch: Path, folder: Path) -> None:
    living = cleanup.LaunchFolder("living")
    dead = cleanup.LaunchFolder("dead")
    session = folder / "session_2026-01-01_00-00-00_000000_4194000"  # where Ray put it
    session.mkdir()
    owner = json.loads((dead.path / "owner.json").read_text()) | {"pid": 2**22 + 5, "session": str(session)}
    (dead.path / "owner.json").write_text(json.dumps(owner))
    (dead.path / "stage").mkdir()
    for name, changes in (("elsewhere", {"boot": "another"}), ("space", {"process": {"space": "x", "started": "1"}})):
        other = cleanup.LaunchFolder(name)
        (other.path / "owner.json").write_text(json.dumps(owner | changes))
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    agent = subprocess.Popen([*sleeps, f"--session-dir={session}", f"--log={session}/logs"])
    starting = subprocess.Popen([*sleeps, f"--log={dead.path}/session_2026-01-01_00-00-00_000000_4194001/logs"])
    bystander = subprocess.Popen([*sleeps, f"--session-dir={folder}/another_{session.name}"])
    try:
        (line,) = cleanup.end_leftovers()
        assert line == "cleaned up after a launch that was killed (2 processes)"
        assert agent.wait(10) == starting.wait(10) == -9
        assert not session.exists()
        assert bystander.poll() is None
    finally:
        for process in (agent, starting, bystander):
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
