"""The command `debug`: one cell that the store knows, run in this process and recorded nowhere."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.cells import one_cell
from raysweep.orchestrator.cli.data import use_data
from raysweep.orchestrator.cli.options import DataDir, StoreOption, TrustStore
from raysweep.orchestrator.cli.output import fail, say, warn

if TYPE_CHECKING:
    from raysweep.orchestrator.run.context import RunContext
    from raysweep.orchestrator.store.checkpoints import CheckpointLocation
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.workload import Workload


TELL_S = 5.0
"""Between two words on how far the cell is."""


def debug(
    cell: Annotated[str, typer.Argument(metavar="CELL_ID", help="An id or the beginning of one.")],
    store: StoreOption = "results",
    pdb: Annotated[bool, typer.Option("--pdb", help="Open the debugger where it raises.")] = False,
    data_dir: DataDir = None,
    trust_store: TrustStore = False,
) -> None:
    """Run one cell again in this process, done or failed, and record nothing.

    Prints, breakpoint() and profilers work as in any script; Ctrl-C shows where it is. Exit 1 if it raises. Ends with
    whether the recorded metrics are the same.

    raysweep debug 3f5b

    raysweep debug 3f5b --pdb
    """
    from raysweep.orchestrator.run.cell import call, formatted
    from raysweep.orchestrator.run.context import RunContext
    from raysweep.orchestrator.run.messages import Task
    from raysweep.orchestrator.run.threads import threads
    from raysweep.orchestrator.store.checkpoints import Checkpoint
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.identity import cell_name
    from raysweep.orchestrator.sweep.workload import shadowed_module

    if pdb and (sys.stdin is None or sys.stdin.closed):
        fail("--pdb: there is no input to give the debugger commands by")
    use_data(data_dir)
    opened = Store(store).require()
    key = one_cell(opened.known(), cell)
    workload = _workload(opened, key["cell_id"], key["workload"], trust_store)
    name = cell_name(key["experiment"], key["method"], key["k"], key["seed"], key["cell_id"])
    say(f"{name} by {workload.source_path}, in this process; nothing is recorded")
    warn(filter(None, [shadowed_module(workload, str(Path.cwd()))]))
    if workload.version != key["workload_version"]:
        warn(
            [f"it is of version {key['workload_version']!r} of {workload.name}, and what runs is {workload.version!r}"]
        )
    task = Task(0, key["cell_id"], key["method"], key["k"], key["seed"], key["config"], 1, None)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(_own_home(Path(folder)), key["cell_id"], 1, workload.source_digest)
        context = RunContext("cuda" if key["gpus"] else "cpu", checkpoint, _percent())
        began = time.perf_counter()
        try:
            with threads(key["cpus"]):
                metrics = call(workload, key["experiment"], task, context)
        except BaseException as error:  # Ctrl-C is how one finds where a cell hangs
            trace = error.__traceback__ and error.__traceback__.tb_next  # without the frame here
            say(formatted(error.with_traceback(trace)).rstrip())
            if pdb:
                import pdb as debugger

                debugger.post_mortem(trace)
            raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
        _show(metrics, context, time.perf_counter() - began)
        say(_compared(opened, key["cell_id"], metrics, workload.source_digest))


def _workload(store: Store, cell_id: str, name: str, trust: bool) -> Workload:
    """The cell's workload, found as a bare `resume` finds it."""
    import polars as pl

    from raysweep.orchestrator.launch.request import refuse_foreign
    from raysweep.orchestrator.sweep.workload import load_workload

    entries = [e for e in store.sweeps() if not e.table.cells.filter(pl.col("cell_id") == cell_id).is_empty()]
    entry = max(entries, key=lambda e: e.own)
    if not trust:
        refuse_foreign(store, [entry])
    return load_workload(name, (*entry.about["search"], str(Path.cwd())))


def _own_home(folder: Path) -> CheckpointLocation:
    """A place for the cell's checkpoints, which goes with the folder."""
    from raysweep.orchestrator.store.checkpoints import CheckpointLocation

    (folder / "_tmp").mkdir()
    (folder / "proof").write_bytes(b"")
    return CheckpointLocation(str(folder), "proof", hashlib.sha256().hexdigest())


def _compared(store: Store, cell_id: str, metrics: Mapping[str, float], digest: str) -> str:
    """Against what is recorded of the cell."""
    import polars as pl

    done = store.collect(lambda: store.cells.filter(pl.col("cell_id") == cell_id).select("metrics", "source_digest"))
    if done.is_empty():
        return "nothing is recorded of it to compare with"
    recorded = {metric["name"]: metric["value"] for metric in done["metrics"][0]}
    code = "" if done["source_digest"][0] == digest else ", by other code"
    if recorded == metrics:
        return f"the same metrics are recorded{code}"
    other = [f"{n} = {v}" for n, v in recorded.items() if metrics.get(n) != v]
    other += [f"no {n}" for n in metrics if n not in recorded]
    return (
        f"recorded{code}, and not the same: {', '.join(other)}; {len(recorded.items() & metrics.items())} are the same"
    )


def _percent() -> Callable[[float], None]:
    """What says how far a cell is, not too often."""
    last = time.monotonic()

    def tell(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_S:
            last = time.monotonic()
            typer.echo(f"{fraction:.0%}", err=True)

    return tell


def _show(metrics: dict[str, float], context: RunContext, seconds: float) -> None:
    say("metrics:" + ("" if metrics else " none"))
    for name, value in metrics.items():
        say(f"  {name} = {value}")
    say("arrays:" + ("" if context.arrays else " none"))
    for array in context.arrays:
        last = array.step + (len(array.values) - 1) * array.stride
        steps = f", steps {array.step} to {last}" if len(array.values) else ""
        say(f"  {array.name}: {len(array.values):,} of {array.values.dtype}{steps}")
    say(f"took {seconds:.3g} s")
