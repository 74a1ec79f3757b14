"""The commands `pause`, `continue` and `cancel`, which tell a running launch what to do, from any machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.options import StoreOption
from raysweep.orchestrator.cli.terminal.output import fail, say, warn
from raysweep.orchestrator.text import at_store, count_cells

if TYPE_CHECKING:
    from raysweep.orchestrator.store.reader import Store

ANSWER_S = 30.0
"""Maximum seconds to wait for the launch to notice a cancellation. A launch looks for one every few seconds."""
_LOOK_S = 0.1

OnlyThese = Annotated[str, typer.Option("--where", help='Cancel cells that match this SQL predicate: "lr > 0.1".')]


def pause(store: StoreOption = "results") -> None:
    """Have the running launch start no more cells, until `raysweep continue`.

    Cells that are running, or that wait for their turn on a worker, are completed and recorded. The pause counts
    towards --max-hours.

    raysweep pause
    """
    from raysweep.orchestrator.store import control
    from raysweep.orchestrator.store.reader import Store

    opened = Store(store).require()
    if not control.pause(opened.storage, _epoch(opened)):
        fail(f"the launch is paused already; raysweep continue{at_store(store)} lets it go on")
    say(f"paused; raysweep continue{at_store(store)} lets the launch go on")


def continue_(store: StoreOption = "results") -> None:
    """Let a paused launch go on.

    raysweep continue
    """
    from raysweep.orchestrator.store import control
    from raysweep.orchestrator.store.reader import Store

    opened = Store(store).require()
    if not control.unpause(opened.storage, _epoch(opened)):
        fail("the launch is not paused")
    say("the launch goes on")


def cancel(where: OnlyThese, store: StoreOption = "results") -> None:
    """Cancel cells of the running launch; the others go on.

    Running cells are ended, and get an attempt of status `cancelled`. Cells that have not begun are not run by this
    launch. The next launch or resume runs all cancelled cells. To leave cells out for good, change the sweep file.

    raysweep cancel --where "method = 'sgd' and lr > 0.1"
    """
    import polars as pl

    from raysweep.orchestrator.launch.request import select
    from raysweep.orchestrator.store import control
    from raysweep.orchestrator.store.reader import Store

    opened = Store(store).require()
    epoch = _epoch(opened)
    selected, warnings = select(opened.known(), opened, where)
    warn(warnings)
    done = opened.summary().filter(pl.col("status") == "done")["cell_id"]
    cells = selected.cells.filter(~pl.col("cell_id").is_in(done.implode()))["cell_id"].to_list()
    if not cells:
        fail(f"--where {where!r}: all {count_cells(len(selected))} that match are done; there is nothing to cancel")
    name = control.cancel(opened.storage, epoch, cells)
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until:
        if name.rpartition("/")[2] not in opened.storage.names(control.FOLDER):
            say(f"{count_cells(len(cells))} cancelled that the launch had not finished; the next launch runs them")
            return
        time.sleep(_LOOK_S)
    fail(f"the launch has not answered within {ANSWER_S:g} s; it may still cancel the cells, or have ended meanwhile")


def _epoch(opened: Store) -> int:
    """Return the generation of the store's running launch: the number of its ownership (see `store.lease`).

    Raises:
        InputError: no launch is running.
    """
    from raysweep.orchestrator.store.lease import newest_epoch

    if opened.owner() is None:
        fail(f"no launch is running on store {opened.storage}")
    return newest_epoch(opened.storage) or 0
