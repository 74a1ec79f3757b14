"""The store that tests of the report share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raysweep.orchestrator.store.reader import Store
from tests.analysis.report import hostile_sweep


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("RAYSWEEP_STORE", raising=False)
        yield Store(hostile_sweep.make(folder))
