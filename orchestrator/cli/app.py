"""The command line. Parses, calls, prints; heavy modules are imported by the commands that need them."""

from __future__ import annotations

import io
import os
import shlex
import sys
import tempfile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.orchestrator.cli import (
    analysis,
    cells,
    debug,
    scaffold,
)
from raysweep.orchestrator.cli import (
    query as query_commands,
)
from raysweep.orchestrator.cli import (
    submit as submission_commands,
)
from raysweep.orchestrator.cli.cluster import cluster_app
from raysweep.orchestrator.cli.data import data_app, use_data
from raysweep.orchestrator.cli.options import (
    MAX_ALIKE,
    NODE_WAIT_MIN,
    Address,
    DataDir,
    Device,
    Follow,
    Inline,
    Json,
    MaxAlike,
    MaxFailures,
    MaxHours,
    MaybeSweeps,
    NodeWait,
    Rerun,
    Retries,
    Seeds,
    Set,
    StoreOption,
    Submit,
    Sweeps,
    Timeout,
    TrustStore,
    Wait,
    Where,
    Yes,
)
from raysweep.orchestrator.cli.output import (
    ask_before_many,
    complain,
    event,
    fail,
    forecast,
    local_slots,
    print_json,
    print_result,
    say,
    warn,
)
from raysweep.orchestrator.cli.report import report
from raysweep.orchestrator.text import at_store, count_cells

if TYPE_CHECKING:
    from raysweep.orchestrator.executors.executor import Executor
    from raysweep.orchestrator.launch.request import Request
    from raysweep.orchestrator.schedule.plan import Plan
    from raysweep.orchestrator.store.reader import Store

