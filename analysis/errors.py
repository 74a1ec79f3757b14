"""What keeps the analysis from giving a number: refusals, all of which end in exit code 2."""

from __future__ import annotations

from orchestrator.errors import InputError


class MissingSeeds(InputError):
    """A reference (floor or ceiling) lacks cells that the frame has; the message names them."""


class AmbiguousCells(InputError):
    """The frame holds cells of several settings where one is needed; the message says which differ."""
