"""The commands that read a store: status, show, failures."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.orchestrator.cli.options import Json, StoreOption, Where
from raysweep.orchestrator.cli.output import fail, print_frame, print_json, say, warn
from raysweep.orchestrator.text import at_store, count_cells, join_first

if TYPE_CHECKING:
    from datetime import datetime

    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.cells import CellTable

MAX_SEEDS = 5
"""Of a group of failures that are named."""
WATCH_S = 2.0
"""Between two looks of `status --watch`."""


def status(
    store: StoreOption = "results",
    where: Where = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s, till the launch ends.")] = False,
    as_json: Json = False,
) -> None:
    """Count the cells by experiment, method and status; say what runs now.

    raysweep status --watch
    """
    import polars as pl

    from raysweep.orchestrator.cli.watch import next_steps
    from raysweep.orchestrator.launch.announce import who_starts
    from raysweep.orchestrator.launch.drift import request_state
    from raysweep.orchestrator.launch.request import select
    from raysweep.orchestrator.store.lease import current_owner
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.sweeps import known_cells
    from raysweep.orchestrator.sweep.identity import cell_name

    opened = Store(store)
    if watch:
        _watch(opened, where, store, as_json)
        return
    begun = who_starts(opened.storage.location)
    if begun and not opened.exists():
        if as_json:
            print_json({"counts": [], "running": [], "owner": None, "starting": begun})
        else:
            say(f"no store at {opened.storage} yet; a launch is starting: {begun}")
        return
    recorded = opened.require().sweeps()
    known, warnings = select(known_cells(recorded), opened, where)
    warn(warnings)
    states = (
        known.wide()
        .drop("source_digest")
        .join(opened.summary().select("cell_id", "status"), on="cell_id", how="left")
        .join(request_state(recorded), on="cell_id", how="left")
    )
    states = states.with_columns(pl.col("status").fill_null("pending"))
    counts = (
        states.group_by("experiment", "workload_version", "method", "k", "status")
        .len("cells")
        .sort("experiment", "workload_version", "method", "k", "status")
    )
    held = current_owner(opened.storage)
    owner, running = held or (None, {})
    if as_json:
        told = {cell_id: far for cell_id, far in running.items() if far is not None}
        now = {"running": list(running), "progress": told, "owner": owner, "starting": begun}
        print_json({"counts": counts.to_dicts(), **now})
        return
    print_frame(counts)
    named = states.filter(pl.col("cell_id").is_in(list(running))).select("experiment", "method", "k", "seed", "cell_id")
    for row in named.iter_rows():
        far = running[row[-1]]
        say(f"running: {cell_name(*row)}" + ("" if far is None else f", {far:.0%}"))
    left = states.filter(pl.col("status") != "done")
    done = f"{states.height - left.height:,} of {count_cells(states.height)} done"
    say("; ".join([done, *next_steps(left["request_state"], owner, begun, at_store(store))]))


def _watch(store: Store, where: str | None, named: str, as_json: bool) -> None:
    """Look again and again, till the launch ends: a screen on a terminal, else what changes; `--json`: objects."""
    from raysweep.orchestrator.cli.watch import event, lines, snapshot
    from raysweep.orchestrator.launch.drift import REQUESTED

    screen = sys.stdout.isatty() and not as_json
    first_seen: dict[str, datetime] = {}
    last, watched = "", False
    _await(store, as_json)
    while True:
        seen, warnings = snapshot(store, where)
        first_seen = {cell_id: first_seen.get(cell_id, seen.now) for cell_id in seen.running}
        said = [json.dumps(event(seen))] if as_json else lines(seen, first_seen, at_store(named))
        to_come = ((seen.states["status"] != "done") & (seen.states["request_state"] == REQUESTED)).any()
        at_work = seen.owner is not None or seen.starting is not None
        ended = not at_work and (watched or not to_come)  # of a launch that is yet to come, too
        watched = watched or at_work
        if screen:
            print("\x1b[H\x1b[J", end="")
        if screen or as_json or ended:
            warn(warnings)
            say("\n".join(said))
        elif said[0] != last:
            say(said[0])
        last = said[0]
        sys.stdout.flush()
        if ended:
            return
        time.sleep(WATCH_S)


def _await(store: Store, as_json: bool) -> None:
    """Wait for the store that a launch which is starting will make."""
    from raysweep.orchestrator.launch.announce import who_starts

    said = False
    while not store.exists():
        begun = who_starts(store.storage.location)
        if begun is None:
            store.require()  # it may have been made since it was looked for
            return
        if not said:
            said = True
            line = f"no store at {store.storage} yet; a launch is starting: {begun}"
            say(json.dumps({"starting": begun}) if as_json else line)
            sys.stdout.flush()
        time.sleep(WATCH_S)


def one_cell(known: CellTable, cell: str) -> dict[str, Any]:
    """The one of these cells, with its variant's columns, whose id begins so; or InputError."""
    import polars as pl

    prefix = cell.rpartition("#")[2].lower()
    found = known.keep(known.cells.filter(pl.col("cell_id").str.starts_with(prefix))["cell_id"]).wide()
    if not prefix or found.height != 1:
        some = ", ".join(found["cell_id"][:5])
        fail(
            f"cell {cell!r}: "
            + (
                f"{found.height} cells begin like this: {some}; give more of the id"
                if prefix and found.height
                else 'no such cell in the store; `raysweep query "SELECT cell_id FROM cells"` lists them'
            )
        )
    return found.row(0, named=True)


