"""A user's own sweep, nothing of the paper's: k, a rate, curves, failures; its text is as nasty as it can be."""

from __future__ import annotations

import sys
from pathlib import Path

from raysweep import Sweep, launch

NASTY = "</script><img src=x onerror=\"document.title='owned'\"><b>&amp;\x1b[31mred"
"""HTML, a script's end, a control sequence."""

WORKLOAD = """
NASTY = {nasty!r}


def run(cell, context):
    print("printed " + NASTY)
    if cell.seed == 3:
        raise ValueError("unlucky " + NASTY)
    if cell.method == "never":
        raise SystemError("broken")
    rate = cell.config["rate"]
    level = 1 / (1 + 100 * rate) + (0.01 * cell.k if cell.k else 0) + cell.seed * 1e-3
    context.array("loss", [level + 1 / (1 + rate * step) for step in range(100)])
    context.array(NASTY, [1.0, 2.0, level])
    return {{"loss": level, "window": 3.0 * level, "chance": 0.5, NASTY: level}}
"""

SWEEP = """
name = "nasty"
title = "A <b>title</b> & more"
experiment = "<i>first</i>"
workload = "nasty:run"
seeds = "0..4"
[config]
note = "</script><script>document.title='owned'</script>"
[resources]
retries = 0
[[grid]]
method = "sgd"
rate = [0.1, 0.2]
[[grid]]
method = "</script>|<b>sparse"
k = [1, 2, 4]
rate = 0.1
[[grid]]
method = "never"
rate = 0.1
"""


def make(folder: Path) -> Path:
    """Run it in `folder`, in this process; the store's path. 20 of 30 cells are done."""
    (folder / "nasty.py").write_text(WORKLOAD.format(nasty=NASTY), encoding="utf-8")
    (folder / "nasty.toml").write_text(SWEEP, encoding="utf-8")
    sys.modules.pop("nasty", None)  # of another folder
    store = folder / "results"
    ended = launch(Sweep.load(folder / "nasty.toml"), store, inline=True)
    assert (ended.asked, ended.done) == (30, 20)
    return store
