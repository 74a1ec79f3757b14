"""The commands `plan`, `launch` and `resume`."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from raysweep.orchestrator.cli.changes import change_document, change_lines
from raysweep.orchestrator.cli.data import use_data
from raysweep.orchestrator.cli.options import (
    DataDir,
    Device,
    Diff,
    Json,
    MaybeSweeps,
    Rerun,
    Seeds,
    Set,
    StoreOption,
    Sweeps,
    TrustStore,
    Where,
    typed_options,
    with_launch_options,
)
from raysweep.orchestrator.cli.terminal.output import (
    complain,
    confirm_many,
    event,
    fail,
    forecast,
    local_slots,
    print_json,
    print_result,
    say,
    typed_command,
    warn,
)
from raysweep.orchestrator.cli.terminal.streams import outlive_readers
from raysweep.orchestrator.text import at_store, count_cells, join_first, printable

if TYPE_CHECKING:
    from raysweep.orchestrator.executors.executor import Executor
    from raysweep.orchestrator.launch.request import Options, Request
    from raysweep.orchestrator.launch.rounds import Round
    from raysweep.orchestrator.schedule.plan import Plan
    from raysweep.orchestrator.store.reader import Store

_NOT_IN_HINT = {"sweeps", "submit", "follow", "yes", "wait", "as_json"}
"""Parameters of a launch that are left out of the printed command to resume it."""

RERUN = "done by code that has changed since; they run again"
"""Description of a plan's cell state `changed`, printed if --rerun-changed is given."""
_WHERE = {"inline": "in this process", "processes": "on this machine", "ray": "on Ray's current resources"}
MAX_NAMES = 3
"""Maximum number of sweeps that a launch lists by name."""