def show(
    cell: Annotated[str, typer.Argument(metavar="CELL_ID", help="An id or the beginning of one.")],
    store: StoreOption = "results",
    as_json: Json = False,
) -> None:
    """Show one cell: config, attempts, metrics, traceback, where it ran.

    raysweep show 3f5b
    """
    import polars as pl

    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.identity import cell_name

    opened = Store(store).require()
    key = one_cell(opened.known(), cell)
    this = pl.col("cell_id") == key["cell_id"]
    done = opened.collect(lambda: opened.cells.filter(this)).to_dicts()
    attempts = opened.collect(lambda: opened.attempts.filter(this).sort("attempt")).to_dicts()
    last = done[0] if done else attempts[-1] if attempts else None
    about = {
        "name": cell_name(key["experiment"], key["method"], key["k"], key["seed"], key["cell_id"]),
        "cell_id": key["cell_id"], "sweep": key["sweep"], "experiment": key["experiment"],
        "method": key["method"], "k": key["k"], "seed": key["seed"],
        "workload": f"{key['workload']} version {key['workload_version']}",
        "status": last["status"] if last else "pending", "config": json.loads(key["config"]),
        "metrics": {m["name"]: m["value"] for m in last["metrics"]} if last else {},
    }  # fmt: skip
    if as_json:
        print_json({**about, "attempts": attempts})
        return
    for name, value in about.items():
        if isinstance(value, dict):
            say(f"{name}:" + ("" if value else " none"))
            for k, v in value.items():
                say(f"  {k} = {v}")
        else:
            say(f"{name}: {value}")
    say(f"attempts: {len(attempts)}")
    for a in attempts:
        seconds = "" if a["seconds"] is None else f", {a['seconds']:.3g} s"
        where = f" on {a['host']} (pid {a['pid']})" if a["host"] else ""
        commit = (
            f", commit {a['git_commit'][:10]}{' with changes' if a['git_dirty'] else ''}" if a["git_commit"] else ""
        )
        say(f"  {a['attempt']}: {a['status']}, {a['started_at']:%Y-%m-%d %H:%M:%S} UTC{seconds}{where}{commit}")
        if a["error_type"]:
            say(f"     {a['error_type']}: {a['error_message']}")
        if a["traceback"]:
            say("     " + a["traceback"].rstrip().replace("\n", "\n     "))
        if a["log_tail"]:
            say("     printed: " + a["log_tail"].rstrip().replace("\n", "\n              "))


def failures(store: StoreOption = "results", where: Where = None, as_json: Json = False) -> None:
    """Group cells that failed by likeness: their last error, its message without what varies, where it was raised.

    Cells that are done since are only counted.
    """
    import polars as pl

    from raysweep.orchestrator.launch.drift import SUPERSEDED, request_state
    from raysweep.orchestrator.launch.request import select
    from raysweep.orchestrator.schedule.failure_groups import grouped
    from raysweep.orchestrator.status import POLICIES
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.sweeps import known_cells

    opened = Store(store).require()
    recorded = opened.sweeps()
    charged = [status for status, policy in POLICIES.items() if policy.budget]
    what = ["cell_id", "attempt", "workload", "method", "seed", "status", "error_type", "error_message", "traceback"]
    last = opened.collect(
        lambda: (
            opened.attempts.filter(pl.col("status").is_in(charged))
            .select(what)
            .sort("attempt")
            .unique("cell_id", keep="last")
        )
    )
    if where is not None:
        chosen, warnings = select(known_cells(recorded), opened, where)
        warn(warnings)
        last = last.filter(pl.col("cell_id").is_in(chosen.cells["cell_id"].implode()))
    about = last.select("cell_id").join(opened.summary().select("cell_id", "status"), on="cell_id")
    about = about.join(request_state(recorded), on="cell_id", how="left")
    done = about.filter(pl.col("status") == "done")["cell_id"]
    older = about.filter((pl.col("status") != "done") & (pl.col("request_state") == SUPERSEDED))["cell_id"]
    groups = grouped(last.filter(~pl.col("cell_id").is_in([*done, *older]))).drop("attempts")
    if as_json:
        print_json(groups.to_dicts())
        return
    for group in groups.iter_rows(named=True):
        seeds = f"{'seed' if len(group['seeds']) == 1 else 'seeds'} {join_first(group['seeds'], MAX_SEEDS)}"
        say(f"{count_cells(group['cells'])} of {group['method']}, {seeds}, {group['status']}:")
        say(f"    {group['failure']}")
        say(f"    such as: raysweep show {group['example'][:8]}{at_store(store)}")
    if groups.is_empty():
        say("no cell has failed" if last.is_empty() else "no cell is failed now")
    if len(done):
        say(f"{count_cells(len(done))} failed at first and {'is' if len(done) == 1 else 'are'} done since")
    if len(older):
        say(f"{count_cells(len(older))} failed under an earlier version of the workload, and are not run again")
