"""Masks: k sources a row, the ring's parity, uniform random draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.workloads.rnn.masks import SELECTIONS, draw_mask, mask_problem, sources_of


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 12), st.data(), st.sampled_from(sorted(SELECTIONS)), st.booleans())
def test_masks_have_k_sources_a_row_or_a_reason(n, data, selection, include_self):
    k = data.draw(st.integers(-1, n + 1))
    problem = mask_problem(selection, n, k, include_self)
    if problem:
        with pytest.raises(ValueError, match=rf"^k = {k} "):
            draw_mask(selection, n, k, include_self, np.random.default_rng(0))
        return
    mask = draw_mask(selection, n, k, include_self, np.random.default_rng(0))
    assert mask.sum(1).tolist() == [k] * n
    assert np.diagonal(mask).all() == (include_self or k == n)
    assert np.diagonal(mask).any() == (include_self or k == n)
    rebuilt = np.zeros_like(mask)
    np.put_along_axis(rebuilt, sources_of(mask), True, axis=1)
    np.testing.assert_array_equal(rebuilt, mask)


def test_what_a_ring_takes():
    assert [k for k in range(-1, 9) if not mask_problem("ring", 7, k, False)] == [0, 2, 4, 6, 7]
    assert [k for k in range(-1, 9) if not mask_problem("ring", 7, k, True)] == [1, 3, 5, 7]
    assert [k for k in range(-1, 10) if not mask_problem("ring", 8, k, False)] == [0, 2, 4, 6, 8]
    assert [k for k in range(-1, 10) if not mask_problem("ring", 8, k, True)] == [1, 3, 5, 7, 8]
    assert [k for k in range(-1, 9) if not mask_problem("random", 7, k, False)] == list(range(8))
    row = draw_mask("ring", 7, 4, False, np.random.default_rng(0))[0]
    assert row.tolist() == [False, True, True, False, False, True, True]
    assert mask_problem("ring", 64, 5, False) == (
        "k = 5 on selection 'ring': a ring without self has as many sources on either side; "
        "valid: even k from 2 to 62, or k = n = 64 (full)"
    )
    assert mask_problem("ring", 2, 1, False) == (
        "k = 1 on selection 'ring': a ring without self has as many sources on either side; valid: k = n = 2 (full)"
    )


def test_random_masks_are_uniform_and_depend_on_the_generator():
    counts = sum(draw_mask("random", 6, 2, False, np.random.default_rng(s)) for s in range(1500))
    expected = 1500 * 2 / 5 * (1 - np.eye(6))
    np.testing.assert_allclose(counts, expected, atol=5 * math.sqrt(1500 * 0.4 * 0.6))