def plan(
    context: typer.Context,
    sweeps: Sweeps, store: StoreOption = "results", where: Where = None, set_: Set = None, seeds: Seeds = None,
    device: Device = "auto", data_dir: DataDir = None, rerun_changed: Rerun = False, diff: Diff = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what a launch would run, without running it.

    For done cells whose code has changed, it names the changed parts and how the workload uses them.

    raysweep plan paper/e1-sine

    raysweep plan digits.toml --seeds 0..9 --where "method = 'sgd' and rate < 0.2"
    """
    from raysweep.orchestrator.launch.drift import drift
    from raysweep.orchestrator.launch.launch import Launch
    from raysweep.orchestrator.launch.preflight import first_commands, lacking
    from raysweep.orchestrator.launch.staleness import by_change, held_back
    from raysweep.orchestrator.schedule.plan import STATES
    from raysweep.orchestrator.store.checkpoints import cells_with_checkpoints, resumable_cells
    from raysweep.orchestrator.store.reader import Store

    use_data(data_dir)
    opened = Store(store)
    request = requested(context.params, opened)
    this = Launch(request, opened, _options(context))
    planned = this.current_plan()
    changes, unrecorded = by_change(planned, opened.summary(), this.code_changes())
    missing = lacking(planned, request.workloads)
    commands = first_commands(planned, request.workloads)
    checkpoints = resumable_cells(opened.storage, planned.sources(cells_with_checkpoints(opened.storage)))
    recorded = opened.sweeps() if opened.exists() else []
    drifted, new_keys = drift(request.sweeps, request.every, recorded, request.workloads)
    if as_json:
        print_json(
            {
                "cells": len(planned.table), "states": planned.counts(), "to_run": planned.to_run,
                "with_checkpoint": len(checkpoints), "no_longer_asked_for": sum(drifted.values()),
                "new_config_keys": new_keys, "by_resource": planned.expected().to_dicts(),
                "wall_seconds_here": planned.wall_seconds(local_slots), "warnings": list(request.warnings),
                "lacks_here": missing, "commands": commands,
                "code_changes": [change_document(*entry) for entry in changes],
            }
        )  # fmt: skip
        return
    warn([*request.warnings, *(f"missing on this machine: {line}" for line in missing)])
    names = ", ".join(sweep.name for sweep in request.sweeps)
    say(f"{count_cells(len(planned.table))} in {names}" + ("" if opened.exists() else f"; new store {opened.storage}"))
    states = {**STATES, **({"changed": RERUN} if rerun_changed else {})}
    for state, count in planned.counts().items():
        if count:
            say(f"  {count:>9,}  {state:<10} {states[state]}")
    if planned.held:
        say(f"  {held_back(planned)}")
    for reason, count in drifted.items():
        say(f"  {count:>9,}  not requested now: launched {reason}; left untouched")
    for line in change_lines(changes, unrecorded, diff=diff):
        say(line)
    for workload, keys in new_keys.items():
        say(f"Config of {workload} has new keys, which give existing cells new ids: {', '.join(keys)}")
        say("  To keep the ids, mark each key with the value it had before: Annotated[float, AddedLater(0.0)],")
        say("  see workloads/interface.py.")
    for line in forecast(planned, local_slots, "on this machine"):
        say(line)
    if checkpoints:
        say(f"{count_cells(len(checkpoints))} will resume from a checkpoint")
    for command in commands.values():
        say(f"first command: {command}")
    if not planned.to_run:
        say("nothing to run")


@with_launch_options
def launch(context: typer.Context, sweeps: Sweeps, rerun_changed: Rerun = False, **_: Any) -> None:
    """Run the cells that are not done, and print the next command.

    raysweep launch digits.toml

    raysweep launch paper/e1-sine --seeds 0..19 --set learning_rate=3e-4 --store ~/runs/sine
    """
    _launch(context)


@with_launch_options
def resume(
    context: typer.Context, sweeps: MaybeSweeps = None, rerun_changed: Rerun = False, trust_store: TrustStore = False,
    **_: Any,
) -> None:  # fmt: skip
    """Run failed, timed-out and unfinished cells with new attempts.

    raysweep resume

    raysweep resume digits.toml --where "status = 'timed_out'" --timeout 600
    """
    if not sweeps and (context.params["set_"] or context.params["seeds"]):
        fail("--set and --seeds define new cells; name the sweeps they apply to")
    _launch(context)


def _launch(context: typer.Context) -> None:
    """Run `launch` or `resume`: on this machine, or on a cluster's head if --submit is given."""
    from raysweep.orchestrator.launch.request import from_store
    from raysweep.orchestrator.store.reader import Store

    params = context.params
    _refuse_contradictions(params)
    if params["submit"] is not None:
        from raysweep.orchestrator.cli.submit import submit

        with tempfile.TemporaryDirectory() as folder:  # only the head can read the store; here it counts as empty
            nowhere = Store(Path(folder) / "none")
            submit(context, requested(params, nowhere) if params["sweeps"] else None)
        return
    use_data(params["data_dir"])
    store = Store(params["store"])
    if params["sweeps"]:
        request = requested(params, store)
    else:
        request = from_store(
            store.require(), params["where"], params["timeout"], params["retries"], trust=params["trust_store"]
        )
    _run(context, store, request)


def _refuse_contradictions(params: Mapping[str, Any]) -> None:
    if params["inline"] and params["address"] is not None:
        fail("--inline runs cells in this process, --address on Ray; leave one of them out")
    if params["follow"] and params["submit"] is None:
        fail("--follow shows the log of a job that --submit starts; add --submit URL, or leave --follow out")


def requested(params: Mapping[str, Any], store: Store) -> Request:
    """Read the sweeps, apply --set, --seeds, --timeout and --retries, and warn of suspicious keys."""
    from raysweep.orchestrator.launch.request import from_sweeps, suspicious_keys, unread_keys
    from raysweep.orchestrator.sweep.spec import changed, load_all, setting

    overrides = dict(setting(text) for text in params["set_"] or ())
    sweeps = load_all(list(params["sweeps"]))
    for name in overrides:
        axes = [block.axes[name].values for sweep in sweeps for block in sweep.blocks if name in block.axes]
        if any(len(axis) > 1 for axis in axes):
            values = sorted({value for axis in axes for value in axis}, key=str)
            warn([f"--set {name} replaces the grid's list {values}, so that there are fewer cells"])
    limits = {"timeout_s": params.get("timeout"), "retries": params.get("retries")}
    sweeps = [sweep.with_resources(**limits) for sweep in changed(sweeps, overrides, params["seeds"])]
    request = from_sweeps(sweeps, store, params["where"])
    for sweep in sweeps:
        workloads = [request.workloads[name] for name in sweep.workloads]
        if all(workload.config_model is None for workload in workloads):  # a Config would have checked the keys
            warn(suspicious_keys(sweep, overrides))
            for workload in workloads:
                warn(unread_keys(workload, overrides))
    return request


def _options(context: typer.Context) -> Options:
    """Return a launch's options as typed. An option that the command does not have keeps its default."""
    from raysweep.orchestrator.launch.request import Options

    params = context.params
    names = (
        "where", "address", "device", "max_failures", "max_hours", "max_parallel", "wait", "rerun_changed", "until",
        "max_cells", "max_cpu_hours", "max_gpu_hours",
    )  # fmt: skip
    options: dict[str, Any] = {name: params[name] for name in names if name in params}
    for name in ("max_alike", "node_wait"):
        if name in params:
            options[name] = params[name] or None  # 0: no limit
    if params.get("inline"):
        options["executor"] = "inline"
    return Options(**options, resume=context.info_name == "resume", command=typed_command(), exits=True)


def _run(context: typer.Context, store: Store, request: Request) -> None:
    """Run a launch on this machine, print its result, and exit."""
    from raysweep.orchestrator.cli.terminal.progress import live
    from raysweep.orchestrator.launch.launch import Launch, executor_of
    from raysweep.orchestrator.query.example import means_by_settings

    params, options = context.params, _options(context)
    unwritten = outlive_readers()
    as_json, at = params["as_json"], at_store(params["store"])
    this = Launch(request, store, options, lambda owner: warn([f"waiting for another launch to end: {owner}"]))
    planned = this.plan()
    if not params["yes"]:
        confirm_many(int((planned.frame["run"] & (planned.frame["state"] == "new")).sum()))
    warn(request.warnings)
    if as_json:
        event("start", cells=len(planned.table), to_run=planned.to_run, store=store.storage.location)
    elif planned.to_run:
        starting = "; starting Ray" if options.is_here and executor_of(options, planned) == "ray" else ""
        names = join_first((sweep.name for sweep in request.sweeps), MAX_NAMES)
        print(f"{count_cells(len(planned.table))} in {names}, {planned.to_run:,} to run{starting}", file=sys.stderr)

    def announce(plan: Plan, executor: Executor) -> None:
        if not as_json:
            where = _WHERE[executor_of(options, plan)]
            most = options.max_parallel
            where = where if most is None else f"{where}, at most {most} at once"
            slots = executor.slots if most is None else lambda *demand: min(most, executor.slots(*demand))
            print("; ".join(forecast(plan, slots, where)), file=sys.stderr)

    def on_round(now: Round) -> None:
        if options.until is not None and as_json:
            event("round", **now._asdict())
        elif options.until is not None:
            for line in now.news:
                print(printable(line), file=sys.stderr)
            if now.cells:
                print(f"round {now.number}: {count_cells(now.cells)}", file=sys.stderr)

    with live(as_json, at) as report:
        result = this.run(report, announce, on_round)
    warn(line for line in result.warnings if line not in request.warnings)
    verb = "resume" if options.until is None else "launch"  # a failed cell is an outcome, which needs no new attempt
    again = shlex.join(["raysweep", verb, *(params["sweeps"] or ()), *typed_options(context, _NOT_IN_HINT)])
    needs_no_example = as_json or result.verdicts is not None or result.done < result.asked
    example = None if needs_no_example else means_by_settings(store, request.table)
    print_result(result, as_json, again, at, example)
    sys.stdout.flush()
    if unwritten:
        complain([f"output: {unwritten[0].strerror}"])
    raise typer.Exit(result.exit_code or int(bool(unwritten)))
