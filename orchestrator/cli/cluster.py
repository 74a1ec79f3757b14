"""The command `cluster check`: validates a cluster file, and checks that its nodes can run the cells of sweeps."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from raysweep.orchestrator.cli.options import Device, Json, Seeds, Set
from raysweep.orchestrator.cli.terminal.output import fail, print_json, say, warn
from raysweep.orchestrator.cli.terminal.usage import Command
from raysweep.orchestrator.text import count_cells

cluster_app = typer.Typer(help="Check a cluster before it costs money.", no_args_is_help=True)
FILE = "cluster.yaml"


@cluster_app.command("check", cls=Command)
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLUSTER.YAML] [SWEEP...]",
            help=f"Ray's cluster file, and the sweeps to run on it. Default file, without --address: {FILE}.",
        ),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Check this running Ray cluster: auto or HOST:PORT.")] = None,
    device: Device = "auto", set_: Set = None, seeds: Seeds = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Validate a cluster file offline, and check that cells fit its nodes.

    Ray's own rules apply. Every cell of the sweeps must fit a node of the file or of the running cluster.

    raysweep cluster check cluster.yaml paper/e7-heads

    raysweep cluster check --address auto digits.toml
    """
    from raysweep.orchestrator.executors.ray.capacity import of_cluster, of_file
    from raysweep.orchestrator.executors.ray.cluster_file import read
    from raysweep.orchestrator.executors.resources import listed, offer

    files = [name for name in names or () if name.endswith((".yaml", ".yml"))]
    sweeps = [name for name in names or () if name not in files]
    if len(files) > 1 or (files and address is not None):
        fail("give either one cluster file or --address of a running cluster")
    requested = _demands(sweeps, set_, seeds, device)  # first: errors in sweeps are reported without a cluster
    if address is None:
        file = read(files[0] if files else FILE)
        offered, where, advice = of_file(file), f"{file.path} (provider {file.provider})", list(file.advice)
    else:
        offered, where, advice = of_cluster(address), f"the cluster at {address}", []
    remedies = ["add a node type that has it"] if address is None else ["use --address with a larger cluster"]
    problems = offered.problems(requested, remedies)
    cells = sum(count for _, count in requested)
    scaling = offered.scaling
    if as_json:
        print_json(
            {
                "nodes": offered.nodes, "types": [vars(kind) for kind in scaling.types] if scaling else [],
                "most_nodes": scaling.most if scaling else None, "advice": advice, "problems": problems, "cells": cells,
            }
        )  # fmt: skip
    else:
        up = f"{len(offered.nodes)} node{'' if len(offered.nodes) == 1 else 's'} up"
        say(f"{where}: {'valid' if address is None else up}")
        for node in offered.nodes:
            say(f"  node: {offer(node)}")
        if scaling is not None:
            types = listed(scaling) if scaling.types_known else "of unknown types"
            say(f"  may start {scaling.most or 'more'} nodes: {types}")
        warn(advice)
        for problem in problems:
            say(problem)
        if sweeps and not problems:
            say(f"every cell fits a node ({count_cells(cells)})")
    if problems:
        raise typer.Exit(1)


def _demands(sweeps: list[str], set_: list[str] | None, seeds: str | None, device: str) -> list[tuple[Any, int]]:
    from raysweep.orchestrator.executors.resources import demands
    from raysweep.orchestrator.launch.launch import on_device
    from raysweep.orchestrator.sweep.cells import expand
    from raysweep.orchestrator.sweep.spec import changed, load_all, setting

    if not sweeps:
        if set_ or seeds:
            fail("--set and --seeds change sweeps; name the sweeps as well")
        return []
    requested = changed(load_all(sweeps), dict(setting(text) for text in set_ or ()), seeds)
    table = on_device(expand(requested), device)
    return demands(table.cells, table.variants)
