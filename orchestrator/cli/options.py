"""Options that several commands share, and a function that repeats the typed options for another command line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection
from typing import Annotated

import typer

from raysweep.orchestrator.schedule.limits import MAX_ALIKE, NODE_WAIT_MIN

CONFIRM_ABOVE = 10_000
"""Number of new cells above which a launch asks for confirmation."""


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}")
    return value


Sweeps = Annotated[
    list[str],
    typer.Argument(metavar="SWEEP...", help="A .toml file, a folder, or a bundled name or pattern (paper/e1-sine)."),
]
MaybeSweeps = Annotated[
    list[str] | None, typer.Argument(metavar="[SWEEP...]", help="Default: every sweep recorded in the store.")
]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="RAYSWEEP_STORE", help="The store: a folder, or s3://BUCKET/PREFIX.")
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Folder of the data sets. Default: RAYSWEEP_DATA, or ./data.")
]
Where = Annotated[str | None, typer.Option(help='Only cells that match this SQL predicate: "k <= 8 and seed = 42".')]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a config key; this makes new cells.")
]
Seeds = Annotated[str | None, typer.Option(help='Use other seeds: "0..19" or "1,2,5".')]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="A running Ray cluster: auto or HOST:PORT; local: start Ray on this machine. Default: processes on this "
        "machine, or a local Ray if cells need GPUs."
    ),
]
Submit = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Run as a Ray job on a cluster; URL is its dashboard, http://HEAD:8265."),
]
Follow = Annotated[bool, typer.Option("--follow", help="With --submit: show the job's log until it ends.")]
Inline = Annotated[bool, typer.Option("--inline", help="Run in this process, one cell after another.")]
Device = Annotated[
    str, typer.Option(help="auto: as many GPUs as cells request; cpu: no GPUs; cuda: at least one GPU for each cell.")
]
Timeout = Annotated[
    float | None, typer.Option(min=0.001, max=1e9, callback=_finite, help="Time limit of a cell, in seconds.")
]
Retries = Annotated[int | None, typer.Option(min=0, max=1_000_000, help="Retries after an error of the cell itself.")]
MaxFailures = Annotated[int | None, typer.Option(min=1, help="Start no more cells after this many have failed.")]
MaxAlike = Annotated[
    int,
    typer.Option(min=0, help="Stop a method once this many of its cells fail alike, unless more succeed; 0: never."),
]
MaxParallel = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        "--max-parallel",
        min=1,
        help="Run at most this many cells at once. Default: as many as fit the machines.",
    ),
]
MaxHours = Annotated[
    float | None, typer.Option(min=0.0, callback=_finite, help="Start no more cells after this many hours.")
]
Until = Annotated[
    str | None,
    typer.Option(metavar="decided", help="decided: add seeds in rounds until all questions of the sweeps are decided."),
]
MaxCells = Annotated[
    int | None,
    typer.Option(min=1, help="With --until: limit on the questions' cells, those of earlier launches included."),
]
MaxCpuHours = Annotated[
    float | None, typer.Option(min=0.0, callback=_finite, help="With --until: limit on their CPU-hours, all attempts.")
]
MaxGpuHours = Annotated[
    float | None, typer.Option(min=0.0, callback=_finite, help="With --until: limit on their GPU-hours, all attempts.")
]
NodeWait = Annotated[
    float,
    typer.Option(min=0.0, callback=_finite, help="Minutes to wait for a node from the autoscaler; 0: no limit."),
]
Yes = Annotated[bool, typer.Option("--yes", help=f"Do not ask before running more than {CONFIRM_ABOVE:,} new cells.")]
TrustStore = Annotated[
    bool,
    typer.Option("--trust-store", help="Run the user modules named in the store even if another user recorded them."),
]
SkipDamaged = Annotated[
    bool, typer.Option("--skip-damaged", help="Leave out damaged files, and say what is missing, instead of failing.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another launch on the same store to end.")]
Diff = Annotated[bool, typer.Option("--diff", help="Show the text of the changed code, before and now.")]
Rerun = Annotated[bool, typer.Option("--rerun-changed", help="Run done cells again if their workload's code changed.")]


def launch_options(
    store: StoreOption = "results", where: Where = None, set_: Set = None, seeds: Seeds = None,
    address: Address = None, device: Device = "auto", inline: Inline = False, timeout: Timeout = None,
    retries: Retries = None, max_failures: MaxFailures = None, max_alike: MaxAlike = MAX_ALIKE,
    max_parallel: MaxParallel = None, max_hours: MaxHours = None, until: Until = None, max_cells: MaxCells = None,
    max_cpu_hours: MaxCpuHours = None, max_gpu_hours: MaxGpuHours = None, node_wait: NodeWait = NODE_WAIT_MIN,
    submit: Submit = None, follow: Follow = False,
    data_dir: DataDir = None, yes: Yes = False, wait: Wait = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Declare the options that `launch` and `resume` share. Never called: only its signature is used."""


def with_launch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `launch_options` to a command. The command reads their values from click's context."""
    own, shared = (inspect.signature(function, eval_str=True) for function in (command, launch_options))
    parameters = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*parameters, *shared.parameters.values()]
    )
    return command


def typed_options(context: typer.Context, without: Collection[str]) -> list[str]:
    """Return the options that were typed or set by the environment, as words of a command line.

    The parameters in `without` are left out.
    """
    words: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name in without or source is None or source.name.startswith("DEFAULT"):
            continue
        option, value = max(parameter.opts, key=len), context.params[name]
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            for each in value if isinstance(value, list | tuple) else [value]:
                words += [option, f"{each:.15g}" if isinstance(each, float) else str(each)]
    return words
