"""The commands that help to write a sweep: `new`, `workload` and `schema`."""

from __future__ import annotations

import importlib
import inspect
import json
import keyword
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from raysweep.orchestrator.cli.options import Json
from raysweep.orchestrator.cli.terminal.output import fail, print_json, say
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import short_repr

if TYPE_CHECKING:
    from raysweep.orchestrator.sweep.loading.workload import Workload

MAX_WIDTH = 40
"""Maximum width in characters of the column of valid values in the list of settings.

A longer value is printed in full, and pushes the next column aside.
"""


def new(
    name: Annotated[str, typer.Argument(help="Name of the script and the sweep, such as my_sweep.")],
    function: Annotated[
        bool, typer.Option("--function", help="Write a function that raysweep calls, instead of a script.")
    ] = False,
) -> None:
    """Write a commented script and sweep to start from.

    The files are NAME.py and NAME.toml in the current folder.

    raysweep new first && raysweep launch first.toml

    raysweep new first --function
    """
    for path in write(name, Path(), function=function):
        say(f"written: {path}")
    say(f"next: raysweep plan {name}.toml")


def workload(
    name: Annotated[
        str | None, typer.Argument(help="A bundled workload, or your own as module:function. Default: all bundled.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the methods and settings of a workload.

    raysweep workload vit

    raysweep workload first:run
    """
    from raysweep.orchestrator.sweep.loading.workload import load_workload
    from raysweep.workloads import WORKLOADS

    if name is None:
        titles = {bundled: title(load_workload(bundled)) for bundled in sorted(WORKLOADS)}
        if as_json:
            print_json(titles)
        for bundled, text in () if as_json else titles.items():
            say(f"{bundled:<12} {text}")
        return
    loaded = load_workload(name, (str(Path.cwd()),))
    keys = settings(loaded)
    methods = None if loaded.methods is None else sorted(loaded.methods)
    if as_json:
        print_json({"title": title(loaded), "methods": methods, "settings": [key._asdict() for key in keys]})
        return
    say(f"{loaded.name}: {title(loaded)}")
    say(f"methods: {'any name' if methods is None else ', '.join(methods)}")
    if not keys:
        say("settings: none" if loaded.config_model else "settings: any key, as the workload has no Config")
        return
    say("settings, for [config], a [[grid]] block or --set (an empty default: none, or one per method):")
    names, defaults, valid = (max(len(str(key[column])) for key in keys) for column in range(3))
    for key in keys:
        line = f"  {key.name:<{names}}  {key.default:<{defaults}}  {key.valid:<{min(valid, MAX_WIDTH)}}  {key.about}"
        say(line.rstrip())


def schema(
    workload: Annotated[
        str | None,
        typer.Argument(help="Also check the config keys of this workload: a bundled one, or module:function."),
    ] = None,
) -> None:
    """Print a JSON schema of sweep files, for editors.

    raysweep schema > sweep.schema.json

    raysweep schema first:run > first.schema.json
    """
    from raysweep.orchestrator.sweep.json_schema import schema as json_schema
    from raysweep.orchestrator.sweep.loading.workload import load_workload

    print_json(json_schema(None if workload is None else load_workload(workload, (str(Path.cwd()),))))


def write(name: str, folder: Path, *, function: bool = False) -> list[Path]:
    """Write `name.toml` and `name.py`, a script or a module with a function, into a folder.

    Raises:
        InputError: the name cannot be that of a new module, a file exists already, or the folder cannot be written.
    """
    from raysweep.orchestrator.sweep.loading.source import OURS

    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or len(name) > 60:
        fail(f"new: {short_repr(name)} cannot name a Python module; use letters, digits and '_', as in my_sweep")
    if name == OURS or name in sys.stdlib_module_names:
        fail(f"new: {name!r} is a module of {'raysweep' if name == OURS else 'Python'} itself; choose another name")
    code, sweep = (WORKLOAD, SWEEP) if function else (SCRIPT, SWEEP_OF_SCRIPT)
    files = {folder / f"{name}.py": code, folder / f"{name}.toml": sweep.replace("{name}", name)}
    problems = [f"new: {path} exists already; nothing was written" for path in files if path.exists()]
    if problems:
        raise InputError(problems)
    for path, text in files.items():
        try:
            with path.open("x", encoding="utf-8") as file:  # "x": never overwrite
                file.write(text)
        except OSError as error:
            fail(f"new: {path}: {error.strerror or error}")
    return list(files)


class Setting(NamedTuple):
    """A config key of a workload, as it may appear in `[config]`, in `[[grid]]` and after `--set`."""

    name: str
    default: str  # as TOML; empty if there is none, or if it depends on the method
    valid: str
    about: str


def settings(workload: Workload) -> list[Setting]:
    """List the keys of the workload's `Config`, in order.

    The list is empty if the workload has no `Config`. Then any key is valid.
    """
    if workload.config_model is None:
        return []
    schema: dict[str, Any] = workload.config_model.model_json_schema()
    required = schema.get("required", [])
    return [
        Setting(
            name,
            "required" if name in required else _toml(field.get("default")),
            _valid(field),
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def title(workload: Workload) -> str:
    """Return the first paragraph of the workload module's docstring on one line; "" if it has no docstring."""
    with workload.code.active():
        text = inspect.getdoc(importlib.import_module(workload.module)) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _toml(default: object) -> str:
    return "" if default is None else json.dumps(default, ensure_ascii=False)


def _valid(field: dict[str, Any]) -> str:
    """Describe in words which values are valid for a field of a JSON schema."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(map(_kind, kinds)))


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(map(_toml, field["enum"]))
    name = field.get("type", "any")
    kind = {"string": "text", "boolean": "true, false", "array": "list"}.get(name, name)
    limits = (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below"))
    return " ".join([kind, *(f"{words} {field[key]:g}" for key, words in limits if key in field)])


SCRIPT = '''"""Gradient descent on a noisy parabola in ten dimensions: an example to replace with your own script.

It knows nothing of raysweep. Each line that it prints as a JSON object is read: the last value of each key is a metric
of the cell, all values of a key are a curve.
"""

import argparse
import json
import random

parser = argparse.ArgumentParser()
parser.add_argument("--optimizer", choices=["sgd", "momentum"], default="sgd")
parser.add_argument("--rate", type=float, default=0.1)
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

rng = random.Random(args.seed)  # all randomness comes from the seed, so that a cell can be repeated
point = [rng.gauss(0, 1) for _ in range(10)]
speed = [0.0] * len(point)
for step in range(args.steps + 1):
    if step % 10 == 0:
        print(json.dumps({"step": step, "loss": sum(x * x for x in point) / 2}))
    for i in range(len(point)):
        gradient = point[i] + 0.1 * rng.gauss(0, 1)
        speed[i] = (0.9 * speed[i] if args.optimizer == "momentum" else 0.0) - args.rate * gradient
        point[i] += speed[i]
'''

SWEEP_OF_SCRIPT = """# A sweep: which cells to run. A cell is one run of the command.
# raysweep plan {name}.toml      shows what would run
# raysweep launch {name}.toml    runs the cells that are not done; results go into the folder `results`

name = "{name}"
title = "Gradient descent on a noisy parabola"

# {optimizer}, {rate}, {steps} and {seed} are filled in for each cell. "{args}" stands for all of them, as flags.
command = "python {name}.py --optimizer {optimizer} --rate {rate} --steps {steps} --seed {seed}"
seeds = "0..4"                  # both ends included; or a list: [42, 123, 7]

[config]                        # settings of all cells
steps = 200

[resources]                     # how a cell runs, not what it computes: changes here make no new cells
cpus = 1
timeout_s = 60                  # a cell that runs longer is stopped and recorded as timed_out

# Each block is the product of its lists: 2 optimizers x 2 rates x 5 seeds = 20 cells.
[[grid]]
optimizer = ["sgd", "momentum"]
rate = [0.05, 0.2]
"""

WORKLOAD = '''"""A workload: the computation of one cell. Only the function `run` is required.

Example: gradient descent on a noisy parabola in ten dimensions. Replace it with your own.
"""

import random

from pydantic import BaseModel

VERSION = "1"  # change it when the results change: cells get new ids, and old rows stay as they are
METHODS = ("sgd", "momentum")  # any other name is refused before anything runs


class Config(BaseModel, frozen=True, extra="forbid"):
    """Settings of a cell, checked when a sweep is planned. Without this class, any setting is accepted."""

    rate: float = 0.1
    noise: float = 0.1
    steps: int = 200


def run(cell, context):
    """Compute one cell; return its metrics, finite numbers by name.

    `cell` has method, k (here: how many coordinates each step updates), seed and config; `context` takes arrays,
    progress, and checkpoints of long cells. All randomness comes from the seed, so that a cell can be repeated.
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
    context.array("loss", losses)  # a curve: a row of the table `arrays`
    return {"loss": losses[-1], "loss_mean": sum(losses) / len(losses)}
'''

SWEEP = """# A sweep: which cells to run. Only workload, seeds and [[grid]] are required.
# raysweep plan {name}.toml      shows what would run
# raysweep launch {name}.toml    runs the cells that are not done; results go into the folder `results`

name = "{name}"
title = "Gradient descent on a noisy parabola"
workload = "{name}:run"         # module:function; the module is beside this file
seeds = "0..4"                  # both ends included; or a list: [42, 123, 7]

[config]                        # settings of all cells
steps = 200

[resources]                     # how a cell runs, not what it computes: changes here make no new cells
cpus = 1
timeout_s = 60                  # a cell that runs longer is stopped and recorded as timed_out

# Each block is the product of its lists: 2 methods x 2 rates x 5 seeds = 20 cells.
[[grid]]
method = ["sgd", "momentum"]
rate = [0.05, 0.2]

# `k` is a key of its own, beside the method: 2 x 5 = 10 more cells.
[[grid]]
method = "sgd"
k = [2, 5]
rate = 0.2
"""
