"""Launches in rounds: each round's cells are chosen by the results so far, until the questions are decided.

This file has the protocol `Rounds` and checks the options; `raysweep.analysis.questions.until` chooses the cells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.request import Options, Request
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.workloads.registry import unknown_name

UNTIL = ("decided",)
"""The possible values of `--until`."""


class Round(NamedTuple):
    """A round of a launch.

    Args:
        number: the number of the round, from 1.
        cells: the number of cells to run.
        news: decisions since the last report, one line each.
    """

    number: int
    cells: int
    news: tuple[str, ...]


class Rounds(Protocol):
    """Chooses the cells of each round."""

    def table(self, slots: int) -> CellTable:
        """Return the requested cells: first those that have been tried before, then those of the next round.

        Args:
            slots: the number of cells that run at once. A round has at least this many cells, if the launch's limits
                allow it and the questions are expected to need them.
        """

    def ran(self, cell_ids: Collection[str]) -> None:
        """Note the cells of a round that has run, so that no later round chooses them again."""

    def news(self) -> tuple[str, ...]:
        """Return the decisions since the last call, one line each."""

    def spent(self) -> tuple[float, float]:
        """Return the CPU-seconds and GPU-seconds of all recorded attempts of the questions' cells."""

    def verdicts(self) -> Sequence[Any]:
        """Return the verdicts on all questions, each with the attribute `decided`."""

    def ended(self) -> str | None:
        """Return why the rounds ended with open questions, such as a used-up budget; otherwise None."""


def check(request: Request, options: Options) -> None:
    """Raise InputError if the options that concern rounds contradict each other, or a sweep has no questions."""
    budgets = {
        "--max-cells": options.max_cells, "--max-cpu-hours": options.max_cpu_hours,
        "--max-gpu-hours": options.max_gpu_hours,
    }  # fmt: skip
    given = {name: value for name, value in budgets.items() if value is not None}
    if options.until is None:
        if given:
            raise InputError(
                [
                    f"{name} {value:g}: is a limit of --until decided; add --until decided, or limit a launch by "
                    "--max-hours"
                    for name, value in given.items()
                ]
            )
        return
    problems = []
    if options.until not in UNTIL:
        problems.append(f"--until: {unknown_name('condition', options.until, UNTIL)}")
    if request.recorded:
        problems.append("--until decided: needs the sweep's file, whose questions it answers; name the SWEEP")
    if options.where is not None:
        problems.append(f"--until decided: the sweep's questions choose the cells; leave out --where {options.where!r}")
    for sweep in () if request.recorded else request.sweeps:
        if not sweep.questions:
            problems.append(
                f"{sweep.path or sweep.name}: has no [[question]], so --until decided has nothing to decide; add one: "
                'name = "...", a = "method = \'...\'", b = "method = \'...\'", metric = "..."'
            )
    gpus = request.every.variants["gpus"].max()
    bounds = [name for name in given if name != "--max-gpu-hours" or gpus]
    if not bounds and options.max_hours is None:
        but = "; no cell requests a GPU, so --max-gpu-hours is no limit" if given else ""
        problems.append(
            "--until decided: without a limit, a question about equal settings would never end; add --max-cells N, "
            f"--max-cpu-hours H or --max-gpu-hours H{but}"
        )
    if problems:
        raise InputError(problems)


def rounds_of(request: Request, store: Store, options: Options) -> Rounds | None:
    """Return the object that chooses the cells of each round; None for a launch without `--until`.

    Raises:
        InputError: the options contradict each other, or a sweep has no questions.
    """
    check(request, options)
    if options.until is None:
        return None
    # Evidence is analysis: the one import of it in this package, lazy as such launches alone need it.
    from raysweep.analysis.questions.until import UntilDecided

    return UntilDecided(request, store, options)
