"""`status --watch`: what a running launch is at, from the store alone; pure functions, but for `look`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from raysweep.orchestrator.launch.drift import DROPPED, REQUESTED, SUPERSEDED
from raysweep.orchestrator.schedule.limits import SLOW_FACTOR, SLOW_S
from raysweep.orchestrator.status import CHARGES, POLICIES, statuses_of, used_up
from raysweep.orchestrator.text import count_cells, duration, one_line, rate

if TYPE_CHECKING:
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.cells import CellTable

WINDOW_S = 300.0
"""Rates are over what ended this long ago at most."""
MAX_FAILURES, MAX_SLOW, MAX_FAR = 5, 5, 8


class Snapshot(NamedTuple):
    """The store at one moment.

    Args:
        now: UTC.
        states: one row a known cell: cell_id, name, cpus, gpus, expected_seconds, status (`pending`: no attempt),
            request_state (see `drift`), failed: its last attempt was its own failure or a loss, and where a launch is
            at work that one has tried it as often as it may.
        ended: the attempts of the last `WINDOW_S`, oldest first: finished_at, status, seconds.
        failures: the last attempts of the cells that failed last: cell_id, status, error_type, error_message,
            finished_at.
        running: ids, of the owner's last heartbeat, and how far each is, 0 to 1, where it tells.
        owner: who holds the store, if anybody.
        starting: which launch is about to, as far as this machine knows.
    """

    now: datetime
    states: pl.DataFrame
    ended: pl.DataFrame
    failures: pl.DataFrame
    running: Mapping[str, float | None]
    owner: str | None
    starting: str | None = None


class Totals(NamedTuple):
    """Counts, where all cells are done, failed or left, and what follows from them; None where it can't be known."""

    done: int
    running: int
    failed: int
    left: int
    cells_a_minute: float | None
    seconds_left: float | None


def snapshot(store: Store, where: str | None) -> tuple[Snapshot, tuple[str, ...]]:
    """Read what is needed, and warnings of the predicate."""
    from raysweep.orchestrator.launch.announce import who_starts
    from raysweep.orchestrator.launch.drift import request_state
    from raysweep.orchestrator.launch.request import select
    from raysweep.orchestrator.schedule.plan import plan
    from raysweep.orchestrator.store.lease import current_owner, newest_epoch
    from raysweep.orchestrator.store.sweeps import known_cells

    recorded = store.sweeps()
    known, warnings = select(known_cells(recorded), store, where)
    now = datetime.now(UTC)
    begun = who_starts(store.storage.location)  # before the holder is asked for: it may become one meanwhile
    held = current_owner(store.storage)
    frame = plan(known, store.summary()).frame
    k = pl.when(pl.col("k").is_null()).then(pl.lit("")).otherwise(pl.format("/k={}", "k"))
    shared = known.variants.select("variant", "cpus", "gpus", name=pl.format("{}/{}{}", "experiment", "method", k))
    states = (
        frame.join(shared, on="variant", how="left", maintain_order="left")
        .join(request_state(recorded), on="cell_id", how="left", maintain_order="left")
        .select(
            "cell_id",
            "cpus",
            "gpus",
            "expected_seconds",
            "request_state",
            name=pl.format("{}/seed={}", "name", "seed"),
            status=pl.col("status").fill_null("pending"),
        )
    )
    since = now - timedelta(seconds=WINDOW_S)
    ids = states.select("cell_id")
    ended = store.collect(
        lambda: store.attempts.filter(pl.col("finished_at") >= since)
        .select("cell_id", "finished_at", "status", "seconds")
        .join(ids.lazy(), on="cell_id", how="semi")
        .sort("finished_at")
    )  # fmt: skip
    known_ids = set(ids["cell_id"])
    running = {cell_id: held.running[cell_id] for cell_id in sorted(held.running.keys() & known_ids)} if held else {}
    charged = [status for status, policy in POLICIES.items() if policy.budget]
    suspects = states.filter(pl.col("status").is_in(charged) & ~pl.col("cell_id").is_in(list(running)))
    key = ["cell_id", "attempt"]
    of_launch = pl.col("epoch") == newest_epoch(store.storage) if held else pl.lit(value=True)
    failed = store.collect(
        lambda: store.attempts.filter(pl.col("status").is_in(charged) & of_launch)
        .select(*key, "finished_at")
        .join(suspects.lazy(), on="cell_id", how="semi")
        .sort("attempt")
        .unique("cell_id", keep="last")
        .sort("finished_at")
    )  # fmt: skip
    last = failed.tail(MAX_FAILURES)
    texts = store.collect(
        lambda: (
            store.attempts.join(last.lazy(), on=key, how="semi")
            .select("cell_id", "status", "error_type", "error_message", "finished_at")
            .sort("finished_at")
        )
    )
    if held:  # the others are tried again
        failed = _given_up(store, failed["cell_id"], of_launch, known)
    states = states.with_columns(failed=pl.col("cell_id").is_in(failed["cell_id"].implode()))
    return Snapshot(now, states, ended, texts, running, held[0] if held else None, begun), warnings


