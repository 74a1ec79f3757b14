"""What a launch is told by files in its store."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.orchestrator.errors import StoreWriteFailed
from raysweep.orchestrator.store import control
from raysweep.orchestrator.store.control import Control, Orders
from raysweep.orchestrator.store.reader import Store

CELL, OTHER = "0" * 24, "1" * 24


def test_a_launch_is_told_once_and_of_its_own_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LOOK_S", 0.0)
    storage = Store(tmp_path / "store").storage
    launch = Control(storage, 7)
    assert launch.look() == Orders()
    control.pause(storage, 6)
    control.cancel(storage, 6, [OTHER])
    name = control.cancel(storage, 7, [CELL, OTHER])
    assert control.pause(storage, 7)
    assert not control.pause(storage, 7)
    assert launch.look() == Orders(True, frozenset({CELL, OTHER}))
    assert name.rpartition("/")[2] in storage.names(control.FOLDER)  # not cancelled yet
    assert launch.look() == Orders(paused=True)
    assert storage.names(control.FOLDER) == ["00000007.paused"]
    assert control.unpause(storage, 7)
    assert launch.look() == Orders()


def test_a_store_that_does_not_answer_tells_nothing_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LOOK_S", 0.0)
    storage = Store(tmp_path / "store").storage
    launch = Control(storage, 7)
    control.pause(storage, 7)
    assert launch.look() == Orders(paused=True)
    control.cancel(storage, 7, [CELL])
    for error in (OSError("no route"), StoreWriteFailed("no route")):
        with monkeypatch.context() as broken:
            broken.setattr(type(storage), "names", lambda self, folder, error=error: (_ for _ in ()).throw(error))
            assert launch.look() == Orders(paused=True)
    assert launch.look() == Orders(True, frozenset({CELL}))
