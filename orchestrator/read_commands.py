"""The commands that read a store: status, show, failures."""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.console import fail, how_many, print_frame, print_json, say, warn
from orchestrator.options import Json, StoreOption, Where

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.store import Store

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

    from orchestrator.holder import holder
    from orchestrator.prepare import select
    from orchestrator.store import Store

    opened = Store(store).require()
    if watch:
        _watch(opened, where, store, as_json)
        return
    known, warnings = select(opened.known(), opened, where)
    warn(warnings)
    states = (
        known.wide().drop("source_digest").join(opened.summary().select("cell_id", "status"), on="cell_id", how="left")
    )
    states = states.with_columns(pl.col("status").fill_null("pending"))
    counts = (
        states.group_by("experiment", "workload_version", "method", "k", "status")
        .len("cells")
        .sort("experiment", "workload_version", "method", "k", "status")
    )
    held = holder(opened.disk)
    owner, running = held or (None, [])
    if as_json:
        print_json({"counts": counts.to_dicts(), "running": running, "owner": owner})
        return
    print_frame(counts)
    for cell_id in running:
        say(f"running: {cell_id}")
    left = states.filter(pl.col("status") != "done").height
    at = "" if store == "results" else f" --store {shlex.quote(store)}"
    tail = f"; a launch is at work: {owner}" if owner else f"; next: raysweep resume{at}" if left else ""
    say(f"{states.height - left:,} of {how_many(states.height)} done{tail}")


def _watch(store: Store, where: str | None, named: str, as_json: bool) -> None:
    """Look again and again, till the launch ends: a screen on a terminal, else what changes; `--json`: objects."""
    from orchestrator.watch import event, lines, look

    at = "" if named == "results" else f" --store {shlex.quote(named)}"
    screen = sys.stdout.isatty() and not as_json
    first_seen: dict[str, datetime] = {}
    last, watched = "", False
    while True:
        seen, warnings = look(store, where)
        first_seen = {cell_id: first_seen.get(cell_id, seen.now) for cell_id in seen.running}
        said = [json.dumps(event(seen))] if as_json else lines(seen, first_seen, at)
        left = seen.states.filter(seen.states["status"] != "done").height
        ended = seen.owner is None and (watched or not left)  # of a launch that is yet to come, too
        watched = watched or seen.owner is not None
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


def show(
    cell: Annotated[str, typer.Argument(metavar="CELL_ID", help="An id or the beginning of one.")],
    store: StoreOption = "results",
    as_json: Json = False,
) -> None:
    """Show one cell: config, attempts, metrics, traceback, where it ran.

    raysweep show 3f5b
    """
    import polars as pl

    from orchestrator.chunk import cell_name
    from orchestrator.store import Store

    opened = Store(store).require()
    prefix = cell.rpartition("#")[2].lower()
    found = opened.known().wide().filter(pl.col("cell_id").str.starts_with(prefix))
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
    key = found.row(0, named=True)
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
    """Group failed attempts by likeness: the error, its message without what varies, where it was raised."""
    import polars as pl

    from orchestrator.failures import grouped
    from orchestrator.prepare import select
    from orchestrator.store import Store

    opened = Store(store).require()
    what = ["workload", "method", "status", "cell_id", "error_type", "error_message", "traceback"]
    attempts = opened.collect(lambda: opened.attempts.filter(pl.col("status") != "done").select(what))
    if where is not None:
        chosen, warnings = select(opened.known(), opened, where)
        warn(warnings)
        attempts = attempts.filter(pl.col("cell_id").is_in(chosen.cells["cell_id"].implode()))
    groups = grouped(attempts)
    if as_json:
        print_json(groups.to_dicts())
        return
    for group in groups.iter_rows(named=True):
        say(f"{how_many(group['cells'])} ({group['attempts']:,} attempts) of {group['method']}, {group['status']}:")
        say(f"    {group['failure']}")
        say(f"    such as: raysweep show {group['example'][:8]}")
    if groups.is_empty():
        say("no attempt has failed")
