"""Errors of the analysis: invalid input (exit code 2), and no completed cell (exit code 1)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence

from raysweep.orchestrator.errors import InputError, RaysweepError
from raysweep.orchestrator.text import printable


@contextlib.contextmanager
def ended_by_errors(to: str, option: str = "--to") -> Iterator[None]:
    """Print the messages of an error to standard error, and end the process with the error's exit code.

    Args:
        to: the value of the option that names what is written, for the message about a file.
        option: the option.
    """
    try:
        yield
    except (RaysweepError, OSError) as error:
        if isinstance(error, OSError):
            error = InputError(f"{option} {to}: {error.filename or to}: {error.strerror or error}")
        for problem in error.problems:
            sys.stderr.write(f"error: {printable(problem)}\n")
        sys.exit(error.exit_code)


class NothingDone(RaysweepError):
    """No cell of a table or figure is done; the message gives the command that runs the cells."""


class MissingSeeds(InputError):
    """The row of 0 % or 100 % recovery lacks seeds that other rows have. The message lists these seeds."""


class NoArrays(InputError):
    """Done cells lack a recorded array that a table or figure shows. The message counts them and lists their seeds."""


class AmbiguousCells(InputError):
    """Cells of several settings match, but one setting is needed. The message lists the differences.

    Args:
        problems: the message.
        differing: the part of the message that lists the differences, for use in other messages.
        choice: an SQL predicate that selects one of the settings; empty if unknown.
    """

    def __init__(self, problems: Sequence[str] | str, differing: str = "", choice: str = "") -> None:
        super().__init__(problems)
        self.differing, self.choice = differing, choice
