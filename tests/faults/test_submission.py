"""A launch as a Ray job: its driver runs on the head, and needs no process on this machine."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP
from tests.faults.cluster import descendants
from tests.faults.head import Head, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="needs raysweep[cluster]"),
]

CELLS = """
    import os, time
    from pathlib import Path
    import beside

    def run(cell, context):
        if cell.config.get("gate"):
            while not Path(cell.config["gate"]).exists():
                time.sleep(0.1)
        if cell.seed == 3 and not Path(cell.config["mended"]).exists():
            raise ValueError("not mended")
        return {"x": beside.VALUE * cell.seed}
"""


def sweep(folder: Path, seeds: str, gate: bool) -> str:
    gated = f'gate="{folder}/gate"\n' if gate else ""
    return (
        f'name="s"\nworkload="cells:run"\nseeds="{seeds}"\n[resources]\nretries=0\n'
        f'[config]\nmended="{folder}/mended"\n{gated}[[grid]]\nmethod="m"\n'
    )


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[Head, str]]:
    console = free_port()
    head = Head(2, free_port(), console)
    yield head, f"http://127.0.0.1:{console}"
    head.close()


def raysweep(head: Head, folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RAYSWEEP, *words], cwd=folder, env=head.environment | more, capture_output=True, text=True, timeout=150
    )


def write_sweep(write, tmp_path: Path, seeds: str, *, gate: bool) -> str:
    """Write a sweep, its workload and a module that it imports; the store's path."""
    write("beside.py", "VALUE = 2.0\n")
    write("cells.py", CELLS)
    write("s.toml", sweep(tmp_path, seeds, gate=gate))
    return str(tmp_path / "store")


def wait_for(condition, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.2)


def test_the_driver_outlives_the_process_that_submitted_it(head, write, folder: Path, tmp_path: Path) -> None:
    cluster, url = head
    store = write_sweep(write, tmp_path, "0..5", gate=True)
    submitted = raysweep(cluster, folder, "launch", "s.toml", "--submit", url, "--store", store)
    assert submitted.returncode == 0, submitted.stderr
    assert re.search(r"submitted as raysweep-\w{12} to http://127.0.0.1:\d+, 6 cells requested", submitted.stdout)
    assert cluster.environment["RAY_AUTH_TOKEN"] not in submitted.stdout + submitted.stderr
    for name in ("cells.py", "beside.py", "s.toml"):
        (folder / name).rename(tmp_path / name)  # the uploaded code runs
    wait_for(lambda: Store(store).exists())
    seen = json.loads(raysweep(cluster, tmp_path, "status", "--store", store, "--json").stdout)
    assert [(row["status"], row["cells"]) for row in seen["counts"]] == [("pending", 6)]
    assert seen["owner"] is not None
    (tmp_path / "gate").touch()
    wait_for(lambda: Store(store).attempts.collect().height == 6)
    rows = Store(store).sql("SELECT seed, x, status FROM cells ORDER BY seed").rows()
    assert [(seed, x) for seed, x, status in rows if status == "done"] == [(s, 2.0 * s) for s in (0, 1, 2, 4, 5)]
    paths = set(Store(store).cells.collect()["host"])
    assert len(paths) == 1
    # From anywhere that sees the store: here, in this process' own Ray, beside the module.
    (tmp_path / "mended").touch()
    wait_for(
        lambda: json.loads(raysweep(cluster, tmp_path, "status", "--store", store, "--json").stdout)["owner"] is None
    )
    resumed = raysweep(cluster, tmp_path, "resume", "--store", store, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert Store(store).cells.collect().height == 6
    assert Store(store).check() == []


def test_following_shows_the_log_and_ends_as_the_launch_did(head, write, folder: Path, tmp_path: Path) -> None:
    cluster, url = head
    store = write_sweep(write, tmp_path, "2..3", gate=False)
    options = ("--submit", url, "--store", store, "--follow")
    first = raysweep(cluster, folder, "launch", "s.toml", *options, "--device=cpu", "--where", "seed <> 9")
    assert first.returncode == 1, first.stderr  # as the launch: a cell failed
    assert "1 of 2 cells done (1 now" in first.stdout
    (tmp_path / "mended").touch()
    # Of a bare resume the head's store knows the cells, and this folder has the module.
    second = raysweep(cluster, folder, "resume", *options)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "2 of 2 cells done (1 now" in second.stdout


def test_an_interrupt_while_following_leaves_the_job(head, write, folder: Path, tmp_path: Path) -> None:
    cluster, url = head
    store = write_sweep(write, tmp_path, "0..1", gate=True)
    following = subprocess.Popen(
        [*RAYSWEEP, "launch", "s.toml", "--submit", url, "--store", store, "--follow"], cwd=folder,
        env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # Shells start what they put into the background, the tests perhaps, deaf to it, and children inherit that.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for(lambda: Store(store).exists())
    following.send_signal(signal.SIGINT)
    output, _ = following.communicate(timeout=30)
    assert following.returncode == 130
    (number,) = re.findall(r"(raysweep-\w{12}) keeps running; to stop it: ray job stop --address http://127", output)
    (tmp_path / "gate").touch()
    wait_for(lambda: Store(store).cells.collect().height == 2)
    assert number


def test_errors_are_reported_before_anything_is_submitted(head, write, folder: Path, tmp_path: Path) -> None:
    cluster, url = head
    write("cells.py", "def run(cell, context):\n    return {}\n")
    write("s.toml", 'name="s"\nworkload="cells:nun"\nseeds=[0]\n[[grid]]\nmethod="m"\n')
    store = ("--store", str(tmp_path / "store"))
    wrong = raysweep(cluster, folder, "launch", "s.toml", "--submit", url, *store)
    assert wrong.returncode == 2
    assert "has no function 'nun'" in wrong.stderr
    token = raysweep(cluster, folder, "launch", "paper/e1-sine", "--submit", url, *store, RAY_AUTH_TOKEN="x" * 32)
    assert token.returncode == 1
    assert "token" in token.stderr
    assert not (tmp_path / "store").exists()


def test_everything_listens_on_loopback_alone(head) -> None:
    cluster, _ = head
    inodes = {
        link.readlink().name[8:-1]
        for pid in descendants(cluster._process.pid)
        for link in Path(f"/proc/{pid}/fd").glob("*")
        if link.is_symlink() and str(link.readlink()).startswith("socket:")
    }
    assert inodes
    open_ports = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # listening
                open_ports.append(fields[1].rpartition(":")[0])
    loopback = {
        socket.inet_aton("127.0.0.1")[::-1].hex().upper(),
        "0000000000000000FFFF00000100007F",
        "0" * 24 + "01000000",
    }
    assert len(open_ports) > 5
    assert set(open_ports) <= loopback
