"""The options that several commands share."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from raysweep.orchestrator.schedule.limits import MAX_ALIKE as MAX_ALIKE
from raysweep.orchestrator.schedule.limits import NODE_WAIT_MIN as NODE_WAIT_MIN

MANY = 10_000


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


Sweeps = Annotated[
    list[str],
    typer.Argument(metavar="SWEEP...", help="A .toml, a folder, or a bundled name or prefix (paper/e1-sine)."),
]
MaybeSweeps = Annotated[
    list[str] | None, typer.Argument(metavar="[SWEEP...]", help="Default: everything the store knows.")
]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="RAYSWEEP_STORE", help="The store: a folder, or s3://BUCKET/PREFIX.")
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Where data sets lie; default: RAYSWEEP_DATA, or ./data.")
]
Where = Annotated[str | None, typer.Option(help='SQL predicate over cells: "k <= 8 and seed = 42".')]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a config key; gives new cells.")]
Seeds = Annotated[str | None, typer.Option(help='Other seeds: "0..19" or "1,2,5".')]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster: auto or HOST:PORT. Default: Ray on this machine.")
]
Submit = Annotated[
    str | None,
    typer.Option(metavar="URL", help="As a Ray job on the cluster whose head's console is at http://HEAD:8265."),
]
Follow = Annotated[bool, typer.Option("--follow", help="With --submit: show the job's log till it ends.")]
Inline = Annotated[bool, typer.Option("--inline", help="In this process, without Ray.")]
Device = Annotated[str, typer.Option(help="auto: the GPUs that cells ask for; cpu: none; cuda: one at least.")]
Timeout = Annotated[float | None, typer.Option(min=0.001, max=1e9, callback=_finite, help="Seconds a cell may run.")]
Retries = Annotated[int | None, typer.Option(min=0, max=1_000_000, help="Repeats after a cell's own error.")]
MaxFailures = Annotated[int | None, typer.Option(min=1, help="Begin no more cells after so many failed.")]
MaxAlike = Annotated[
    int,
    typer.Option(min=0, help="Stop a method in which so many cells fail alike, and no fewer than succeed; 0: never."),
]
MaxHours = Annotated[float | None, typer.Option(min=0.0, callback=_finite, help="Begin no more cells after so long.")]
NodeWait = Annotated[
    float,
    typer.Option(
        min=0.0, callback=_finite, help="Minutes to wait for a node that an autoscaler is to bring; 0: for ever."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help=f"Do not ask before more than {MANY:,} new cells.")]
TrustStore = Annotated[
    bool,
    typer.Option("--trust-store", help="Run users' modules that the store names, though someone else recorded them."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another launch on the store to end.")]
Rerun = Annotated[bool, typer.Option("--rerun-changed", help="Run done cells again whose workload's code changed.")]
