"""The paper's per-seed tables, where the checkout has them beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def printed_tables() -> Path:
    shared = Path(os.environ.get("RAYSWEEP_SHARED") or ROOT.parent / "shared")
    folder = shared / "paper" / "tables"
    if not folder.is_dir():
        pytest.skip(f"the paper's tables are not at {folder}; name the folder above paper/ by RAYSWEEP_SHARED")
    return folder
