"""The commands `new`, `workload` and `schema`: what one starts a sweep with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysweep.orchestrator.cli.options import Json
from raysweep.orchestrator.cli.output import print_json, say


def new(name: Annotated[str, typer.Argument(help="Of the module and the sweep, as in my_sweep.")]) -> None:
    """Write NAME.py and NAME.toml here: a commented workload and sweep to start from.

    raysweep new first && raysweep launch first.toml
    """
    from raysweep.orchestrator.cli.new import write

    for path in write(name, Path()):
        say(f"written: {path}")
    say(f"next: raysweep plan {name}.toml")


def workload(
    name: Annotated[
        str | None, typer.Argument(help="One of ours, or module:function of yours; default: all ours.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a workload can be asked for: its methods, its settings, their defaults and what is valid.

    raysweep workload vit

    raysweep workload first:run
    """
    from raysweep.orchestrator.cli.workload_settings import ours, settings, title
    from raysweep.orchestrator.sweep.workload import load_workload

    if name is None:
        found = {known: title(load_workload(known)) for known in ours()}
        if as_json:
            print_json(found)
        for known, about in () if as_json else found.items():
            say(f"{known:<12} {about}")
        return
    chosen = load_workload(name, (str(Path.cwd()),))
    keys = settings(chosen)
    methods = None if chosen.methods is None else sorted(chosen.methods)
    if as_json:
        print_json({"title": title(chosen), "methods": methods, "settings": [key._asdict() for key in keys]})
        return
    say(f"{chosen.name}: {title(chosen)}")
    say(f"methods: {'any name' if methods is None else ', '.join(methods)}")
    if not keys:
        say("settings: none" if chosen.config_model else "settings: any key, as it declares no Config")
        return
    say("settings, for [config], a [[grid]] block or --set (no default: none, or as the method has it):")
    names, defaults, valid = (max(len(str(key[column])) for key in keys) for column in range(3))
    for key in keys:
        line = f"  {key.name:<{names}}  {key.default:<{defaults}}  {key.valid:<{min(valid, WIDE)}}  {key.about}"
        say(line.rstrip())


WIDE = 40
"""Characters of a column; longer values push the next one aside."""


def schema(
    workload: Annotated[
        str | None, typer.Argument(help="One of ours, or module:function of yours: its config keys are checked, too.")
    ] = None,
) -> None:
    """Print a JSON schema of sweep files, for editors.

    raysweep schema > sweep.schema.json

    raysweep schema first:run > first.schema.json
    """
    from raysweep.orchestrator.sweep.json_schema import schema as made
    from raysweep.orchestrator.sweep.workload import load_workload

    print_json(made(None if workload is None else load_workload(workload, (str(Path.cwd()),))))
