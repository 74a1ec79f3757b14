"""The command line: parsing, calls and printing. Heavy modules are imported only by the commands that need them."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from raysweep.orchestrator.cli import analysis, ask, cells, data, launch, query, scaffold, status
from raysweep.orchestrator.cli.cluster import cluster_app
from raysweep.orchestrator.cli.options import Json, StoreOption, Wait
from raysweep.orchestrator.cli.output import complain, print_json, say, typed_command

app = typer.Typer(name="raysweep", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True)
store_app = typer.Typer(help="Verify or compact a store.", no_args_is_help=True)

COMMANDS = (
    launch.plan, launch.launch, launch.resume, status.status, cells.show, cells.failures, cells.debug, query.query,
    query.export, ask.best, ask.compare, ask.diff, ask.questions, analysis.table, analysis.figure, analysis.claims,
    analysis.report, scaffold.new, scaffold.workload, scaffold.schema,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(store_app, name="store")
app.add_typer(data.data_app, name="data")
app.add_typer(cluster_app, name="cluster")


def main() -> None:
    """Entry point. A RaysweepError becomes its message and exit code, without a traceback."""
    from raysweep.orchestrator.errors import RaysweepError, missing_extra

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows "?" for a table's rules
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, so that a full disk is still reported as an error
    except RaysweepError as error:
        complain(error.problems)
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter flushes again at exit, with a traceback
        complain([f"{error.filename or 'output'}: {error.strerror or error}"])
        sys.exit(1)


def _print_version(requested: bool) -> None:
    if requested:
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


@store_app.command("check")
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


@store_app.command("compact")
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
