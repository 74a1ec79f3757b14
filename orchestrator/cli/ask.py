"""The commands `best`, `compare`, `diff` and `questions`: comparisons of settings, cells and stores."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import Annotated

import typer

from raysweep.orchestrator.cli.options import Json, StoreOption, Where
from raysweep.orchestrator.cli.terminal.output import fail, print_frame, print_json, say

Better = Annotated[bool, typer.Option("--minimize/--maximize", help="Whether lower or higher values are better.")]


def best(
    metric: Annotated[str, typer.Option(help="The metric to order by.")],
    minimize: Better = True, store: StoreOption = "results", where: Where = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Order all settings by a metric, and mark those that may be the best.

    raysweep best --metric loss --minimize

    The marked settings (*) contain the best one with a probability of 95 %.
    """
    import polars as pl

    from raysweep.analysis.questions.best import best as answer

    result = answer(store, metric, _direction(minimize), where)
    if as_json:
        print_json(asdict(result))
        return
    rows = [
        {
            "": "*" if entry.may_be_best else "", "setting": entry.setting, metric: _number(entry.mean),
            "95 % interval": "" if entry.interval is None else " to ".join(_number(end) for end in entry.interval),
            "seeds": entry.values, "failed": entry.failed, "diverged": entry.diverged, "pending": entry.pending,
            "p": f"{entry.p:.2g}",
        }
        for entry in result.settings
    ]  # fmt: skip
    frame = pl.DataFrame(rows)
    print_frame(frame.drop(name for name in ("failed", "diverged", "pending") if not frame[name].sum()))
    say(result.summary)
    for line in result.left_out:
        say(f"left out: {line}")


def compare(
    predicates: Annotated[
        list[str], typer.Argument(metavar="A B...", help="SQL predicates; A is compared with each of the others.")
    ],
    metric: Annotated[list[str], typer.Option(help="The metric; may be repeated.")],
    minimize: Better = True, store: StoreOption = "results", where: Where = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Compare settings, paired by seed.

    raysweep compare method=sparse method=rtrl --metric loss --where "hidden = 64"

    The output has the effect with its interval, the p-value of a permutation test, and the number of further seeds
    for a power of 80 % if the true effect is the observed one.
    """
    from raysweep.analysis.questions.compare import compare as answer

    if len(predicates) < 2:
        fail(f"A B: only {predicates[0]!r} is given; give a second predicate to compare it with, such as method=NAME")
    result = answer(store, *predicates, metric=metric, better=_direction(minimize), where=where)
    if as_json:
        entries = [{**asdict(entry), "verdict": entry.verdict} for entry in result]
        print_json({"comparisons": entries, "left_out": result.left_out})
    else:
        say(repr(result))


def diff(
    first: Annotated[str, typer.Argument(metavar="STORE1|CELL1", help="A store, or a cell of --store.")],
    second: Annotated[str, typer.Argument(metavar="STORE2|CELL2", help="Another one.")],
    store: StoreOption = "results",
    as_json: Json = False,
) -> None:
    """Compare two stores cell by cell, or two cells of one store; exit 1 if they differ.

    For two cells, the output lists the differences in settings, metrics, environment and code.

    raysweep diff results ../other/results

    raysweep diff 3f5b 81c0
    """
    from raysweep.analysis.questions.stores import diff as answer
    from raysweep.orchestrator.store.reader import Store

    names = (first, second)
    no_store = [name for name in names if "://" not in name and not os.path.exists(name)]
    if unknown := [name for name in no_store if not _CELL.fullmatch(name)]:
        fail(f"no cell or store {' or '.join(unknown)}: give two stores, or two cells of --store")
    if len(no_store) == 1:
        fail(f"no store {no_store[0]}: a store is compared with a store, a cell with a cell")
    if no_store:
        from raysweep.orchestrator.cli.cells import one_cell
        from raysweep.orchestrator.cli.code import cells_differ

        opened = Store(store).require()
        known = opened.known()
        if cells_differ(opened, [one_cell(known, name) for name in names], as_json=as_json):
            raise typer.Exit(1)
        return
    result = answer(Store(first), Store(second))
    if as_json:
        print_json({"same": result.same, "counts": result.counts(), "cells": result.cells.to_dicts()})
    else:
        if result.cells.height:
            print_frame(result.cells)
        say(repr(result))
    if result.cells.height:
        raise typer.Exit(1)


_CELL = re.compile(r"(.*#)?[0-9a-fA-F]{1,24}")
"""Pattern of a cell id or of its first characters, as `raysweep show` accepts it."""


def questions(store: StoreOption = "results", as_json: Json = False) -> None:
    """Print the verdicts on the questions that sweep files declare.

    raysweep questions

    Verdicts may be looked at after every seed: the probability of a wrong one stays below 5 %.
    """
    from raysweep.analysis.questions.declared import questions as answer

    verdicts = answer(store)
    if as_json:
        print_json([asdict(verdict) for verdict in verdicts])
    elif not verdicts:
        say("no questions: no sweep of this store declares any in [[question]]")
    else:
        say("\n".join(map(repr, verdicts)))


def _direction(minimize: bool) -> str:
    return "lower" if minimize else "higher"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