app = typer.Typer(
    name="raysweep",
    help="Sweeps on Ray for machine-learning research: nothing lost, everything queryable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
store_app = typer.Typer(help="Verify or compact the store.", no_args_is_help=True)
app.add_typer(store_app, name="store")
app.add_typer(data_app, name="data")
app.add_typer(cluster_app, name="cluster")


def main() -> None:
    """Entry point: our errors become one message and their exit code."""
    from raysweep.orchestrator.errors import InputError, RaysweepError, missing_extra

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows a "?" for a line of a table
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # while a full disk can still be said
    except InputError as error:
        complain(error.problems)
        sys.exit(error.exit_code)
    except RaysweepError as error:
        complain([str(error)])
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error)) is None:
            raise
        complain(missing.problems)
        sys.exit(missing.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would try again, and say so at length
        complain([f"{error.filename or 'output'}: {error.strerror or error}"])
        sys.exit(1)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("raysweep"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sweeps on Ray for machine-learning research: nothing lost, everything queryable."""


@app.command()
def plan(
    sweeps: Sweeps, store: StoreOption = "results", where: Where = None, set_: Set = None, seeds: Seeds = None,
    device: Device = "auto", data_dir: DataDir = None, rerun_changed: Rerun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Show what a launch would run, and run nothing.

    raysweep plan paper/e1-sine

    raysweep plan digits.toml --seeds 0..9 --where "method = 'sgd' and rate < 0.2"
    """
    from raysweep.orchestrator.launch.drift import drift
    from raysweep.orchestrator.launch.launch import plan_of
    from raysweep.orchestrator.launch.preflight import lacking
    from raysweep.orchestrator.launch.request import Options
    from raysweep.orchestrator.schedule.plan import STATES
    from raysweep.orchestrator.store.checkpoints import cells_with_checkpoints, resumable_cells

    use_data(data_dir)
    opened, prepared = _prepare(sweeps, store, where, set_, seeds)
    planned = plan_of(prepared, opened, Options(rerun_changed=rerun_changed, device=device))
    lacks = lacking(planned, prepared.workloads)
    kept = len(resumable_cells(opened.storage, planned.sources(cells_with_checkpoints(opened.storage))))
    recorded = opened.sweeps() if opened.exists() else []
    why, new_keys = drift(prepared.sweeps, prepared.every, recorded, prepared.workloads)
    counts, expected = planned.counts(), planned.expected()
    if as_json:
        print_json(
            {
                "cells": len(planned.table), "states": counts, "to_run": int(planned.frame["run"].sum()),
                "with_checkpoint": kept, "no_longer_asked_for": sum(why.values()), "new_config_keys": new_keys,
                "by_resource": expected.to_dicts(), "wall_seconds_here": planned.wall_seconds(local_slots),
                "warnings": list(prepared.warnings), "lacks_here": lacks,
            }
        )  # fmt: skip
        return
    warn([*prepared.warnings, *(f"not on this machine: {line}" for line in lacks)])
    new = "" if opened.exists() else f"; store {opened.storage}: none yet"
    say(f"{count_cells(len(planned.table))} in {', '.join(s.name for s in prepared.sweeps)}{new}")
    for state, count in counts.items():
        if count:
            say(f"  {count:>9,}  {state:<10} {STATES[state]}")
    for reason, count in why.items():
        say(f"  {count:>9,}  not asked for now: launched {reason}; left untouched")
    for name, keys in new_keys.items():
        say(f"Config of {name} has new keys, which make new cells of the old ones: {', '.join(keys)}")
        say("  (to keep those, mark a key with the value that they had: Annotated[float, AddedLater(0.0)], see")
        say("  workloads/interface.py)")
    for line in forecast(planned, local_slots, "on this machine"):
        say(line)
    if kept:
        say(f"{count_cells(kept)} of these to go on from a checkpoint")
    if not planned.frame["run"].any():
        say("nothing to run")


@app.command()
def launch(
    context: typer.Context,
    sweeps: Sweeps, store: StoreOption = "results", where: Where = None, set_: Set = None, seeds: Seeds = None,
    address: Address = None, device: Device = "auto", inline: Inline = False, timeout: Timeout = None,
    retries: Retries = None, max_failures: MaxFailures = None,
    max_alike: MaxAlike = MAX_ALIKE, max_hours: MaxHours = None, rerun_changed: Rerun = False,
    node_wait: NodeWait = NODE_WAIT_MIN, submit: Submit = None, follow: Follow = False,
    data_dir: DataDir = None, yes: Yes = False, wait: Wait = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Run what is missing; ends with counts and what to type next.

    raysweep launch digits.toml

    raysweep launch paper/e1-sine --seeds 0..19 --set learning_rate=3e-4 --store ~/runs/sine
    """
    from raysweep.orchestrator.launch.request import Options

    if submit is not None:
        submission_commands.submit(context, "launch", _elsewhere(sweeps, where, set_, seeds, timeout, retries))
        return
    use_data(data_dir)
    opened, prepared = _prepare(sweeps, store, where, set_, seeds, timeout, retries)
    options = Options(
        where=where, rerun_changed=rerun_changed, executor="inline" if inline else "ray", address=address,
        device=device, max_failures=max_failures, max_alike=max_alike or None, max_hours=max_hours,
        node_wait=node_wait or None, wait=wait, command=_command(),
    )  # fmt: skip
    again = _again(sweeps, store, where, set_, seeds, address, device, data_dir)
    _finish(opened, prepared, options, yes, as_json, again, at_store(store))


@app.command()
def resume(
    context: typer.Context,
    sweeps: MaybeSweeps = None, store: StoreOption = "results", where: Where = None, set_: Set = None,
    seeds: Seeds = None, address: Address = None, device: Device = "auto", inline: Inline = False,
    timeout: Timeout = None, retries: Retries = None, max_failures: MaxFailures = None,
    max_alike: MaxAlike = MAX_ALIKE, max_hours: MaxHours = None, node_wait: NodeWait = NODE_WAIT_MIN,
    submit: Submit = None, follow: Follow = False, data_dir: DataDir = None, trust_store: TrustStore = False,
    yes: Yes = False, wait: Wait = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Run again what failed, timed out or never finished, with a fresh budget of attempts.

    raysweep resume

    raysweep resume digits.toml --where "status = 'timed_out'" --timeout 600
    """
    from raysweep.orchestrator.launch.request import Options, from_store

    if not sweeps and (set_ or seeds):
        fail("--set and --seeds make new cells: name the sweeps they are for")
    if submit is not None:
        prepared = _elsewhere(sweeps, where, set_, seeds, timeout, retries) if sweeps else None
        submission_commands.submit(context, "resume", prepared)
        return
    use_data(data_dir)
    options = Options(
        where=where, resume=True, executor="inline" if inline else "ray", address=address,
        device=device, max_failures=max_failures, max_alike=max_alike or None, max_hours=max_hours,
        node_wait=node_wait or None, wait=wait, command=_command(),
    )  # fmt: skip
    if sweeps:
        opened, prepared = _prepare(sweeps, store, where, set_, seeds, timeout, retries)
    else:
        opened = _store(store).require()
        prepared = from_store(opened, where, timeout, retries, trust=trust_store)
    again = _again(sweeps, store, where, set_, seeds, address, device, data_dir)
    _finish(opened, prepared, options, yes, as_json, again, at_store(store))


for reading in (
    cells.status,
    cells.show,
    cells.failures,
    debug.debug,
    query_commands.query,
):
    app.command()(reading)
for command in (
    analysis.table,
    analysis.figure,
    analysis.claims,
    report,
    query_commands.export,
    scaffold.new,
    scaffold.workload,
    scaffold.schema,
):
    app.command()(command)


@store_app.command("check")
def store_check(store: StoreOption = "results", as_json: Json = False) -> None:
    """Verify every segment; exit 1 if anything is wrong."""
    opened = _store(store).require()
    problems = opened.check()
    if as_json:
        print_json({"problems": problems})
    else:
        for problem in problems:
            say(problem)
        say(f"{len(problems)} problems" if problems else "the store is sound")
    if problems:
        raise typer.Exit(1)


@store_app.command("compact")
def store_compact(store: StoreOption = "results", wait: Wait = False, as_json: Json = False) -> None:
    """Merge small segments."""
    from raysweep.orchestrator.store.writer import StoreWriter

    opened = _store(store).require()
    with StoreWriter(opened, _command(), wait=wait) as owner:
        report = owner.compact()
    if as_json:
        print_json({folder: {"before": b, "after": a} for folder, (b, a) in report.items()})
        return
    for folder, (before, after) in report.items():
        say(f"{folder}: {before} segments -> {after}")


# Behind the commands


def _store(path: str) -> Store:
    from raysweep.orchestrator.store.reader import Store

    return Store(path)


def _prepare(
    names: list[str], store: str, where: str | None, set_: list[str] | None, seeds: str | None,
    timeout: float | None = None, retries: int | None = None,
) -> tuple[Store, Request]:  # fmt: skip
    from raysweep.orchestrator.launch.request import from_sweeps, suspicious_keys
    from raysweep.orchestrator.sweep.spec import changed, load_all, setting

    settings = dict(setting(text) for text in set_ or ())
    sweeps = load_all(names)
    if settings:
        for name in settings:
            listed = sorted(
                {v for s in sweeps for b in s.blocks for v in b.axes.get(name, ()) if len(b.axes[name]) > 1}, key=str
            )
            if listed:
                warn([f"--set {name} takes the place of a grid's list {listed}; fewer cells are asked for"])
    sweeps = [s.with_resources(timeout_s=timeout, retries=retries) for s in changed(sweeps, settings, seeds)]
    opened = _store(store)
    prepared = from_sweeps(sweeps, opened, where)
    for sweep in sweeps:
        if prepared.workloads[sweep.workload].config_model is None:  # else it has been checked
            warn(suspicious_keys(sweep, settings))
    return opened, prepared


def _elsewhere(
    names: list[str], where: str | None, set_: list[str] | None, seeds: str | None,
    timeout: float | None, retries: int | None,
) -> Request:  # fmt: skip
    """The sweeps of a launch whose store is on another machine."""
    with tempfile.TemporaryDirectory() as empty:
        return _prepare(names, os.path.join(empty, "none"), where, set_, seeds, timeout, retries)[1]


def _again(
    sweeps: list[str] | None, store: str, where: str | None, set_: list[str] | None, seeds: str | None,
    address: str | None, device: str, data_dir: str | None,
) -> list[str]:  # fmt: skip
    """The words after `raysweep resume` that ask for the same cells in the same place; the store's come last."""
    words = [*(sweeps or ())]
    given = (("--where", where), ("--seeds", seeds), ("--address", address), ("--data-dir", data_dir))
    for option, value in given:
        words += [] if value is None else [option, value]
    for setting in set_ or ():
        words += ["--set", setting]
    words += [] if device == "auto" else ["--device", device]
    return [*words, *shlex.split(at_store(store))]


def _finish(
    opened: Store, prepared: Request, options: Any, yes: bool, as_json: bool, again: list[str], at: str
) -> None:  # fmt: skip
    from raysweep.orchestrator.cli.progress import live
    from raysweep.orchestrator.launch.launch import Launch

    this = Launch(prepared, opened, options, lambda owner: warn([f"waiting for another launch to end: {owner}"]))
    planned = this.plan()
    new = int((planned.frame["run"] & (planned.frame["state"] == "new")).sum())
    if not yes:
        ask_before_many(new)
    warn(prepared.warnings)
    if planned.frame["run"].any() and not as_json:
        count = int(planned.frame["run"].sum())
        starting = "" if options.executor == "inline" or options.address else "; starting Ray"
        print(f"{count_cells(len(planned.table))}, {count:,} to run{starting}", file=sys.stderr)
    if as_json:
        event("start", cells=len(planned.table), to_run=int(planned.frame["run"].sum()), store=opened.storage.location)

    def announce(plan: Plan, executor: Executor) -> None:
        if not as_json:
            where = "in this process" if options.executor == "inline" else "on what Ray offers now"
            print("; ".join(forecast(plan, executor.slots, where)), file=sys.stderr)

    result = this.run(live(as_json, at), announce)
    warn(line for line in result.warnings if line not in prepared.warnings)
    print_result(result, as_json, again, at)
    raise typer.Exit(result.exit_code)


def _command() -> str:
    return "raysweep " + shlex.join(sys.argv[1:])


if __name__ == "__main__":
    main()
