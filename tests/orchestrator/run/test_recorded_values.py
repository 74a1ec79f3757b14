"""Metrics and arrays that a store cannot hold are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.orchestrator.run.context import RunContext, checked_metrics
from raysweep.orchestrator.run.folder import CellFolder
from raysweep.orchestrator.store.checkpoints import Checkpoint


class Tensor:
    """Converts to nothing, as a tensor that requires a gradient."""

    def __array__(self, *arguments: object, **options: object) -> np.ndarray:
        raise RuntimeError("call detach() first")

    def __float__(self) -> float:
        raise RuntimeError("has 2 elements")


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext("cpu", Checkpoint(None, "ab" * 12, 1, "digest"), CellFolder(tmp_path, "folder"))


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        ([1, "x"], "could not convert string to float"),
        ([[1], [1, 2]], "inhomogeneous"),
        ({1: 2}, "not 'dict'"),
        ([1j], "complex numbers .* two arrays"),
        ([1e300], "range of float32"),
        (3.0, r"shape \(\) is not one-dimensional"),
        (Tensor(), "call detach"),
    ],
)
def test_a_bad_array_is_named(context: RunContext, values: Any, fact: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^context.array\('loss'\): .*{fact}"):
        context.array("loss", values)
    assert context.arrays == []


def test_parts_of_an_array_begin_at_steps_of_their_own(context: RunContext) -> None:
    context.array("loss", [1.0])
    context.array("loss", [2.0], step=1)
    context.array("other", [2.0])
    with pytest.raises(ValueError, match=r"^context.array\('loss'\): recorded twice with step 1;"):
        context.array("loss", [3.0], step=1)
    assert [(part.name, part.step) for part in context.arrays] == [("loss", 0), ("loss", 1), ("other", 0)]


@pytest.mark.parametrize("arguments", [{"step": "x"}, {"step": 2**70}, {"stride": None}, {"stride": 0}])
def test_so_is_one_with_a_bad_step_or_stride(context: RunContext, arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^context.array\('loss'\): "):
        context.array("loss", [1.0], **arguments)


@pytest.mark.parametrize("value", [b"1", [1], 1j, float("nan"), np.array([1.0, 2.0]), np.array([]), Tensor(), 10**400])
def test_a_bad_metric_is_named(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^metric 'accuracy' "):
        checked_metrics({"loss": 1.0, "accuracy": value})
