"""The commands `new` and `schema`: what one starts a sweep with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.console import print_json, say


def new(name: Annotated[str, typer.Argument(help="Of the module and the sweep, as in my_sweep.")]) -> None:
    """Write NAME.py and NAME.toml here: a commented workload and sweep to start from.

    raysweep new first && raysweep launch first.toml
    """
    from orchestrator.new import write

    for path in write(name, Path()):
        say(f"written: {path}")
    say(f"next: raysweep plan {name}.toml")


def schema(
    workload: Annotated[
        str | None, typer.Argument(help="One of ours, or module:function of yours: its config keys are checked, too.")
    ] = None,
) -> None:
    """Print a JSON schema of sweep files, for editors.

    raysweep schema > sweep.schema.json

    raysweep schema first:run > first.schema.json
    """
    from orchestrator.sweep_schema import schema as made
    from orchestrator.workload import load_workload

    print_json(made(None if workload is None else load_workload(workload, (str(Path.cwd()),))))
