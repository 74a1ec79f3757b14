"""A cell's generators: independent, pinned, from seeds that are not negative."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.workloads.seeds import CODES, ROUNDING_CODE, generators, rounding_generator


def test_streams_of_random_numbers_are_independent_and_pinned():
    assert dict(CODES) == {"weights": 1, "mask": 2, "noise": 3, "stream": 4}
    drawn = [generator.random() for generator in (*generators(42), *generators(43))]
    assert len(set(drawn)) == 8
    assert drawn[0] == np.random.default_rng(np.random.SeedSequence([42, 1])).random()
    with pytest.raises(ValueError, match="seed -1 is negative"):
        generators(-1)


def test_each_rounding_of_a_seed_has_its_own_numbers():
    assert ROUNDING_CODE not in CODES.values()
    drawn = {rounding_generator(seed, rounding).random() for seed in (42, 43) for rounding in (1, 2)}
    assert len(drawn) == 4
    assert rounding_generator(42, 1).random() == np.random.default_rng(np.random.SeedSequence([42, 5, 1])).random()
