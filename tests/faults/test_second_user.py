"""Another user of the machine: cannot read our token, cannot use our Ray, and launches beside us. Needs root."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, environment
from tests.faults.cluster import children, command

SLOW = "import time\ndef run(cell, context):\n    time.sleep(0.5)\n    return {'x': 1.0}\n"
SWEEP = 'name="s"\nworkload="slow:run"\nseeds="0..{last}"\n[[grid]]\nmethod="m"\n'
OTHER = 54_321
PACKAGES = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user"),
]


class User:
    """Another user, with a home and a current folder of its own that everybody may enter."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o755)
        (home / "slow.py").write_text(SLOW)
        (home / "s.toml").write_text(SWEEP.format(last=3))
        for path in (home, *home.iterdir()):
            os.chown(path, OTHER, OTHER)
        system = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
        self.python = next((python for python in (sys.executable, system) if self.runs(python)), None)

    def runs(self, python: str) -> bool:
        try:
            return self.run(python, "-c", "import ray, raysweep").returncode == 0
        except OSError:  # the interpreter lies where this user may not go
            return False

    def run(self, *words: str, timeout: float = 150, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{environment()['PYTHONPATH']}{os.pathsep}{PACKAGES}"
        return subprocess.run(
            words, cwd=self.home, capture_output=True, text=True, timeout=timeout, user=OTHER, group=OTHER,
            extra_groups=[], env={**environment(), "HOME": str(self.home), "PYTHONPATH": path, **variables},
        )  # fmt: skip


@pytest.fixture
def other() -> Iterator[User]:
    place = Path(tempfile.mkdtemp(prefix="other-user-"))
    place.chmod(0o755)
    user = User(place / "home")
    if user.python is None:
        pytest.skip("no interpreter that another user may run")
    yield user
    shutil.rmtree(place)


def test_another_user_stays_outside_and_has_a_ray_of_its_own(other: User, write, folder: Path) -> None:
    write("slow.py", SLOW)
    write("s.toml", SWEEP.format(last=9999))
    home = other.home.parent / "mine"
    (home / ".ray").mkdir(parents=True, mode=0o755)
    token = home / ".ray/auth_token"
    token.write_text("0" * 64)  # as Ray writes it
    token.chmod(0o644)
    ours = subprocess.Popen(
        [*RAYSWEEP, "launch", "s.toml", "--address", "local"], cwd=folder,
        env={**environment(), "HOME": str(home)}, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until = time.monotonic() + 180
        while not Store().exists() or not Store().cells.collect().height:
            assert time.monotonic() < until
            assert ours.poll() is None, ours.communicate()[1]
            time.sleep(0.2)
        assert [stat.S_IMODE(path.stat().st_mode) for path in (token.parent, token)] == [0o700, 0o600]
        commands = " ".join(map(command, children(ours.pid)))
        session = re.search(r"--session[-_]dir=(\S+)", commands).group(1)
        for path in (str(token), session):
            refused = other.run("ls", path)
            assert (refused.returncode, "Permission denied" in refused.stderr) == (2, True), refused
        address = re.search(r"--gcs-address=(127\S+)", commands).group(1)
        launch = (other.python, "-m", "raysweep", "launch", "s.toml", "--store", "theirs")
        for variables in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}, {"RAY_AUTH_MODE": "disabled"}):
            refused = other.run(*launch, "--address", address, **variables)
            assert refused.returncode == 1, refused.stderr
            assert refused.stderr.count("error: ") == 1
            assert "could not be reached" in refused.stderr
            assert "Traceback" not in refused.stderr
        beside = other.run(*launch, "--address", "local")
        assert beside.returncode == 0, beside.stderr
        assert ours.poll() is None
    finally:
        ours.send_signal(signal.SIGINT)
        _, err = ours.communicate(timeout=60)
    assert ours.returncode == 130, err
    assert Store().check() == []
