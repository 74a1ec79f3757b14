"""A short run of `tests.faults.damage`: the same damages each time, on a folder and in a bucket in memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from raysweep.orchestrator.store import lease, reader
from raysweep.orchestrator.store.storage import storage
from tests.faults.damage import Case, one
from tests.memory_store import MemoryStorage

DAMAGES = 20


@pytest.mark.parametrize("place", ["results", pytest.param("s3://memory/store", marks=pytest.mark.slow)])
def test_each_answer_after_damage_is_the_same_or_an_error_that_names_the_file(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = MemoryStorage()
    monkeypatch.setattr(
        reader, "open_storage", lambda path: bucket if path.startswith("s3:") else storage.open_storage(path)
    )
    monkeypatch.setattr(lease, "DEAD_AFTER_S", 0.4)
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    case = Case(folder, place)
    outcomes = [outcome for number in range(DAMAGES) for outcome in one(case, 7, number, 1)]
    assert [outcome for outcome in outcomes if outcome[3] not in {"same", "named"}] == []
    assert min(Counter(verdict for *_, verdict in outcomes).values()) > 5
