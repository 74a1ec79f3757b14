"""A notebook's own function, launched in a real kernel: versions, progress, results, and an interrupt."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.command_line import PATHS

DEFINE = """
from raysweep import Store, launch
def run(cell, context):
    return {"loss": (cell.config["rate"] - 0.2) ** 2 + 0.001 * (cell.seed % 3)}
"""
LAUNCH = "result = launch(run, store='s', grid={'rate': [0.1, 0.2, 0.4]}, seeds=range(6), inline=INLINE); result"
SLOW = """
import time
def slow(cell, context):
    open(BEGAN, "w").close()
    time.sleep(0.2)
    return {"loss": 1.0}
stopped = launch(slow, store='s', grid={"rate": 0.1}, seeds=range(100), inline=INLINE)
print(stopped.stopped, 0 < stopped.left < 100)
"""


def texts(cell: Any) -> str:
    """All that a notebook's cell shows as plain text."""
    return "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])
    )


@pytest.mark.parametrize(
    "inline", [pytest.param(True, id="inline"), pytest.param(False, id="in processes", marks=pytest.mark.slow)]
)
def test_a_notebook_from_its_function_to_the_best_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", PATHS)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    sources = [
        f"INLINE, BEGAN = {inline}, {str(tmp_path / 'began')!r}",
        "import os; open('kernel', 'w').write(str(os.getpid()))",
        DEFINE,
        LAUNCH,
        "print(result.frame.columns, result.frame['seed'].to_list()[:3])",
        DEFINE.replace("0.2)", "0.4)"),
        LAUNCH.replace("INLINE", "INLINE, rerun_changed=False"),
        LAUNCH.replace("INLINE", "INLINE, rerun_changed=True"),
        "print([entry.setting for entry in result.best('loss').candidates], result.failures.height)",
        "print(Store('s').sql('SELECT count(DISTINCT source_digest) AS n FROM attempts')['n'].to_list())",
        "axes = result.frame.to_pandas().plot.scatter('rate', 'loss'); print(type(axes).__name__)",
        SLOW,
        "print(launch(run, store='s', grid={'rate': 0.2}, seeds=range(7), inline=INLINE).ran)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})

    def interrupt() -> None:
        while not (tmp_path / "began").exists():
            time.sleep(0.05)
        time.sleep(1)
        os.kill(int((tmp_path / "kernel").read_text()), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    client.execute()
    shown = [texts(cell) for cell in notebook.cells]
    assert "18 of 18 cells done (18 now, in " in shown[3]
    assert "<progress" in str(notebook.cells[3]["outputs"])
    assert shown[4].strip() == "['method', 'seed', 'rate', 'loss', 'status', 'seconds', 'cell_id'] [0, 1, 2]"
    assert "changed=18" in shown[6]
    assert "18 of the done cells ran different code: rerun_changed=True runs them again" in shown[6]
    assert "ran=18" in shown[7]
    assert shown[8].strip() == "['run, rate=0.4'] 0"
    assert shown[9].strip() == "[2]"
    assert "Axes" in shown[10]
    assert "interrupted True" in shown[11]
    assert shown[12].rstrip().endswith("1")