def _given_up(store: Store, cells: pl.Series, of_launch: pl.Expr, known: CellTable) -> pl.DataFrame:
    """Of these cells those that have used up their attempts in this launch, whose budget is taken to be fresh."""
    counts = {budget: pl.col("status").is_in(statuses_of(budget)).sum() for budget in CHARGES}
    charged = store.collect(
        lambda: (
            store.attempts.filter(of_launch & pl.col("cell_id").is_in(cells.implode()))
            .group_by("cell_id")
            .agg(**counts)
        )
    )
    retries = known.cells.join(known.variants.select("variant", "retries"), on="variant").select("cell_id", "retries")
    budgets = {budget: pl.col(budget) for budget in CHARGES}
    return charged.join(retries, on="cell_id").filter(used_up(budgets, pl.col("retries"))).select("cell_id")


def totals(seen: Snapshot) -> Totals:
    """Counts, rate and time left.

    Time left: what is still to be done is as long as the cost model says, and is got through as fast as what has ended
    lately was; where no length is known, cells count alike.
    """
    done = int((seen.states["status"] == "done").sum())
    failed = int(seen.states["failed"].sum())
    left = seen.states.height - done - failed
    if seen.owner is None or seen.ended.is_empty():
        return Totals(done, len(seen.running), failed, left, None, None)
    span = max((seen.now - seen.ended["finished_at"].to_list()[0]).total_seconds(), 1.0)
    good = seen.ended.filter(pl.col("status") == "done")
    cells_per_s = good.height / span
    waiting = seen.states.filter((pl.col("status") != "done") & ~pl.col("failed"))["expected_seconds"]
    worked = float(seen.ended["seconds"].fill_null(0).sum())
    seconds = None
    if worked > 0 and waiting.null_count() < len(waiting):
        mean = float(waiting.mean() or 0.0)  # type: ignore[arg-type]
        seconds = float(waiting.fill_null(mean).sum()) * span / worked
    elif cells_per_s > 0:
        seconds = left / cells_per_s
    return Totals(done, len(seen.running), failed, left, 60 * cells_per_s, seconds if left else 0.0)


def lines(seen: Snapshot, first_seen: Mapping[str, datetime], store: str) -> list[str]:
    """What the screen shows.

    Args:
        seen: the store now.
        first_seen: when a watcher first saw each running cell, UTC.
        store: what commands need to find the store, such as ` --store here`; empty for the default.
    """
    found = totals(seen)
    said = [
        f"{found.done:,} of {count_cells(seen.states.height)} done, {found.running:,} running, "
        f"{found.failed:,} failed, {found.left:,} left" + _pace(found)
    ]
    said += _by_resource(seen)
    said += _far(seen)
    slow = _slow(seen, first_seen)
    said += [f"slow: {line}" for line in slow[:MAX_SLOW]]
    said += [f"slow: {len(slow) - MAX_SLOW:,} more"] if len(slow) > MAX_SLOW else []
    said += [
        f"{row['finished_at']:%Y-%m-%d %H:%M:%S} UTC, {row['status']}: "
        f"{one_line(row['error_type'], row['error_message'])} (raysweep show {row['cell_id'][:8]}{store})"
        for row in seen.failures.iter_rows(named=True)
    ]
    undone = seen.states.filter(pl.col("status") != "done")
    if undone.is_empty() and not seen.owner:
        return [*said, f"all done; next: raysweep report{store}"]
    free = [] if seen.owner or seen.starting else ["no launch holds the store"]
    return [*said, "; ".join([*free, *next_steps(undone["request_state"], seen.owner, seen.starting, store)])]


