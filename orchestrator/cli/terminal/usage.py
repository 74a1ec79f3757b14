"""Usage errors of the command line: repeated options, unknown options and invalid values."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from raysweep.orchestrator.text import short_repr

_CONCURRENCY = "as many cells run at once as fit the machines; --jobs 4 runs at most 4"
_RESOURCES = 'cells request resources in the sweep file: "{} = ..." under [resources]'
HINTS = {
    **dict.fromkeys(("--workers", "--num-workers", "--parallel", "--n-jobs"), _CONCURRENCY),
    **dict.fromkeys(("--gpus", "--num-gpus", "--gpu"), _RESOURCES.format("gpus") + "; --device cpu uses no GPU"),
    **dict.fromkeys(("--cpus", "--num-cpus", "--cpu"), _RESOURCES.format("cpus")),
    **dict.fromkeys(("--memory", "--mem", "--memory-gib"), _RESOURCES.format("memory_gib")),
    **dict.fromkeys(("--resume", "--continue"), "a launch skips done cells; raysweep resume also retries failed ones"),
    **dict.fromkeys(("--dry-run", "--dry_run"), "raysweep plan shows what a launch would run"),
    **dict.fromkeys(
        ("--force", "--overwrite"), "rows are never overwritten; --rerun-changed runs cells of other code again"
    ),
}
"""Option of another program -> hint for users who try it here."""


_MAY_BE_EMPTY = {"title"}


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return str(parameter.opts[0])
    return "the argument " + str(parameter.metavar or parameter.name).upper().strip("[.").partition("]")[0]


class Command(TyperCommand):
    """A command that rejects repeated options. Its usage errors name the invalid value and a remedy."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: an option is unknown, given twice or empty, or has an invalid value.
        """
        if ctx.resilient_parsing:  # completion in a shell
            return super().parse_args(ctx, args)
        try:
            typed, _, order = self.make_parser(ctx).parse_args(args=list(args))
        except Exception as error:
            hint = HINTS.get(getattr(error, "option_name", None) or "")
            if hint is not None and type(error).__name__ == "NoSuchOption":
                ctx.fail(f"No such option: {error.option_name}; {hint}")  # type: ignore[attr-defined]
            raise
        for parameter in dict.fromkeys(order):
            given = typed.get(parameter.name)
            if "" in (given if isinstance(given, list | tuple) else [given]) and parameter.name not in _MAY_BE_EMPTY:
                ctx.fail(f"{_shown(parameter)} is empty (an unset variable?); give it a value, or leave it out")
            if parameter.param_type_name == "option" and not parameter.multiple and order.count(parameter) > 1:
                ctx.fail(f"{parameter.opts[0]} is given {order.count(parameter)} times; give it once")
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            value = typed.get(getattr(error.param, "name", None) or "")
            if isinstance(value, str):
                error.message = f"{short_repr(value)}: {error.message[:1].lower()}{error.message[1:]}"
            raise
