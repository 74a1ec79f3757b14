"""Writes `docs/transport.md` with its figures from cells: the answers to all questions of Experiments A to D.

python -m raysweep.analysis.transport.page [--store results [OTHER ...]] [--to docs] [--save CELLS.parquet]

A store may also be a file of cells that `--save` wrote. Exit code 2 means that a store does not exist or that the
folder cannot be written.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from raysweep.analysis.errors import ended_by_errors
from raysweep.analysis.transport import decoding_page, diagram_page, multiverse_page, symbols_page
from raysweep.analysis.transport.cells import read, save
from raysweep.analysis.transport.experiment import Experiment, as_answered, section
from raysweep.analysis.transport.question import Answer, answers

EXPERIMENTS: tuple[Experiment, ...] = (
    diagram_page.EXPERIMENT,
    decoding_page.EXPERIMENT,
    multiverse_page.EXPERIMENT,
    symbols_page.EXPERIMENT,
)
HEAD = """# When is propagating k paths worth it?

The paper (arXiv 2603.15195) claims that a few paths of gradient transport are enough, its follow-up (arXiv 2603.28750)
that none are needed. The experiments on this page ask under which conditions. Each question, its zone and its
statistic are in `analysis/transport/`, and were committed before the first scored cell was run.

*Yes* means that the 95 % interval of the number lies in the question's zone, *no* that it lies outside, *on the margin*
that the number is known well and lies at the zone's end, *open* that these units cannot tell. *Yes* and *no* hold after
Holm's correction over the questions of an experiment. Intervals are those of [the ledger](verdicts.md#intervals) where
an experiment has no other.

This page is written by `python -m raysweep.analysis.transport.page --store docs/results/transport/cells.parquet`, from
the saved cells; `make paper` runs everything anew."""


SUMMARY = """## In short

- **One symbol to remember (A)**: nothing has to be carried along paths. On a tanh RNN a trace with the right decay does
  what full RTRL does up to a lag of 19 steps (A1 to A4: yes); on a GRU and an LSTM so do traces, and up to there a
  unit's own path.
- **Five symbols to tell apart (D)**: on a tanh RNN, 15 steps back, full RTRL is .38 above the best trace (D2: yes).
  Four of 64 paths recover 3 % of that (D8: no), and half of it takes a fraction of all paths, not a number of them
  (D35: no; D36: yes). On gated networks what four paths recover depends on the floor.
- **Recordings of a monkey's motor cortex (B)**: full RTRL has 17 % less error [8, 25] than a rule that carries nothing.
  BPTT over five steps has that too, with 1/512 of the multiply-adds (B7: yes). k = 4 has 11 % more error than BPTT [5,
  18] with 32 times its multiply-adds (B8: yes), and more than OK of rank 4, which keeps 1/26 of the numbers (B12: yes).
  Recursive least squares, without a network, is not told apart from full RTRL or BPTT (B17, B18: open).
- **The paper's own tasks at other settings (C)**: two orders of magnitude between traces and k = 4 are found in 60 % of
  96 protocols on the sine (C1: no), k = 4 within a factor of three of full RTRL in 37 % (C4: no). On the Lorenz system
  k = 4 is worse than predicting no change in most protocols (C19: no).

Neither "a few paths are enough" nor "none are needed" holds in general. Where credit is short, a window of BPTT costs
less than four paths and loses less. Where it is long and several symbols have to be told apart, four of 64 paths carry
next to none of it on a tanh RNN, and a part on gated networks."""


def page(cells: pl.DataFrame, figures: Path | None = None) -> str:
    """Write the page, in Markdown; draw its figures into a folder if one is given."""
    given = [answers(experiment.questions, experiment.own(cells)) for experiment in EXPERIMENTS]
    parts = [section(experiment, cells, figures, its) for experiment, its in zip(EXPERIMENTS, given, strict=True)]
    summary = as_answered(SUMMARY, [answer for its in given for answer in its])
    return "\n\n".join(part for part in (HEAD, state(given), summary, *parts) if part) + "\n"


def state(given: Sequence[Sequence[Answer]]) -> str:
    """Say of each experiment whether it has been run: in full, in part, or not."""
    groups: dict[str, list[str]] = {"Run": [], "Run in part": [], "Not run yet": []}
    for experiment, its in zip(EXPERIMENTS, given, strict=True):
        name, count = experiment.title[0], sum(answer.units > 0 for answer in its)
        if count == len(its):
            groups["Run"].append(name)
        elif count:
            groups["Run in part"].append(f"{name} ({count} of {len(its)} questions)")
        else:
            groups["Not run yet"].append(name)
    return " ".join(f"{words}: {', '.join(names)}." for words, names in groups.items() if names)


def main() -> None:
    """Run the command that this module documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", nargs="+", default=["results"], help="stores or saved cells, which are combined")
    parser.add_argument("--to", default="docs")
    parser.add_argument("--save", metavar="CELLS.parquet", help="also write the done cells to this file")
    options = parser.parse_args()
    with ended_by_errors(options.save, "--save"):
        cells = read(options.store)
        if options.save is not None:
            save(cells, Path(options.save))
    with ended_by_errors(options.to):
        figures = Path(options.to) / "results" / "transport"
        figures.mkdir(parents=True, exist_ok=True)
        partial = Path(options.to) / "transport.md.partial"
        partial.write_text(page(cells, figures), encoding="utf-8")
        os.replace(partial, partial.with_suffix(""))


if __name__ == "__main__":
    main()
