"""`launch` and `resume` with --submit: the driver runs on the cluster's head, and this machine may go."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import typer

from raysweep.orchestrator.cli.output import ask_before_many, fail, how_many, print_json, say

if TYPE_CHECKING:
    from raysweep.orchestrator.launch.request import Request

_HERE = {"sweeps", "submit", "follow", "address", "inline", "yes"}
"""Parameters that are not passed on to the head."""


def submit(context: typer.Context, verb: str, prepared: Request | None) -> None:
    """Ship a launch to the head and start it there.

    Args:
        context: of the command, with what was typed.
        verb: launch or resume.
        prepared: the sweeps, read here, so that what is wrong with them is said here; None: what the store knows.

    Raises:
        InputError: the store or the data would not be found on the head, or nothing answers there.
        typer.Exit: with --follow, with the job's own exit code.
    """
    from raysweep.orchestrator.cli.submission import check_data, check_store, job
    from raysweep.orchestrator.executors.ray.jobs import Jobs

    given = context.params
    if given["address"] is not None or given["inline"]:
        fail("--submit runs the launch on the cluster's head: without --address and --inline")
    store, address = given["store"], given["submit"]
    check_store(store)
    check_data(given["data_dir"])
    if not given["yes"]:  # which of them are done, the head's store alone knows
        ask_before_many(0 if prepared is None else len(prepared.table), "up to ")
    with job(verb, prepared, passed_on(context)) as made:
        jobs = Jobs(address)
        number = jobs.submit(made)
    log = f"ray job logs --address {shlex.quote(jobs.address)} --follow {number}"
    stop = f"ray job stop --address {shlex.quote(jobs.address)} {number}"
    status = f"raysweep status --store {shlex.quote(store)}"
    if given["as_json"] and not given["follow"]:
        print_json({"job": number, "address": jobs.address, "store": store, "log": log, "stop": stop, "status": status})
        return
    cells = "" if prepared is None else f", {how_many(len(prepared.table))} asked for"
    say(f"submitted as {number} to {jobs.address}{cells}; this machine may go")
    say(f"log:    {log}\nstop:   {stop}\nstatus: {status} (where the store is seen)")
    sys.stdout.flush()
    if not given["follow"]:
        return
    try:
        code = jobs.follow(number, say)
    except KeyboardInterrupt:
        say(f"\n{number} runs on; to end it: {stop}")
        raise typer.Exit(130) from None
    raise typer.Exit(code)


def passed_on(context: typer.Context) -> list[str]:
    """The options that were typed, or set by the environment, as words for the head's command line."""
    words = []
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name in _HERE or source is None or source.name.startswith("DEFAULT"):
            continue
        option, value = max(parameter.opts, key=len), context.params[name]
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            words += [f"{option}={each}" for each in (value if isinstance(value, list | tuple) else [value])]
    return words
