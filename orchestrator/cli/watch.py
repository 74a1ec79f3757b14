"""`status --watch`: the state of a running launch, from the store alone. Only `snapshot` reads the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from raysweep.orchestrator.cli.terminal.output import finite
from raysweep.orchestrator.launch.announce import who_starts
from raysweep.orchestrator.launch.display import slow
from raysweep.orchestrator.launch.drift import DROPPED, REQUESTED, SUPERSEDED, request_state
from raysweep.orchestrator.launch.request import select
from raysweep.orchestrator.schedule.limits import SLOW_FACTOR, SLOW_S
from raysweep.orchestrator.schedule.plan import plan
from raysweep.orchestrator.schedule.progress import pace
from raysweep.orchestrator.status import CHARGES, POLICIES, statuses_of, used_up
from raysweep.orchestrator.store.control import is_paused
from raysweep.orchestrator.store.lease import newest_epoch
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import known_cells
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.text import count_cells, one_line, pace_in_words

if TYPE_CHECKING:
    from raysweep.analysis.questions.declared import Verdict

WINDOW_S = 300.0
"""Length in seconds of the time before a snapshot over which rates are averaged."""
MAX_FAILURES, MAX_SLOW, MAX_RUNNING, MAX_LOGGED = 5, 5, 8, 4


class Snapshot(NamedTuple):
    """The state of a store at one moment.

    Args:
        now: the time of the snapshot, UTC.
        states: one row per known cell. Columns: cell_id, name, cpus, gpus, expected_seconds, status (`pending`
            without an attempt), request_state (see `drift`) and failed. `failed` is true if the last attempt failed
            or was lost, and no running launch will retry the cell.
        ended: one row per attempt that ended in the last `WINDOW_S` seconds, oldest first. Columns: started_at,
            finished_at, status, seconds. If a launch is running, only its attempts are included.
        failures: the last attempts of the most recently failed cells. Columns: cell_id, status, error_type,
            error_message, finished_at.
        running: cell id -> fraction done (None if not reported), for the cells that the owner's last heartbeat lists.
        owner: description of the launch that owns the store, if any.
        starting: description of the launch on this machine that is about to own the store, if any.
        logged: cell id -> metric name -> (last step, last value), for the running cells that log metrics.
        questions: the verdicts on the questions that sweeps declare; empty if only a part of the cells was selected.
        in_program: whether a cell that is not done needs its program or notebook to run (see `only_in_program`).
    """

    now: datetime
    states: pl.DataFrame
    ended: pl.DataFrame
    failures: pl.DataFrame
    running: Mapping[str, float | None]
    owner: str | None
    starting: str | None = None
    logged: Mapping[str, Mapping[str, tuple[int, float]]] = MappingProxyType({})
    questions: tuple[Verdict, ...] = ()
    in_program: bool = False


class Totals(NamedTuple):
    """Counts of cells (done + failed + left = all), the rate and the time left. Unknown values are None."""

    done: int
    running: int
    failed: int
    left: int
    cells_a_minute: float | None
    seconds_left: float | None


def snapshot(store: Store, where: str | None) -> tuple[Snapshot, tuple[str, ...]]:
    """Read a snapshot of the store. Also returns warnings about the predicate `where`."""
    from raysweep.analysis.questions.declared import questions

    recorded = store.sweeps()
    cells, warnings = select(known_cells(recorded), store, where)
    now = datetime.now(UTC)
    starting = who_starts(store.storage.location)  # read before the owner, which it may become meanwhile
    owner = store.owner()
    frame = plan(cells, store.summary()).frame
    k = pl.when(pl.col("k").is_null()).then(pl.lit("")).otherwise(pl.format("/k={}", "k"))
    shared = cells.variants.select("variant", "cpus", "gpus", name=pl.format("{}/{}{}", "experiment", "method", k))
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
    of_launch = pl.col("epoch") == newest_epoch(store.storage) if owner else pl.lit(value=True)
    ended = store.collect(
        lambda: store.attempts.filter((pl.col("finished_at") >= since) & of_launch)
        .select("cell_id", "started_at", "finished_at", "status", "seconds")
        .join(ids.lazy(), on="cell_id", how="semi")
        .sort("finished_at")
    )  # fmt: skip
    all_ids = set(ids["cell_id"])
    running = {cell_id: owner.running[cell_id] for cell_id in sorted(owner.running.keys() & all_ids)} if owner else {}
    charged = [status for status, policy in POLICIES.items() if policy.budget]
    suspects = states.filter(pl.col("status").is_in(charged) & ~pl.col("cell_id").is_in(list(running)))
    key = ["cell_id", "attempt"]
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
    if owner:  # the launch retries the other cells
        failed = _out_of_attempts(store, failed["cell_id"], of_launch, cells)
    states = states.with_columns(failed=pl.col("cell_id").is_in(failed["cell_id"].implode()))
    logged = {
        state.cell_id: {name: (c.steps[-1], c.values[-1]) for name, c in state.curves.items() if c.steps}
        for state in (store.live() if owner else ())
        if state.cell_id in running
    }
    verdicts = tuple(questions(store)) if where is None else ()
    left_in_program = only_in_program(states.filter(pl.col("status") != "done").select("cell_id"), cells)
    who = owner[0] if owner else None
    if owner and is_paused(store.storage, newest_epoch(store.storage) or 0):
        who = f"{who}; it is paused (raysweep continue)"
    return Snapshot(now, states, ended, texts, running, who, starting, logged, verdicts, left_in_program), warnings


def _out_of_attempts(store: Store, ids: pl.Series, of_launch: pl.Expr, cells: CellTable) -> pl.DataFrame:
    """Return the cells among `ids` that have used up their retries in the running launch.

    `of_launch` is a predicate on attempts: whether the running launch made them. Earlier attempts do not count.
    """
    counts = {budget: pl.col("status").is_in(statuses_of(budget)).sum() for budget in CHARGES}
    charged = store.collect(
        lambda: (
            store.attempts.filter(of_launch & pl.col("cell_id").is_in(ids.implode())).group_by("cell_id").agg(**counts)
        )
    )
    retries = cells.cells.join(cells.variants.select("variant", "retries"), on="variant").select("cell_id", "retries")
    budgets = {budget: pl.col(budget) for budget in CHARGES}
    return charged.join(retries, on="cell_id").filter(used_up(budgets, pl.col("retries"))).select("cell_id")


def totals(moment: Snapshot) -> Totals:
    """Compute counts, rate and time left from a snapshot.

    seconds_left = E * T / W. E is the expected seconds of all cells left. W is the total seconds of the attempts in
    `moment.ended`. T is the seconds since the first of these attempts began, at most `WINDOW_S`. If no duration is
    known, E is the number of cells left, and W the number of done cells in `moment.ended`.
    """
    done = int((moment.states["status"] == "done").sum())
    failed = int(moment.states["failed"].sum())
    left = moment.states.height - done - failed
    if moment.owner is None or moment.ended.is_empty():
        return Totals(done, len(moment.running), failed, left, None, None)
    began = min(moment.ended["started_at"].to_list())  # no pause between launches, no start of Ray
    span = max(min((moment.now - began).total_seconds(), WINDOW_S), 1.0)
    cells = moment.ended.filter(pl.col("status") == "done").height
    expected = moment.states.filter((pl.col("status") != "done") & ~pl.col("failed"))["expected_seconds"]
    work = float(moment.ended["seconds"].fill_null(0).sum())
    if work > 0 and expected.null_count() < len(expected):
        mean = float(expected.mean() or 0.0)  # type: ignore[arg-type]
        now = pace(cells, work, float(expected.fill_null(mean).sum()), span)
    else:
        now = pace(cells, cells, left, span)
    seconds_left = now.seconds_left if left else 0.0
    return Totals(done, len(moment.running), failed, left, 60 * now.cells_per_s, seconds_left)


def lines(moment: Snapshot, first_seen: Mapping[str, datetime], at: str) -> list[str]:
    """Format the screen as lines. `first_seen`: running cell -> time at which it was first seen to run, UTC."""
    counts = totals(moment)
    cells_per_s = None if counts.cells_a_minute is None else counts.cells_a_minute / 60
    text = [
        f"{counts.done:,} of {count_cells(moment.states.height)} done, {counts.running:,} running, "
        f"{counts.failed:,} failed, {counts.left:,} left" + pace_in_words(cells_per_s, counts.seconds_left)
    ]
    text += _by_resource(moment)
    text += [line for verdict in moment.questions for line in repr(verdict).splitlines()]
    text += _limited("running", _running(moment), MAX_RUNNING)
    text += _limited("slow", _slow(moment, first_seen), MAX_SLOW)
    text += [
        f"{row['finished_at']:%Y-%m-%d %H:%M:%S} UTC, {row['status']}: "
        f"{one_line(row['error_type'], row['error_message'])} (raysweep show {row['cell_id'][:8]}{at})"
        for row in moment.failures.iter_rows(named=True)
    ]
    undone = moment.states.filter(pl.col("status") != "done")
    if undone.is_empty() and not moment.owner and not moment.starting:
        return [*text, f"all done; next: raysweep report{at}"]
    idle = [] if moment.owner or moment.starting else ["no launch is running"]
    return [
        *text,
        "; ".join([*idle, *next_steps(undone["request_state"], moment.owner, moment.starting, at, moment.in_program)]),
    ]


def only_in_program(ids: pl.DataFrame, cells: CellTable) -> bool:
    """Return whether any of the cells can run only from the program or notebook that defines its function.

    Args:
        ids: column cell_id.
        cells: a table that contains these cells.
    """
    from raysweep.orchestrator.sweep.loading.main_module import MAIN

    variants = cells.variants.filter(pl.col("workload").str.starts_with(f"{MAIN}:"))
    return not cells.cells.join(ids, on="cell_id", how="semi").join(variants, on="variant", how="semi").is_empty()


def next_steps(
    request_state: pl.Series, owner: str | None, starting: str | None, at: str, in_program: bool = False
) -> list[str]:
    """Suggest next steps for the cells that are not done, and count those that `resume` does not run.

    Args:
        request_state: the request state of each cell that is not done (see `launch.drift`).
        owner: description of the running launch, if any.
        starting: description of a launch that is starting, if any.
        at: the `--store` option of the suggested commands.
        in_program: whether any of the cells needs its program or notebook to run.
    """
    superseded, dropped = int((request_state == SUPERSEDED).sum()), int((request_state == DROPPED).sum())
    steps = []
    if owner:
        steps.append(f"a launch is running: {owner}")
    elif starting:
        steps.append(f"a launch is starting: {starting}")
    elif (request_state == REQUESTED).any() and in_program:
        steps.append("next: run the program or the notebook again; launch(..., resume=True) retries failed cells")
    elif (request_state == REQUESTED).any():
        steps.append(f"next: raysweep resume{at}")
    if superseded:
        steps.append(f"{count_cells(superseded)} of an earlier version of the workload: not run again")
    if dropped:
        steps.append(
            f"{count_cells(dropped)} of an earlier version of their sweep: not requested now; "
            "`raysweep resume` without a sweep runs them"
        )
    return steps


def event(moment: Snapshot) -> dict[str, object]:
    """Convert a snapshot to a dictionary that can be written as JSON."""
    return {
        "at": moment.now.isoformat(timespec="seconds"), "cells": moment.states.height, **totals(moment)._asdict(),
        "running_cells": list(moment.running),
        "progress": {cell_id: fraction for cell_id, fraction in moment.running.items() if fraction is not None},
        "logged": {
            cell_id: {name: {"step": step, "value": finite(value)} for name, (step, value) in metrics.items()}
            for cell_id, metrics in moment.logged.items()
        },
        "owner": moment.owner, "starting": moment.starting,
        "questions": [
            {"question": v.question, "verdict": v.verdict, "seeds": v.seeds, "detail": v.detail}
            for v in moment.questions
        ],
        "failures": [{**row, "finished_at": str(row["finished_at"])} for row in moment.failures.iter_rows(named=True)],
    }  # fmt: skip


def _limited(title: str, items: list[str], most: int) -> list[str]:
    """Format the first `most` items, each on a line after `title`. A last line says how many more there are, if any."""
    more = [f"{title}: {len(items) - most:,} more"] if len(items) > most else []
    return [f"{title}: {item}" for item in items[:most]] + more


def _by_resource(moment: Snapshot) -> list[str]:
    """Format counts of cells, one line per combination of CPUs and GPUs. Empty if there is only one combination."""
    sizes = (
        moment.states.group_by("cpus", "gpus")
        .agg(
            done=(pl.col("status") == "done").sum(),
            running=pl.col("cell_id").is_in(list(moment.running)).sum(),
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


def _running(moment: Snapshot) -> list[str]:
    """Return one line for each running cell that reports its progress or logs metrics."""
    cells = [c for c, fraction in moment.running.items() if fraction is not None or moment.logged.get(c)]
    names = dict(moment.states.filter(pl.col("cell_id").is_in(cells)).select("cell_id", "name").iter_rows())
    return [f"{names[c]}#{c[:8]}, {_state(moment.running[c], moment.logged.get(c, {}))}" for c in cells]


def _state(fraction: float | None, logged: Mapping[str, tuple[int, float]]) -> str:
    """Format a running cell's progress and the metrics that it logged last: `40%, step 400: loss 0.31`."""
    parts = [] if fraction is None else [f"{fraction:.0%}"]
    if logged:
        last = max(step for step, _ in logged.values())
        values = [f"{name} {value:.4g}" for name, (step, value) in logged.items() if step == last]
        parts.append(f"step {last}: {', '.join(values[:MAX_LOGGED])}")
    return ", ".join(parts)


def _slow(moment: Snapshot, first_seen: Mapping[str, datetime]) -> list[str]:
    """Describe the running cells that take far longer than similar ones, the longest first."""
    expected = {row[0]: row[1:] for row in moment.states.select("cell_id", "name", "expected_seconds").iter_rows()}
    cells = []
    for cell_id in moment.running:
        name, usual = expected[cell_id]
        seconds = (moment.now - first_seen.get(cell_id, moment.now)).total_seconds()
        if usual is not None and seconds > max(SLOW_FACTOR * usual, SLOW_S):
            cells.append((seconds, f"{name}#{cell_id[:8]}, at least {slow(seconds, usual)}"))
    return [text for _, text in sorted(cells, reverse=True)]