def next_steps(request_state: pl.Series, owner: str | None, starting: str | None, store: str) -> list[str]:
    """What to do about cells that are not done, and which of them nothing is to be done about.

    Args:
        request_state: of each (see `drift`).
        owner: who holds the store, if anybody.
        starting: who is about to.
        store: what commands need to find it.
    """
    older, dropped = int((request_state == SUPERSEDED).sum()), int((request_state == DROPPED).sum())
    steps = []
    if owner:
        steps.append(f"a launch is at work: {owner}")
    elif starting:
        steps.append(f"a launch is starting: {starting}")
    elif (request_state == REQUESTED).any():
        steps.append(f"next: raysweep resume{store}")
    if older:
        steps.append(f"{count_cells(older)} of an earlier version of the workload: not run again")
    if dropped:
        steps.append(
            f"{count_cells(dropped)} asked for only before the sweep file changed: a bare resume runs them, too"
        )
    return steps


def event(seen: Snapshot) -> dict[str, object]:
    """The same for machines: one flat object a look."""
    found = totals(seen)
    return {
        "at": seen.now.isoformat(timespec="seconds"), "cells": seen.states.height, **found._asdict(),
        "running_cells": list(seen.running),
        "progress": {cell_id: far for cell_id, far in seen.running.items() if far is not None},
        "owner": seen.owner, "starting": seen.starting,
        "failures": [{**row, "finished_at": str(row["finished_at"])} for row in seen.failures.iter_rows(named=True)],
    }  # fmt: skip


def _pace(found: Totals) -> str:
    if found.cells_a_minute is None:
        return ""
    said = f"; {rate(found.cells_a_minute / 60)}" if found.cells_a_minute else ""
    return said if found.seconds_left is None else f"{said}, about {duration(found.seconds_left)} left"


def _by_resource(seen: Snapshot) -> list[str]:
    """A line for each size of cell, where there are several."""
    sizes = (
        seen.states.group_by("cpus", "gpus")
        .agg(
            done=(pl.col("status") == "done").sum(),
            running=pl.col("cell_id").is_in(list(seen.running)).sum(),
            cells=pl.len(),
        )
        .sort("gpus", "cpus")
    )
    if sizes.height < 2:
        return []
    return [
        f"  on {cpus:g} CPU{f' and {gpus:g} GPU' if gpus else ''}: {done:,} of {cells:,} done, {running:,} running"
        for cpus, gpus, done, running, cells in sizes.iter_rows()
    ]


def _far(seen: Snapshot) -> list[str]:
    """The running cells that tell how far they are, a line each."""
    told = {cell_id: far for cell_id, far in seen.running.items() if far is not None}
    names = dict(seen.states.filter(pl.col("cell_id").is_in(list(told))).select("cell_id", "name").iter_rows())
    said = [f"running: {names[cell_id]}#{cell_id[:8]}, {far:.0%}" for cell_id, far in list(told.items())[:MAX_FAR]]
    return said + ([f"running: {len(told) - MAX_FAR:,} more"] if len(told) > MAX_FAR else [])


def _slow(seen: Snapshot, first_seen: Mapping[str, datetime]) -> list[str]:
    """Running cells that take far longer than others like them, the longest first."""
    expected = {row[0]: row[1:] for row in seen.states.select("cell_id", "name", "expected_seconds").iter_rows()}
    found = []
    for cell_id in seen.running:
        name, usual = expected[cell_id]
        seconds = (seen.now - first_seen.get(cell_id, seen.now)).total_seconds()
        if usual is not None and seconds > max(SLOW_FACTOR * usual, SLOW_S):
            like = f"its like took {duration(usual)}"
            found.append((seconds, f"{name}#{cell_id[:8]} for {duration(seconds)} at least; {like}"))
    return [line for _, line in sorted(found, reverse=True)]
