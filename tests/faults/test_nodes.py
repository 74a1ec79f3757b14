"""Nodes that freeze or are drained, and a head that dies: real processes of a cluster of several nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP
from tests.faults.cluster import Cluster

pytestmark = pytest.mark.slow

CELLS = """
    import time

    def run(cell, context):
        with open(f"began-{cell.method}", "a") as file:
            file.write(f"{time.time()}\\n")
        if cell.config["waits"] and len(open(f"began-{cell.method}").readlines()) == 1:
            time.sleep(1000)  # the first attempt never ends
        saved = context.checkpoint.load()
        step = int(saved) if saved else 0
        while step < cell.config["steps"]:
            time.sleep(0.25)
            step += 1
            if cell.config["saves"]:
                context.checkpoint.save(b"%d" % step)
        return {"steps": step, "resumed_from": int(saved) if saved else 0}
"""


def sweep(steps: int, *, saves: bool = False, waits: bool = False, methods: str = '[[grid]]\nmethod="long"\n') -> str:
    head = 'name="n"\nworkload="cells:run"\nseeds=[0]\n[resources]\nretries=0\n[config]\n'
    return f"{head}steps={steps}\nsaves={str(saves).lower()}\nwaits={str(waits).lower()}\n{methods}"


@pytest.fixture
def cluster(request) -> Iterator[Cluster]:
    cluster = Cluster({"num_cpus": 2}, quick=getattr(request, "param", True))
    yield cluster
    cluster.close()


def start(cluster: Cluster, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RAYSWEEP, "launch", "n.toml", "--address", cluster.address], cwd=folder, env=cluster.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def began(folder: Path, method: str) -> list[float]:
    path = folder / f"began-{method}"
    return [float(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def attempts(store: Store) -> dict[str, list[str]]:
    frame = store.attempts.sort("attempt").select("method", "status").collect()
    return {str(m): f["status"].to_list() for (m,), f in frame.group_by("method", maintain_order=True)}


@pytest.mark.parametrize("cluster", [True, False], indirect=True, ids=["short-keepalive", "as-ray-comes"])
def test_a_frozen_node_delays_its_cells_by_no_more_than_documented(cluster: Cluster, write, folder: Path) -> None:
    write("cells.py", CELLS)
    limited = '[[grid]]\nmethod="limited"\nresources={ timeout_s = 40, retries = 1 }\n'
    write("n.toml", sweep(1, waits=True, methods='[[grid]]\nmethod="long"\n' + limited))
    (first,) = cluster.nodes
    driver = start(cluster, folder)
    wait_for(lambda: began(folder, "long") and began(folder, "limited"))
    cluster.add(num_cpus=2)
    cluster.freeze(first)
    frozen = time.time()
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    delays = {method: began(folder, method)[1] - frozen for method in ("long", "limited")}
    print("seconds till the next attempt began:", {k: round(v, 1) for k, v in delays.items()})
    assert delays["long"] <= 70
    assert began(folder, "limited")[1] - began(folder, "limited")[0] <= 40 + 10
    assert {m: s[-1] for m, s in attempts(Store()).items()} == {"long": "done", "limited": "done"}
    assert Store().cells.collect().height == 2
    cluster.thaw()  # results of the frozen workers change nothing
    time.sleep(3)
    assert Store().cells.collect().height == 2
    assert Store().check() == []


def test_a_cell_of_a_drained_node_continues_on_another(cluster: Cluster, write, folder: Path) -> None:
    write("cells.py", CELLS)
    write("n.toml", sweep(140, saves=True))
    (first,) = cluster.nodes
    driver = start(cluster, folder)
    wait_for(lambda: began(folder, "long"))
    cluster.add(num_cpus=2)
    time.sleep(2)
    cluster.drain(first, 30)  # as at a spot machine's notice
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, output
    assert attempts(Store()) == {"long": ["preempted", "done"]}
    assert Store().sql("SELECT metric_steps, resumed_from > 0 FROM cells").row(0) == (140, True)
    nodes = Store().attempts.collect()["node_id"]
    assert nodes.n_unique() == 2


def test_without_its_head_a_launch_ends_with_a_message_and_loses_nothing(
    cluster: Cluster, write, folder: Path, cli
) -> None:
    write("cells.py", CELLS)
    write("n.toml", sweep(2).replace("seeds=[0]", 'seeds="0..99"'))
    driver = start(cluster, folder)
    wait_for(lambda: Store().exists() and Store().cells.select(pl.len()).collect().item() > 0)
    os.kill(cluster.gcs, signal.SIGKILL)
    gone = time.monotonic()
    output, _ = driver.communicate(timeout=100)
    print(f"the driver ended {time.monotonic() - gone:.1f} s after its head")
    assert driver.returncode == 1
    assert "the cluster's head is gone" in output
    assert "Traceback" not in output
    assert time.monotonic() - gone < 30
    done = Store().cells.collect().height
    assert 0 < done < 100
    assert cli("resume", "--inline", "--where", "seed < 20").returncode == 0
    assert Store().check() == []
