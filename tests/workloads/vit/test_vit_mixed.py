"""One launch of recurrent cells on CPU workers and transformer cells on a GPU worker, which is killed in mid-cell.

The GPU is one in name only: Ray is told of it, and the cell, once it has been given it, computes on the CPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import environment
from tests.workloads.vit.vit_cells import Context, cell_of, run, timeless, write_images

torch = pytest.importorskip("torch")

ON_GPU = """
    import os
    import time

    from raysweep.workloads import vit
    from raysweep.workloads.vit import METHODS, VERSION, Config, cost, settle


    class OnCpu:
        device = "cpu"

        def __init__(self, context):
            self.context, self.checkpoint = context, self
            self.array, self.load = context.array, context.checkpoint.load

        def progress(self, fraction):
            self.context.progress(fraction)

        def save(self, data):
            self.context.checkpoint.save(data)
            with open(os.environ["EPOCHS"], "a") as file:
                file.write(f"{os.getpid()}\\n")
            time.sleep(float(os.environ["PAUSE"]))


    def run(cell, context):
        assert context.device == "cuda"
        return vit.run(cell, OnCpu(context))
"""
DRIVER = """
    import functools
    import sys

    from raysweep.orchestrator.executors.ray.executor import RayExecutor
    from raysweep.orchestrator.launch.launch import launch
    from raysweep.orchestrator.sweep.spec import Sweep

    RayExecutor.__init__ = functools.partialmethod(RayExecutor.__init__, gpus=1)
    sys.exit(launch([Sweep.load(path) for path in sys.argv[1:]]).exit_code)
"""
VIT = """
    name = "vit"
    workload = "on_gpu:run"
    seeds = [1]
    [resources]
    gpus = 1
    [config]
    {config}
    [[grid]]
    method = "sparse"
    k = 2
"""
RNN = """
    name = "rnn"
    workload = "online_rnn"
    seeds = "0..3"
    [config]
    hidden = 8
    steps = 400
    shift = 200
    implementation = "readable"
    [[grid]]
    method = "sparse_rtrl"
    k = 2
"""


@pytest.mark.slow
def test_each_cell_where_it_belongs_and_a_killed_gpu_worker_goes_on(write, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("RAYSWEEP_DATA", str(folder))
    write_images(folder / "tiny.parquet")
    cell = cell_of("sparse", 2, epochs=2)
    given = {name: getattr(cell.config, name) for name in cell.config.model_fields_set}
    toml = {True: "true", False: "false"}
    lines = "\n    ".join(
        f"{name} = {toml[v] if isinstance(v, bool) else repr(v).replace(chr(39), chr(34))}"
        for name, v in given.items()
        if v is not None
    )
    write("on_gpu.py", ON_GPU)
    write("driver.py", DRIVER)
    write("vit.toml", VIT.format(config=lines))
    write("rnn.toml", RNN)
    epochs = folder / "epochs"
    driver = subprocess.Popen(
        [sys.executable, "driver.py", "vit.toml", "rnn.toml"],
        cwd=folder,
        env=environment() | {"EPOCHS": str(epochs), "PAUSE": "0.4", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 150
    while (len(epochs.read_text().splitlines()) if epochs.exists() else 0) < 4:
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(int(epochs.read_text().splitlines()[-1]), signal.SIGKILL)
    killed_after = len(epochs.read_text().splitlines())
    output, _ = driver.communicate(timeout=150)
    assert driver.returncode == 0, output

    cells = Store(folder / "results").sql(
        "SELECT sweep, device, count(*) FROM cells WHERE status = 'done' GROUP BY ALL"
    )
    assert sorted(cells.rows()) == [("rnn", "cpu", 4), ("vit", "cuda", 1)]
    tried = Store(folder / "results").sql("SELECT attempt, status FROM attempts WHERE sweep = 'vit' ORDER BY attempt")
    assert tried.rows() == [(1, "crashed"), (2, "done")]
    assert len(epochs.read_text().splitlines()) - killed_after <= 10 - killed_after + 1  # at most one epoch again
    torch.set_num_threads(1)
    whole, _ = run(cell, Context(keeps=False))
    row = Store(folder / "results").sql("SELECT * FROM cells WHERE sweep = 'vit'").to_dicts()[0]
    for name, value in timeless(whole).items():
        assert row[name] == value, name
