"""Which nodes cells go to: pure, and (slow) on a cluster with a fake GPU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from raysweep.orchestrator.executors.resources import Demand, nodes_to_avoid
from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP
from tests.faults.cluster import Cluster

NODES = {
    "head": {"memory": 4 * 2**30},
    "cpu": {"CPU": 2.0, "memory": 4 * 2**30},
    "gpu": {"CPU": 8.0, "GPU": 1.0, "memory": 64 * 2**30},
}


@pytest.mark.parametrize(
    ("demand", "unresponsive", "avoided"),
    [
        ((1.0, 0.0, None), set(), {"gpu"}),
        ((1.0, 0.5, None), set(), set()),
        ((4.0, 0.0, None), set(), set()),  # no CPU node is large enough
        ((1.0, 0.0, 32.0), set(), set()),
        ((1.0, 0.0, None), {"cpu"}, {"cpu"}),  # rather a GPU node than one that does not answer
        ((1.0, 0.0, None), {"cpu", "gpu"}, set()),
        ((1.0, 0.0, None), {"gone"}, {"gpu"}),
    ],
)
def test_cells_without_gpus_keep_off_gpu_nodes_while_others_can_run_them(demand, unresponsive, avoided) -> None:
    assert nodes_to_avoid(NODES, unresponsive, Demand(*demand)) == avoided


@pytest.mark.slow
def test_a_mixed_sweep_uses_each_node_for_what_it_is_for(write, folder: Path) -> None:
    write("mixed.py", "import time\ndef run(cell, context):\n    time.sleep(0.2)\n    return {'x': 1.0}\n")
    write(
        "mixed.toml",
        'name="m"\nworkload="mixed:run"\nseeds="0..7"\n[[grid]]\nmethod="cpu"\n'
        '[[grid]]\nmethod="gpu"\nresources.gpus=0.5\n',
    )
    cluster = Cluster({"num_cpus": 2}, {"num_cpus": 4, "num_gpus": 1})
    try:
        on_cpu, on_gpu = cluster.nodes
        ended = subprocess.run(
            [*RAYSWEEP, "launch", "mixed.toml", "--address", cluster.address], cwd=folder, env=cluster.environment,
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    finally:
        cluster.close()
    where = Store().sql("SELECT DISTINCT method, node_id, device FROM cells ORDER BY method").rows()
    assert where == [("cpu", on_cpu, "cpu"), ("gpu", on_gpu, "cuda")]
