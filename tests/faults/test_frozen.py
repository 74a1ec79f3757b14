"""Launches whose Ray freezes, and whose store is taken over while they are frozen: each ends, within a bound."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, environment
from tests.faults.cluster import children, command, signal_to
from tests.orchestrator.store.owners import die

SWEEP = 'name="slow"\nworkload="slow:run"\nseeds="0..199"\n[[grid]]\nmethod="fine"\n'
SLOW = """
    import time
    def run(cell, context):
        if cell.seed >= {hangs_from}:
            {hang}
        time.sleep(0.2)
        return {{"value": cell.seed}}
"""
IN_STEPS, IN_ONE = "for _ in range(20_000): time.sleep(0.05)", "time.sleep(1000)"


@pytest.fixture
def start(write, folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts a launch, and waits until the store has rows."""
    started: list[subprocess.Popen[str]] = []

    def launch(*options: str, hangs_from: int = 200, hang: str = IN_STEPS) -> subprocess.Popen[str]:
        write("slow.py", SLOW.format(hangs_from=hangs_from, hang=hang))
        write("slow.toml", SWEEP)
        driver = subprocess.Popen(
            [*RAYSWEEP, "launch", "slow.toml", *options], cwd=folder, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        started.append(driver)
        wait_until(lambda: Store().exists() and Store().cells.collect().height >= 2, driver)
        return driver

    yield launch
    for driver in started:
        for pid in [*children(driver.pid), driver.pid]:
            signal_to(pid, signal.SIGKILL)
        driver.communicate()


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < until
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.1)


def take_over(driver: subprocess.Popen[str], folder: Path) -> None:
    """Freeze the launch, let another own the store and end, and wake the launch."""
    driver.send_signal(signal.SIGSTOP)
    (folder / "results/_lock").unlink()  # as if it were on another machine, and silent for long
    die(Store().storage, 0)
    second = subprocess.run(
        [*RAYSWEEP, "launch", "slow.toml", "--inline", "--where", "seed = 0"], cwd=folder, env=environment(),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    driver.send_signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "reason", "seconds"),
    [("gcs_server", "Ray's head has not answered", 100), ("raylet", "Ray's node on this machine is dead", 150)],
)
def test_a_launch_ends_whose_ray_is_frozen(what: str, reason: str, seconds: float, start) -> None:
    driver = start("--address", "local")
    (pid,) = [pid for pid in children(driver.pid) if command(pid).split(" ")[0].endswith(what)]
    signal_to(pid, signal.SIGSTOP)
    out, _ = driver.communicate(timeout=seconds)
    assert driver.returncode == 1, out
    assert reason in out
    assert "Traceback" not in out
    until = time.monotonic() + 20
    while command(pid):  # killed, since it would not end
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "hang"),
    [
        (["--inline"], IN_STEPS),
        pytest.param(["--inline"], IN_ONE, marks=pytest.mark.slow),
        pytest.param([], IN_ONE),
        pytest.param(["--address", "local"], IN_ONE, marks=pytest.mark.slow),
    ],
    ids=["interrupted", "ended by force", "processes", "Ray"],
)
def test_a_launch_whose_store_was_taken_over_ends_within_seconds(options: list[str], hang: str, start, folder) -> None:
    driver = start(*options, hangs_from=10, hang=hang)
    take_over(driver, folder)
    out, _ = driver.communicate(timeout=15)
    assert driver.returncode == 3, out
    assert out.count("a later launch took it over") == 1
    assert "Traceback" not in out
    assert Store().check() == []


@pytest.mark.slow
def test_that_also_holds_if_ray_is_frozen(start, folder: Path) -> None:
    driver = start("--address", "local", hangs_from=10)
    ray = [pid for pid in children(driver.pid) if command(pid).split(" ")[0].endswith(("gcs_server", "raylet"))]
    assert len(ray) == 2
    for pid in ray:
        signal_to(pid, signal.SIGSTOP)
    take_over(driver, folder)
    out, _ = driver.communicate(timeout=15)
    assert driver.returncode == 3, out
    assert "a later launch took it over" in out
