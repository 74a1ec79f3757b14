"""What is saved with published cells is what claims, tables and figures ask for."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from raysweep.analysis.cells.source import Source
from raysweep.analysis.claims import CLAIMS, ledger
from raysweep.analysis.figures import FIGURES, READS
from raysweep.analysis.reads import arrays_read
from raysweep.analysis.tables import TABLES
from tests.analysis.figures.test_figures import everything

pytestmark = pytest.mark.usefixtures("few_resamples")


def listening(asked: set[str]) -> Source:
    """The figures' cells, and a function of their arrays that notes the names asked for."""
    source = everything()

    def arrays(names: Sequence[str]) -> pl.DataFrame:
        asked.update(names)
        return source.arrays(names)

    return source._replace(arrays=arrays)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_reads_the_arrays_that_it_declares(name: str) -> None:
    asked: set[str] = set()
    FIGURES[name](listening(asked))
    assert asked == {array for part in READS.get(name, ()) for array in part.arrays}


def test_tables_and_claims_read_what_is_saved() -> None:
    asked: set[str] = set()
    for build in TABLES.values():
        build(listening(asked))
    ledger(listening(asked))
    assert {"condition", "immediate_condition", "effective_rank", "cosine_all", "ratio_all"} <= asked
    assert asked <= {name for _, name in arrays_read()}


def test_no_learning_curve_is_read_but_for_one_figure() -> None:
    """Loss curves are large: those of other experiments than the figure's are not saved."""
    assert {experiment for experiment, name in arrays_read() if name == "loss"} == {"sine"}
    experiments = {
        cells.experiment for c in CLAIMS.values() for line in c.lines for cells in line.cells if cells.reduce
    }
    assert experiments <= {experiment for experiment, _ in arrays_read()}
