"""The paper's per-seed tables, where the checkout has them beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.analysis.statistics import inference

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def printed_tables() -> Path:
    shared = Path(os.environ.get("RAYSWEEP_SHARED") or ROOT.parent / "shared")
    folder = shared / "paper" / "tables"
    if not folder.is_dir():
        pytest.skip(f"the paper's tables are not at {folder}; name the folder above paper/ by RAYSWEEP_SHARED")
    return folder


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Let intervals have a tenth of the resamples, in tests of which no number depends on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "RESAMPLES", inference.RESAMPLES // 10)
        inference._draws.cache_clear()
        yield
    inference._draws.cache_clear()
