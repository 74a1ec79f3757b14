"""Numbers of many seeds in a reason stay readable."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.analysis.cells.methods import TRACES
from raysweep.analysis.claims import scale
from raysweep.analysis.claims.listing import listed


def test_ten_are_listed_in_order_and_eleven_summarized() -> None:
    ten = np.array([0.02, 2.1e-05, *[0.5] * 8])
    assert listed(ten) == "2.1e-05, 0.02, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5"
    eleven = 10.0 ** np.arange(-5, 6)[::-1]
    assert listed(eleven) == "geometric mean 1, quartiles 0.0032 to 3.2e+02 (11 seeds)"
    assert listed(np.array([1.0, np.nan])) == "1, nan"


def test_diverged_runs_are_counted_and_not_averaged() -> None:
    assert listed(np.array([np.nan, *[2.0] * 10])) == "geometric mean 2, quartiles 2 to 2 (11 seeds, 1 diverged)"
    assert listed(np.full(11, np.nan)) == "11 seeds, 11 diverged"


@pytest.mark.parametrize(("seeds", "words"), [(10, 40), (11, 31), (200, 31)])
def test_asides_of_256_and_512_units_do_not_grow_with_the_seeds(seeds: int, words: int) -> None:
    columns = {f"{rate:g} {key}": np.linspace(0.1, 1, seeds) for rate in scale.BESIDE for key in ("k4", "full")}
    line = scale.n256_claim.lines[0]
    assert line.aside is not None
    text = line.aside({name: values for name, values in columns.items() if name.endswith("k4")})
    assert text.startswith("other learning rates, k = 4 at 0.0005: ")
    assert len(text.split()) <= words
    aside = scale.n512.lines[0].aside
    assert aside is not None
    text = aside(
        {"full": np.linspace(0.1, 1, seeds), TRACES.key: np.full(seeds, 0.5), "diverged_full": np.zeros(seeds)}
    )
    assert ("seed by seed" in text) == (seeds <= 10)
    assert text.endswith("the run that the paper calls diverged was at 1.8")
    assert seeds <= 10 or "against traces' geometric mean 0.5, quartiles 0.5 to 0.5" in text
