"""The command `cluster check`: is a cluster file right, and has every cell of a sweep a node to run on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from raysweep.orchestrator.cli.options import Address, Device, Json, Seeds, Set
from raysweep.orchestrator.cli.output import fail, print_json, say, warn
from raysweep.orchestrator.text import count_cells

cluster_app = typer.Typer(help="Check a cluster before its first bill.", no_args_is_help=True)
FILE = "cluster.yaml"


@cluster_app.command("check")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLUSTER.YAML] [SWEEP...]",
            help=f"Ray's cluster file (default: {FILE}, if there is no --address), and sweeps to be run on it.",
        ),
    ] = None,
    address: Address = None, device: Device = "auto", set_: Set = None, seeds: Seeds = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Validate a cluster file, offline, by Ray's rules; say whether it, or a running cluster, offers what cells need.

    raysweep cluster check cluster.yaml paper/e7-heads

    raysweep cluster check --address auto digits.toml
    """
    from raysweep.orchestrator.executors.ray.capacity import of_cluster, of_file
    from raysweep.orchestrator.executors.ray.cluster_file import read
    from raysweep.orchestrator.executors.resources import listed, offer

    files = [name for name in names or () if name.endswith((".yaml", ".yml"))]
    sweeps = [name for name in names or () if name not in files]
    if len(files) > 1 or (files and address is not None):
        fail("give one cluster file, or --address of a running cluster")
    asked = _sizes(sweeps, set_, seeds, device)  # what is wrong with the sweeps is said before a cluster is asked
    if address is None:
        file = read(files[0] if files else FILE)
        found, where, advice = of_file(file), f"{file.path} (provider {file.provider})", list(file.advice)
    else:
        found, where, advice = of_cluster(address), f"the cluster at {address}", []
    remedies = ["add a node type that has it"] if address is None else ["--address a larger cluster"]
    problems = found.problems(asked, remedies)
    if as_json:
        print_json(
            {
                "nodes": found.nodes, "types": [vars(kind) for kind in found.scaling.types] if found.scaling else [],
                "most_nodes": found.scaling.most if found.scaling else None, "advice": advice, "problems": problems,
                "cells": sum(count for _, count in asked),
            }
        )  # fmt: skip
    else:
        say(f"{where}: " + ("valid" if address is None else how_many_nodes(len(found.nodes))))
        for node in found.nodes:
            say(f"  a node: {offer(node)}")
        if found.scaling is not None:
            types = listed(found.scaling) if found.scaling.types_known else "of types that it does not tell"
            say(f"  may start {found.scaling.most or 'more'} nodes: {types}")
        warn(advice)
        for problem in problems:
            say(problem)
        if sweeps and not problems:
            say(f"each of {count_cells(sum(count for _, count in asked))} has a node to run on")
    if problems:
        raise typer.Exit(1)


def how_many_nodes(count: int) -> str:
    """Say `1 node up`, `3 nodes up`."""
    return f"{count} node{'' if count == 1 else 's'} up"


def _sizes(sweeps: list[str], set_: list[str] | None, seeds: str | None, device: str) -> list[tuple[Any, int]]:
    from raysweep.orchestrator.executors.resources import demands
    from raysweep.orchestrator.launch.launch import on_device
    from raysweep.orchestrator.sweep.cells import expand
    from raysweep.orchestrator.sweep.spec import changed, load_all, setting

    if not sweeps:
        if set_ or seeds:
            fail("--set and --seeds are for sweeps: name some")
        return []
    asked = changed(load_all(sweeps), dict(setting(text) for text in set_ or ()), seeds)
    table = on_device(expand(asked), device)
    return demands(table.cells, table.variants)
