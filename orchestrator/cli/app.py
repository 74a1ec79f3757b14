"""The commands and their entry point. Heavy modules are imported only by the commands that need them."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from typing import Annotated, Any

import typer
import typer.core

from raysweep.orchestrator.cli import (
    accept,
    analysis,
    artifacts,
    ask,
    cells,
    control,
    data,
    launch,
    logs,
    query,
    scaffold,
    serve,
    status,
    store,
)
from raysweep.orchestrator.cli.cluster import cluster_app
from raysweep.orchestrator.cli.terminal.output import complain
from raysweep.orchestrator.cli.terminal.streams import open_missing
from raysweep.orchestrator.cli.terminal.usage import Command
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.process import SIGNALS, Interrupts, handle_signals
from raysweep.orchestrator.waits import exit_now, is_any_abandoned


class _Commands(typer.core.TyperGroup):
    """The group of all commands. A SystemExit in a command comes from a user's code, and becomes an InputError."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and report an interrupt on standard error."""
        try:
            return super().invoke(ctx)
        except SystemExit as error:
            raise InputError(f"code that the command called ended it: SystemExit({error.code})") from error
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise


app = typer.Typer(
    name="raysweep", cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True
)

PAPER = "The paper's experiments"
COMMANDS = {
    "Start": (scaffold.new, scaffold.workload, scaffold.schema),
    "Run": (
        launch.plan,
        launch.launch,
        launch.resume,
        control.pause,
        control.continue_,
        control.cancel,
        accept.accept,
        cells.debug,
    ),
    "Watch": (status.status, serve.serve, logs.logs, cells.show, cells.failures),
    "Results": (query.query, query.export, ask.best, ask.compare, ask.diff, ask.questions, analysis.report),
    PAPER: (analysis.table, analysis.figure, analysis.claims),
}
"""Title of a group in `raysweep --help` -> its commands."""
for panel, commands in COMMANDS.items():
    for command in commands:
        name = command.__name__.replace("_", "")  # `continue` is a word of Python's
        app.command(name, cls=Command, rich_help_panel=panel)(command)
app.add_typer(artifacts.artifacts_app, name="artifacts", rich_help_panel="Results")
app.add_typer(data.data_app, name="data", rich_help_panel=PAPER)
app.add_typer(store.store_app, name="store", rich_help_panel="Stores and clusters")
app.add_typer(cluster_app, name="cluster", rich_help_panel="Stores and clusters")


def main() -> None:
    """Run the command line, and exit. A RaysweepError is printed without a traceback, and sets the exit code."""
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows "?" for a table's rules
    try:
        handle_signals(Interrupts())
        code = _run()
    except KeyboardInterrupt:  # between two of these lines
        code = 130
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the exit code is decided
    if is_any_abandoned():  # the interpreter's exit would wait for Ray, or crash in it
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        exit_now(code)
    sys.exit(code)


def _run() -> int:
    """Run the command, and return its exit code."""
    from raysweep.orchestrator.errors import RaysweepError, missing_extra

    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, so that a full disk is still reported as an error
    except RaysweepError as error:
        complain(error.problems)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error)) is None:
            raise
        complain(missing.problems)
        return missing.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter flushes again at exit, with a traceback
        complain([f"{error.filename or 'output'}: {error.strerror or error}"])
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


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
