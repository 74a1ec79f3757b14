"""The commands `store check`, `store compact` and `store repair`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.orchestrator.cli.options import Json, StoreOption, Wait
from raysweep.orchestrator.cli.terminal.output import fail, print_json, say, typed_command
from raysweep.orchestrator.cli.terminal.usage import Command
from raysweep.orchestrator.text import at_store, count_cells, join_first

if TYPE_CHECKING:
    from raysweep.orchestrator.store.repair import Survey

store_app = typer.Typer(help="Verify, compact or repair a store.", no_args_is_help=True)
MAX_IDS = 5
"""Maximum number of cell ids to print when listing the cells that run again after a repair."""


@store_app.command("check", cls=Command)
def store_check(store: StoreOption = "results", as_json: Json = False) -> None:
    """Verify every segment; exit 1 if there are problems."""
    from raysweep.orchestrator.store.reader import Store

    problems = Store(store).require().check()
    if as_json:
        print_json({"problems": problems})
    else:
        for problem in problems:
            say(problem)
        say(f"{len(problems)} problems" if problems else "the store is sound")
    if problems:
        raise typer.Exit(1)


@store_app.command("compact", cls=Command)
def store_compact(store: StoreOption = "results", wait: Wait = False, as_json: Json = False) -> None:
    """Merge small segments."""
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.writer import StoreWriter

    with StoreWriter(Store(store).require(), typed_command(), wait=wait) as owner:
        report = owner.compact()
    if as_json:
        print_json({folder: {"before": before, "after": after} for folder, (before, after) in report.items()})
        return
    for folder, (before, after) in report.items():
        say(f"{folder}: {before} segments -> {after}")


@store_app.command("repair", cls=Command)
def store_repair(
    store: StoreOption = "results",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the repair.")] = False,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Move damaged files aside, so that a launch runs the lost cells again.

    First it lists the damaged files and the cells that have to run again, and asks. The files are kept in the store's
    folder _damaged.
    """
    from raysweep.orchestrator.store.lease import wait_till_free
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.repair import ASIDE, Repair, survey

    opened = Store(store, skip_damaged=True).require()
    wait_till_free(opened.storage, wait, on_damage=opened.skip)
    damage = survey(opened)
    document = {
        "damaged": [{"path": path, "problem": problem} for path, problem in damage.files.items()],
        "run_again": damage.run_again.to_dicts(), "unknown": damage.unknown,
        "lost_requests": damage.lost_requests, "repaired": False,
    }  # fmt: skip
    if not as_json:
        _say_survey(damage)
    if damage.damaged:
        if not yes:
            _confirm(document if as_json else None)
        with Repair(Store(store, skip_damaged=True), typed_command(), wait=wait) as repair:
            repair.apply(damage)
        document["repaired"] = True
    if as_json:
        print_json(document)
    elif damage.damaged:
        say(f"moved into {ASIDE}; next: raysweep resume{at_store(store)}")


def _say_survey(damage: Survey) -> None:
    if not damage.damaged:
        say("no damaged files: nothing to repair")
        return
    for problem in damage.files.values():
        say(problem)
    again = damage.run_again
    if again.is_empty():
        say("no done cell has to run again")
    else:
        lost = again["lost"].value_counts().sort("lost").rows()
        names = {"details": "arrays, texts or artifacts", "row": "row"}
        reasons = ", ".join(f"{count:,} without their {names[what]}" for what, count in lost)
        say(f"{count_cells(again.height)} to run again ({reasons}): {join_first(again['cell_id'], MAX_IDS)}")
    if damage.unknown:
        say(f"{count_cells(damage.unknown)} without any row: pending before, or lost as well")
    if damage.lost_requests:
        say("a recorded request is lost: launch its sweep again, as `raysweep resume` alone no longer knows its cells")


def _confirm(document: dict[str, Any] | None) -> None:
    """Ask the user to confirm a repair. Without a terminal, print `document` as JSON, and raise InputError."""
    if not sys.stdin.isatty():
        if document is not None:
            print_json(document)
        fail("nothing was changed; without a terminal, a repair needs --yes")
    typer.confirm("Move these files aside?", abort=True, err=True)
