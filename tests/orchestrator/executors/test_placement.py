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


@pytest.mark.slow
def test_accelerators_and_custom_resources_reach_ray(write, folder: Path) -> None:
    write(
        "two.py",
        "import time\ndef run(cell, context):\n    began = time.time()\n    time.sleep(0.5)\n"
        "    return {'began': began, 'ended': time.time()}\n",
    )
    head = 'workload="two:run"\nseeds="0..3"\n'
    licensed = '[[grid]]\nmethod="licensed"\nresources.custom={license=1}\n'
    on_gpu = '[[grid]]\nmethod="gpu"\nresources={gpus=0.5, accelerator="H100"}\n'
    write("two.toml", head + licensed + on_gpu)
    write("other.toml", head + on_gpu.replace("H100", "A100") + licensed.replace("license", "seat"))
    cluster = Cluster(
        {"num_cpus": 4, "resources": {"license": 1}},
        {"num_cpus": 2, "num_gpus": 1, "resources": {"accelerator_type:H100": 1}},
    )
    try:
        plain, h100 = cluster.nodes

        def raysweep(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*RAYSWEEP, *words], cwd=folder, env=cluster.environment, capture_output=True, text=True, timeout=180
            )

        refused = raysweep("launch", "other.toml", "--address", cluster.address)
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[-2:] == [
            "error: 4 cells need 0.5 GPUs and the accelerator A100 each; no node offers the accelerator A100: "
            "use --device cpu, change [resources] or use --address with a larger cluster",
            "error: 4 cells need 1 CPU and 1 of seat each; no node offers 1 of seat: change [resources] or use "
            "--address with a larger cluster",
        ]
        checked = raysweep("cluster", "check", "--address", cluster.address, "other.toml")
        assert "no node offers 1 of seat" in checked.stdout, checked
        ended = raysweep("launch", "two.toml", "--address", cluster.address)
        assert ended.returncode == 0, ended.stderr
    finally:
        cluster.close()
    assert Store().sql("SELECT DISTINCT method, node_id FROM cells ORDER BY method").rows() == [
        ("gpu", h100), ("licensed", plain),
    ]  # fmt: skip
    rows = Store().sql("SELECT began, ended FROM cells WHERE method = 'licensed'").rows()
    assert max(sum(began <= moment < ended for began, ended in rows) for moment, _ in rows) == 1
    table = Store().known().variants.select("method", "custom").sort("method").rows()
    assert table == [("gpu", '{"accelerator_type:H100": 0.001}'), ("licensed", '{"license": 1.0}')]
