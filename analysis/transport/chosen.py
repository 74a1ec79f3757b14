"""Prints the launches that score Experiments A and D at the rates which their tuning seeds choose.

python -m raysweep.analysis.transport.chosen [--store results] [--saved CELLS.parquet] [SWEEP ...] [| sh]

The cells are those of a store, which the launches write to, and those that `raysweep.analysis.transport.page --save`
wrote to a file; with a file, the store need not exist yet. Without sweeps, all of both. A sweep with no row
tuned is left out. A row is a network, lag and rule; it is tuned once its cells of all rates and tuning seeds are done.
The rate is the one with the best mean accuracy, the lower one of equals. Exit code 2 means that the store or a sweep
does not exist.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from raysweep.analysis.transport import symbols
from raysweep.analysis.transport.cells import SETTINGS, read
from raysweep.analysis.transport.diagram import KEYS, SCORED, SWEEPS, TUNING, choices
from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.spec import changed, load_all
from raysweep.orchestrator.text import printable

ROW = tuple(key for key in KEYS if key not in ("experiment", "hidden", "lag"))
"""What tells the rules of a sweep apart: a sweep has one experiment and one n."""


_SCHEMA = pl.Schema({key: SETTINGS.get(key, pl.Int64()) for key in KEYS})  # a lag is a sum of settings


def rows_of_sweep(sweep: str) -> pl.DataFrame:
    """List the networks, lags and rules (`KEYS`) of a sweep, each once."""
    table = expand(changed(load_all([sweep]), {}, str(TUNING[0]))).wide()
    rows = []
    for experiment, method, k, text in table.select("experiment", "method", "k", "config").rows():
        config = json.loads(text) | {"experiment": experiment, "method": method, "k": k}
        config["lag"] = config["length"] + config["delay"]
        rows.append({key: config.get(key) for key in KEYS})
    return pl.DataFrame(rows, _SCHEMA, orient="row").unique(maintain_order=True)


def predicates(chosen: pl.DataFrame) -> Iterator[str]:
    """Write an SQL predicate for each rule, with its chosen rate at each lag.

    Args:
        chosen: rows of `choices`.
    """
    for _, own in chosen.group_by(ROW, maintain_order=True):
        first = own.row(0, named=True)
        setting = " AND ".join(f'"{key}" = {_literal(first[key])}' for key in ROW if first[key] is not None)
        cases = " ".join(f"WHEN {lag} THEN {rate!r}" for lag, rate in own.select("lag", "learning_rate").rows())
        yield f"({setting} AND learning_rate = CASE length + delay {cases} END)"


def _literal(value: object) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def commands(sweeps: Sequence[str], cells: pl.DataFrame, store: str) -> Iterator[str]:
    """Write a launch of the scored seeds for each sweep, below a comment with the number of rows that are tuned."""
    chosen = choices(cells).with_columns(pl.col(key).cast(dtype) for key, dtype in _SCHEMA.items())
    for sweep in sweeps:
        rows = rows_of_sweep(sweep)
        own = rows.join(chosen, on=KEYS, nulls_equal=True, maintain_order="left")
        yield f"# {json.dumps(sweep)[1:-1]}: {own.height} of {rows.height} rows are tuned"
        if own.height:
            where = " OR ".join(predicates(own))
            seeds = f"{SCORED[0]}..{SCORED[-1]}"
            yield shlex.join(["raysweep", "launch", sweep, "--store", store, "--seeds", seeds, "--where", where])


def main() -> None:
    """Run the command that this module documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="*", default=(*SWEEPS, *symbols.SWEEPS), metavar="SWEEP")
    parser.add_argument("--store", default="results")
    parser.add_argument("--saved", metavar="CELLS.parquet", help="cells of earlier runs, saved by the page")
    options = parser.parse_args()
    saved = [] if options.saved is None else [options.saved]
    try:
        stores = [options.store] if not saved or Path(options.store).exists() else []
        for line in commands(options.sweeps, read([*stores, *saved]), options.store):
            print(line)
    except RaysweepError as error:
        for problem in error.problems:
            print(f"error: {printable(problem)}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
