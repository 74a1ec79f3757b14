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

*Massive Redundancy in Gradient Transport Enables Sparse Online Learning* (arXiv 2603.15195) claims that a few paths of
gradient transport are enough, its follow-up (arXiv 2603.28750) that none are needed. The experiments on this page ask
under which conditions. Each question, its zone and its statistic are in `analysis/transport/`, and were committed
before the first scored cell was run; the [lab log](lab-log.md) names the commits.

RTRL keeps how each weight influences the state of each of n units: the *influence*. From one step to the next, what a
unit's state owes to the other units moves along *paths*, n into each unit. *Full RTRL* carries all n, *k = 4* four of
them, on a ring unless stated; a *trace* carries none and lets the influence decay by a factor at each step. *BPTT(5)*
goes back over the last five steps in place of all that. *KF-RTRL* keeps the influence as one Kronecker product, *OK* of
rank 4 as a sum of four, *UORO* as one outer product, all with random signs. [Learning rules](rules.md) has the
equations of these and of the others.

*Yes* means that the 95 % interval of the number lies in the question's zone, *no* that it lies outside, *on the margin*
that the number is known well and lies at the zone's end, *open* that these units cannot tell. *Yes* and *no* hold after
Holm's correction over the questions of an experiment; *open (on its own: yes)* did not withstand it. Intervals are
those of [the ledger](verdicts.md#intervals) where an experiment has no other.

This page is written by `python -m raysweep.analysis.transport.page --store docs/results/transport/cells.parquet`, from
the saved cells; `make paper` runs everything anew."""


SUMMARY = """## In short

- **One symbol to remember (A)**: no path has to be carried. On a tanh RNN a trace with the right decay does what full
  RTRL does up to a lag of 19 steps (A1 to A4: yes), and on a GRU and an LSTM, too.
- **Five symbols to tell apart (D)**: on a tanh RNN full RTRL is worth little over the best trace at a lag of 5 steps
  (.03 of accuracy, D1: no), and much at 15 (.38, D2: yes). Of that, four of 64 paths recover 3 % (D8: no). Half of it
  takes more than three quarters of all paths, with 32, 64 and 128 units: a fraction of them, not a number (D35: no;
  D36: yes). On gated networks what four paths recover depends on the floor.
- **Recordings of a monkey's motor cortex (B)**: full RTRL has 17 % less error [8, 25] than a rule that carries nothing,
  which may be less than the 10 % asked for (B1: open). BPTT over five steps has full RTRL's error with 1/509 of its
  multiply-adds (B7: yes). k = 4 has 11 % more than BPTT(5) [5, 18] with 32 times its multiply-adds (B8: yes), and 11 %
  more than OK of rank 4 [5, 17], which keeps 1/26 of the numbers (B12: yes). Recursive least squares, without a
  network, is not told apart from full RTRL or BPTT (B17, B18: open).
- **The paper's own tasks at other settings (C)**: a factor of 32 or more between traces and k = 4, the least that
  counts as two orders, is found in 60 % of 96 protocols on the sine (C1: no), k = 4 within a factor of three of full
  RTRL in 37 % (C4: no). On the Lorenz system k = 4 is worse than a trivial predictor in most protocols (C19: no).

Neither "a few paths are enough" nor "none are needed" holds in general. On the recordings a short window of BPTT costs
less than four paths and loses less. With five symbols over 15 steps four of 64 paths carry next to none of it on a tanh
RNN."""


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
