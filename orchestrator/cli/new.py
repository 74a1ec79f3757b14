"""A sweep and a workload to start from: small, commented, and at work as they are."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.source import OURS
from raysweep.orchestrator.text import short_repr

WORKLOAD = '''"""A workload: what one cell computes. raysweep needs the function `run`, and nothing else of this file.

Example: gradient descent on a noisy parabola in ten dimensions. Put your own in its place.
"""

import random

from pydantic import BaseModel

VERSION = "1"  # change it when `run` computes something else: cells get new ids, and old rows stay as they are
METHODS = ("sgd", "momentum")  # other names are refused before anything runs


class Config(BaseModel, frozen=True, extra="forbid"):
    """Settings of a cell, checked when a sweep is planned. Leave it out, and any setting passes."""

    rate: float = 0.1
    noise: float = 0.1
    steps: int = 200


def run(cell, context):
    """Compute one cell: its metrics by name, finite numbers.

    `cell` has method, k (here: coordinates that each step updates), seed and config; `context` takes arrays,
    checkpoints of long cells and progress. All randomness comes from the seed, so that the cell can be run again.
    """
    rng = random.Random(cell.seed)
    config = cell.config
    point = [rng.gauss(0, 1) for _ in range(10)]
    speed = [0.0] * len(point)
    losses = []
    for step in range(config.steps):
        losses.append(sum(x * x for x in point) / 2)
        chosen = range(len(point)) if cell.k is None else rng.sample(range(len(point)), min(cell.k, len(point)))
        for i in chosen:
            gradient = point[i] + config.noise * rng.gauss(0, 1)
            speed[i] = (0.9 * speed[i] if cell.method == "momentum" else 0.0) - config.rate * gradient
            point[i] += speed[i]
        if step % 50 == 0:
            context.progress(step / config.steps)
    context.array("loss", losses)  # a curve: one row of the table `arrays`
    return {"loss": losses[-1], "loss_mean": sum(losses) / len(losses)}
'''

SWEEP = """# A sweep: which cells to run. Every key but workload, seeds and [[grid]] may be left out.
# raysweep plan {name}.toml      shows what would run
# raysweep launch {name}.toml    runs what is missing; results go into the folder `results`

name = "{name}"
title = "Gradient descent on a noisy parabola"
workload = "{name}:run"         # module:function; the module lies beside this file
seeds = "0..4"                  # both ends; or a list: [42, 123, 7]

[config]                        # settings that all cells share
steps = 200

[resources]                     # how a cell runs, not what it is: changing it makes no new cells
cpus = 1
timeout_s = 60                  # a cell that hangs is ended then, and recorded

# Each block is the product of its lists: 2 methods x 2 rates x 5 seeds = 20 cells.
[[grid]]
method = ["sgd", "momentum"]
rate = [0.05, 0.2]

# `k` is a key of its own, beside the method: 2 x 5 = 10 cells more.
[[grid]]
method = "sgd"
k = [2, 5]
rate = 0.2
"""


def write(name: str, folder: Path) -> list[Path]:
    """Write `name.toml` and `name.py` into a folder.

    Raises:
        InputError: the name can't be a module's, something is there already, or the folder can't be written.
    """
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or len(name) > 60:
        raise InputError(f"new: {short_repr(name)} can't name a Python module; letters, digits and '_', as in my_sweep")
    if name == OURS or name in sys.stdlib_module_names:
        raise InputError(
            f"new: {name!r} is a module of {'raysweep' if name == OURS else 'Python'}'s own; choose another"
        )
    files = {folder / f"{name}.py": WORKLOAD, folder / f"{name}.toml": SWEEP.replace("{name}", name)}
    problems = [f"new: {path} is there already; nothing is written" for path in files if path.exists()]
    if problems:
        raise InputError(problems)
    for path, text in files.items():
        try:
            with path.open("x", encoding="utf-8") as file:  # "x": never over another's
                file.write(text)
        except OSError as error:
            raise InputError(f"new: {path}: {error.strerror or error}") from None
    return list(files)
