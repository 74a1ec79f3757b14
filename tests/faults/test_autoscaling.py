"""A cluster that starts from zero: nodes start as cells need them, and cells that fit no node type are refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP
from tests.faults.autoscaling import AutoscalingCluster

pytestmark = pytest.mark.slow

CELLS = """
    import os, time

    def run(cell, context):
        time.sleep(0.3)
        return {"gpus": float(len([g for g in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if g]))}
"""
SWEEP = """
    name = "mixed"
    workload = "cells:run"
    seeds = "0..5"
    [[grid]]
    method = "cpu"
    [[grid]]
    method = "gpu"
    resources.gpus = 1
"""
CPU = {"resources": {"CPU": 2}, "labels": {"kind": "cpu"}, "max_workers": 1}
GPU = {"resources": {"CPU": 4, "GPU": 1}, "labels": {"kind": "gpu"}, "max_workers": 1}


@pytest.fixture(scope="module", params=[True, False], ids=["second-autoscaler", "first-autoscaler"])
def cluster(request) -> Iterator[AutoscalingCluster]:
    cluster = AutoscalingCluster(request.param, cpu=CPU, gpu=GPU)
    yield cluster
    cluster.close()


def launch(cluster: AutoscalingCluster, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RAYSWEEP, "launch", "mixed.toml", "--address", cluster.address, *more], cwd=folder, env=cluster.environment,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_cells_that_fit_no_node_type_are_refused_with_the_node_types(cluster, write, folder: Path) -> None:
    write("cells.py", CELLS)
    write("mixed.toml", SWEEP.replace("resources.gpus = 1", "resources = { gpus = 2, memory_gib = 4000 }"))
    ended = launch(cluster, folder)
    assert ended.returncode == 2, ended.stderr
    assert "6 cells need 2 GPUs and 4000 GiB each; the largest node offers" in ended.stderr
    assert "no node type has more: cpu (2 CPUs), gpu (4 CPUs, 1 GPU): use --device cpu" in ended.stderr
    assert not Store().exists()


def test_a_running_cluster_reports_its_node_types(cluster, write, folder: Path) -> None:
    write("cells.py", CELLS)
    write("mixed.toml", SWEEP.replace("resources.gpus = 1", "resources.gpus = 2"))
    ended = subprocess.run(
        [*RAYSWEEP, "cluster", "check", "--address", cluster.address, "mixed.toml"], cwd=folder,
        env=cluster.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "may start 4 nodes: cpu (2 CPUs), gpu (4 CPUs, 1 GPU)" in ended.stdout
    assert "6 cells need 2 GPUs each; the largest node offers" in ended.stdout
    assert "no node type is large enough: cpu (2 CPUs), gpu (4 CPUs, 1 GPU): use --device cpu" in ended.stdout


def test_a_gpu_node_comes_from_zero_for_the_cells_that_need_it(cluster, write, folder: Path) -> None:
    write("cells.py", CELLS)
    write("mixed.toml", SWEEP)
    ended = launch(cluster, folder)
    assert ended.returncode == 0, ended.stderr
    where = Store().sql("SELECT DISTINCT method, node_id, metric_gpus FROM cells ORDER BY method").rows()
    assert [(method, gpus) for method, _, gpus in where] == [("cpu", 0.0), ("gpu", 1.0)]
    assert where[0][1] != where[1][1]  # each kind on its own node, one node each
    assert Store().cells.collect().height == 12
