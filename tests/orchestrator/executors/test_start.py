"""Ray that does not start: tried twice, then one message with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from raysweep.orchestrator.errors import ClusterUnavailable
from raysweep.orchestrator.executors.ray.executor import RayExecutor

MESSAGE = "The current node timed out during startup. This could happen because the GCS has become overloaded."


def test_an_embedded_ray_that_does_not_start_is_tried_twice_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    tries: list[Any] = []

    def fails(*arguments: Any, **options: Any) -> None:
        tries.append(arguments)
        raise Exception(MESSAGE)

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(ClusterUnavailable, match=r"two tries.*timed out during startup.*again"):
        RayExecutor(None, {})
    assert tries == [("local",), ("local",)]
