"""The command `accept`."""

from __future__ import annotations

from typing import Annotated

import typer

from raysweep.orchestrator.cli.changes import change_lines
from raysweep.orchestrator.cli.options import Seeds, Set, StoreOption, Sweeps
from raysweep.orchestrator.cli.terminal.output import fail, say
from raysweep.orchestrator.text import count_cells


def accept(
    sweeps: Sweeps,
    reason: Annotated[str | None, typer.Option(help="Why the change does not matter; it is recorded.")] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Remove what was accepted for these workloads.")] = False,
    store: StoreOption = "results",
    set_: Set = None,
    seeds: Seeds = None,
) -> None:
    """Say that a change of code does not matter: the done cells of these sweeps count as done again.

    The store records your name, the time, the reason, and both versions of the source. `raysweep plan` shows the
    name, the date and the reason. A later change of the code is not covered.

    raysweep accept digits.toml --reason "faster, same numbers"
    """
    from raysweep.orchestrator.cli.launch import requested
    from raysweep.orchestrator.launch import staleness
    from raysweep.orchestrator.launch.launch import Launch
    from raysweep.orchestrator.launch.request import Options
    from raysweep.orchestrator.store.reader import Store

    opened = Store(store).require()
    request = requested({"sweeps": sweeps, "set_": set_, "seeds": seeds, "where": None}, opened)
    if withdraw:
        if reason is not None:
            fail("--withdraw removes what was accepted, without a reason; leave --reason out")
        count = staleness.withdraw(opened, request.workloads.keys())
        say(f"{count} accepted {'change' if count == 1 else 'changes'} withdrawn")
        return
    if reason is None:
        fail('--reason: missing; say why the change does not matter, such as --reason "faster, same numbers"')
    launch = Launch(request, opened, Options())
    changes, unrecorded = staleness.by_change(launch.current_plan(), opened.summary(), launch.code_changes())
    matter = [(change, cells) for change, cells in changes if change.matters]
    if not matter and unrecorded:
        fail(f"{count_cells(unrecorded)} changed, but the store has no source of them: run them with --rerun-changed")
    staleness.accept(opened, [change for change, _ in matter], request.workloads, reason)
    for line in change_lines(matter, 0, diff=False):
        say(line)
    cells = sum(cells for _, cells in matter)
    say(f"accepted: {count_cells(cells)} count as done" if matter else "no change to accept")
