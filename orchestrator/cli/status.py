"""The command `status`, with its option --watch."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.options import Json, SkipDamaged, StoreOption, Where
from raysweep.orchestrator.cli.terminal.output import (
    print_answer,
    print_frame,
    print_json,
    say,
    to_json,
    warn,
    warn_of_missing,
)
from raysweep.orchestrator.text import at_store, count_cells, join_first

if TYPE_CHECKING:
    from datetime import datetime

    from raysweep.orchestrator.store.reader import Store

MAX_PARTS = 3
"""Maximum number of changed parts that are listed per accepted change."""
WATCH_S = 2.0
"""Seconds between two updates of `status --watch`."""


def status(
    store: StoreOption = "results",
    where: Where = None,
    watch: Annotated[bool, typer.Option("--watch", help="Update every 2 s until the launch ends.")] = False,
    skip_damaged: SkipDamaged = False,
    as_json: Json = False,
) -> None:
    """Count cells by experiment, method and status; list running ones.

    raysweep status --watch
    """
    import polars as pl

    from raysweep.orchestrator.cli.watch import next_steps, only_in_program
    from raysweep.orchestrator.launch.announce import who_starts
    from raysweep.orchestrator.launch.drift import request_state
    from raysweep.orchestrator.launch.request import select
    from raysweep.orchestrator.launch.staleness import acceptances
    from raysweep.orchestrator.store.control import is_paused
    from raysweep.orchestrator.store.lease import newest_epoch
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.sweeps import known_cells
    from raysweep.orchestrator.sweep.identity import cell_name

    opened = Store(store, skip_damaged=skip_damaged)
    if watch:
        _watch(opened, where, store, as_json)
        return
    starting = who_starts(opened.storage.location)
    if starting and not opened.exists():
        if as_json:
            print_json({"counts": [], "running": [], "owner": None, "starting": starting})
        else:
            say(_no_store_yet(opened, starting))
        return
    recorded = opened.require().sweeps()
    cells, warnings = select(known_cells(recorded), opened, where)
    warn(warnings)
    ended = opened.summary().select("cell_id", "status")
    states = cells.cells.join(ended, on="cell_id", how="left").with_columns(pl.col("status").fill_null("pending"))
    group = ("experiment", "workload_version", "method", "k", "status")
    variants = cells.variants.select("variant", *group[:-1])
    of_variants = states.group_by("variant", "status").len("cells").join(variants, on="variant")
    counts = of_variants.group_by(group).agg(pl.col("cells").sum()).sort(group)
    owner, running = opened.owner() or (None, {})
    paused = owner is not None and is_paused(opened.storage, newest_epoch(opened.storage) or 0)
    accepted = acceptances(opened)
    warn_of_missing(opened)
    if as_json:
        progress = {cell_id: fraction for cell_id, fraction in running.items() if fraction is not None}
        state = {"running": list(running), "progress": progress, "owner": owner, "paused": paused, "starting": starting}
        more = {"accepted": [asdict(entry) for entry in accepted]} if accepted else {}
        print_answer(to_json({"counts": counts.to_dicts(), **state, **more}), opened)
        return
    print_frame(counts)
    of_running = states.filter(pl.col("cell_id").is_in(list(running))).join(
        variants, on="variant", maintain_order="left"
    )
    for row in of_running.select("experiment", "method", "k", "seed", "cell_id").iter_rows():
        fraction = running[row[-1]]
        say(f"running: {cell_name(*row)}" + ("" if fraction is None else f", {fraction:.0%}"))
    for entry in accepted:
        parts = join_first(entry.parts, MAX_PARTS)
        say(f"accepted change of {entry.workload}: {parts}; {entry.name}, {entry.time[:10]}: {entry.reason}")
    left = states.filter(pl.col("status") != "done").select("cell_id")
    in_program = only_in_program(left, cells) if left.height else False
    of_left = pl.Series(dtype=pl.String)
    if left.height:
        of_left = left.join(request_state(recorded), on="cell_id", how="left")["request_state"]
    if paused:
        say(f"paused: no cells are started until raysweep continue{at_store(store)}")
    done = f"{states.height - left.height:,} of {count_cells(states.height)} done"
    say("; ".join([done, *next_steps(of_left, owner, starting, at_store(store), in_program)]))


def _watch(store: Store, where: str | None, path: str, as_json: bool) -> None:
    """Print the state of the store every `WATCH_S` seconds until the launch ends.

    On a terminal, each update clears the screen and prints all lines of the state. Otherwise an update prints only
    the first line, and only if it has changed; the last update prints all lines. With `as_json`, each update prints a
    JSON object.
    """
    from raysweep.orchestrator.cli.watch import event, lines, snapshot
    from raysweep.orchestrator.launch.drift import REQUESTED

    is_screen = sys.stdout.isatty() and not as_json
    first_seen: dict[str, datetime] = {}
    last, was_running = "", False
    _await_store(store, as_json)
    while True:
        moment, warnings = snapshot(store, where)
        first_seen = {cell_id: first_seen.get(cell_id, moment.now) for cell_id in moment.running}
        text = [json.dumps(event(moment))] if as_json else lines(moment, first_seen, at_store(path))
        pending = ((moment.states["status"] != "done") & (moment.states["request_state"] == REQUESTED)).any()
        is_running = moment.owner is not None or moment.starting is not None
        ended = not is_running and (was_running or not pending)  # if cells are pending, a launch may still start
        was_running = was_running or is_running
        if is_screen:
            print("\x1b[H\x1b[J", end="")
        if is_screen or as_json or ended:
            warn(warnings)
            warn_of_missing(store)
            say("\n".join(text))
        elif text[0] != last:
            say(text[0])
        last = text[0]
        sys.stdout.flush()
        if ended:
            return
        time.sleep(WATCH_S)


def _await_store(store: Store, as_json: bool) -> None:
    """Wait until a launch that is starting has created the store.

    Raises:
        InputError: there is no store, and no launch is starting.
    """
    from raysweep.orchestrator.launch.announce import who_starts

    is_printed = False
    while not store.exists():
        starting = who_starts(store.storage.location)
        if starting is None:
            store.require()  # raises, unless the store was created a moment ago
            return
        if not is_printed:
            is_printed = True
            say(json.dumps({"starting": starting}) if as_json else _no_store_yet(store, starting))
            sys.stdout.flush()
        time.sleep(WATCH_S)


def _no_store_yet(store: Store, starting: str) -> str:
    return f"no store at {store.storage} yet; a launch is starting: {starting}"
