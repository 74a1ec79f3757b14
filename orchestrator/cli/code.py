"""The code behind rows: the lines of `plan` about changes, and the command `accept`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.options import Seeds, Set, StoreOption, Sweeps
from raysweep.orchestrator.cli.output import fail, say
from raysweep.orchestrator.text import count_cells

if TYPE_CHECKING:
    from raysweep.orchestrator.code.meaning import Difference
    from raysweep.orchestrator.launch.staleness import CodeChange

MAX_PARTS = 8
"""Changed parts that are listed."""


def change_lines(changes: Sequence[tuple[CodeChange, int]], unrecorded: int, *, diff: bool) -> Iterator[str]:
    """The lines of a plan about changed code. `diff`: with the text before and now."""
    for change, cells in changes:
        if change.accepted:
            yield f"{count_cells(cells)} done by other code, whose changes were accepted:"
            for entry in change.accepted:
                yield f"  {entry.name}, {entry.time[:10]}: {entry.reason}"
        else:
            yield f"changed since {count_cells(cells)} {'was' if cells == 1 else 'were'} done:"
        shown = change.differences if diff else change.differences[:MAX_PARTS]
        for difference in shown:
            yield f"  {difference.file}: {difference.what}{_chain(difference)}"
            if diff:
                yield from (f"    {line}" for line in text_diff(difference))
        if len(change.differences) > len(shown):
            yield f"  and {len(change.differences) - len(shown)} more (--diff lists all)"
    if unrecorded:
        yield f"{count_cells(unrecorded)} changed without a recorded source: any byte of the files counts"


def _chain(difference: Difference) -> str:
    return f", used by {' > '.join(difference.chain)}" if difference.chain else ""


def text_diff(difference: Difference) -> Iterator[str]:
    """The lines that differ between the two versions of a part, with a few lines around them."""
    before, after = ((text or "").splitlines() for text in (difference.before, difference.after))
    lines = difflib.unified_diff(before, after, lineterm="", n=2)
    return (line for line in lines if not line.startswith(("---", "+++")))


def accept(
    sweeps: Sweeps,
    reason: Annotated[str | None, typer.Option(help="Why the change does not matter; it is recorded.")] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Remove what was accepted for these workloads.")] = False,
    store: StoreOption = "results",
    set_: Set = None,
    seeds: Seeds = None,
) -> None:
    """Say that a change of code does not matter: the done cells of these sweeps count as done again.

    The store records your name, the time, the reason and both sources; plan shows them. A later change counts anew.

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
