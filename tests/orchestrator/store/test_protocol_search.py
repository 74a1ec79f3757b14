"""The random search of `test_protocol` finds faults that are planted into the protocol, and shortens their examples.

    POLARS_MAX_THREADS=1 python -m tests.orchestrator.store.test_protocol_search [SEEDS]

prints the number of examples that each search took.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.store import lease, owner, segments
from raysweep.orchestrator.store.segments import Run, Segment
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.writer import StoreWriter
from tests.orchestrator.store.test_protocol import InBucket, prepared

EXAMPLES, STEPS = 500, 20
SHRINKING_S = 3600
"""Seconds within which an example is shortened; Hypothesis gives up after five minutes, which a busy machine needs."""
MAX_STEPS = 10
"""Maximum number of steps of a shortened example."""
_NO_STEPS = ("state.begin(", "state.each_acknowledged_row", "state.teardown(")


def no_seal(*_: Any) -> None:
    """Instead of `lease.seal`: an earlier owner can go on committing."""


def no_seal_in_cells(storage: Any, folder: str, *rest: Any) -> None:
    """Instead of `lease.seal`: a late write of an earlier owner's last commit takes effect."""
    if folder != "cells":
        lease.seal(storage, folder, *rest)


def no_finish(self: StoreWriter, generations: list[int]) -> None:
    """Instead of `StoreWriter._finish_commits`: half commits stay."""


def only_itself(segment: Segment) -> Iterator[Run]:
    """Instead of `segments._with_itself`: a merge forgets what its segments had replaced."""
    yield segment.epoch, segment.sequence, segment.sequence


FAULTS: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "no seal": (owner, "seal", no_seal),
    "no seal in cells": (owner, "seal", no_seal_in_cells),
    "half commits are not finished": (StoreWriter, "_finish_commits", no_finish),
    "a merge forgets what its segments replaced": (segments, "_with_itself", only_itself),
}


def search(fault: str, number: int, *, shrink: bool) -> tuple[int, list[str]]:
    """Search with a planted fault and a seed.

    Returns:
        The number of examples that ran, and the steps of the example that was found; no steps if none was.
    """
    count = 0

    class Counted(InBucket):
        def make_storage(self) -> Storage:
            nonlocal count
            count += 1
            return super().make_storage()

    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    with mock.patch.object(*FAULTS[fault]), mock.patch.object(engine, "MAX_SHRINKING_SECONDS", SHRINKING_S):
        try:
            run_state_machine_as_test(
                seed(number)(Counted),
                settings=settings(
                    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, phases=phases,
                    suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
                ),
            )  # fmt: skip
        except (AssertionError, RaysweepError) as error:
            lines = "\n".join(getattr(error, "__notes__", ())).splitlines()
            return count, [line for line in lines if line.startswith("state.") and not line.startswith(_NO_STEPS)]
    return count, []


@pytest.fixture(autouse=True)
def _prepared(folder: Path) -> Iterator[None]:
    with prepared(folder):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_search_finds_a_planted_fault_and_shortens_its_example(fault: str) -> None:
    examples, steps = search(fault, 1, shrink=True)
    assert steps, f"not found in {examples} examples"
    assert len(steps) <= MAX_STEPS, steps


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder)):
        for fault in FAULTS:
            for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
                began = time.process_time()
                examples, steps = search(fault, number, shrink=False)
                outcome = f"found in {examples} examples" if steps else f"not found in {examples} examples"
                print(f"{fault}, seed {number}: {outcome}, {time.process_time() - began:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
