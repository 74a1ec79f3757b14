"""Errors of the analysis: refusals, exit code 2; no cell is done yet, exit code 1."""

from __future__ import annotations

from collections.abc import Sequence

from raysweep.orchestrator.errors import InputError, RaysweepError


class NothingDone(RaysweepError):
    """No cell of a table or figure is done; the message names the command that runs them."""


class MissingSeeds(InputError):
    """A reference (floor or ceiling) lacks cells that the frame has; the message names them."""


class AmbiguousCells(InputError):
    """The frame holds cells of several settings where one is needed; the message says which differ.

    Args:
        problems: the message.
        differing: its part on the differences, for other messages.
        choice: an SQL predicate over the experiment's cells that leaves one setting; empty: none is known.
    """

    def __init__(self, problems: Sequence[str] | str, differing: str = "", choice: str = "") -> None:
        super().__init__(problems)
        self.differing, self.choice = differing, choice
