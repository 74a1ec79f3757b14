"""Copies of the artifacts that a cell needs from other cells, written to folders before it begins (`context.needs`)."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.orchestrator.run.messages import NeededCell
from raysweep.orchestrator.store.artifacts import read_content, save
from raysweep.orchestrator.store.checkpoints import CheckpointLocation, reachable
from raysweep.orchestrator.store.storage.storage import Storage


@dataclass(frozen=True, slots=True)
class Needed:
    """A cell that the running cell needs. Both have the same seed.

    Args:
        cell_id: its id.
        method: its method.
        k: its k.
        config: its settings, as a dict.
        folder: a folder with copies of its artifacts.
    """

    cell_id: str
    method: str
    k: int | None
    config: Mapping[str, Any]
    folder: Path


class StoreNotReachable(Exception):
    """A worker cannot read the store, where the artifacts of needed cells are."""


def with_needs(source: str, needs: Collection[NeededCell]) -> str:
    """Return a digest that labels a cell's checkpoints: the source digest, combined with the needed cells' attempts.

    So checkpoints that were computed from artifacts of other attempts are not loaded. Without needed cells, the
    source digest itself is returned.
    """
    if not needs:
        return source
    attempts = sorted(f"{cell.cell_id} {cell.epoch} {cell.attempt}" for cell in needs)
    return hashlib.sha256(" ".join([source, *attempts]).encode()).hexdigest()[:16]


def reached(location: CheckpointLocation | None) -> Storage:
    """Return the launch's store, for access from this machine.

    Raises:
        StoreNotReachable: this machine cannot access the store.
    """
    storage, problem = reachable(location) if location is not None else (None, None)
    if storage is None:
        raise StoreNotReachable(
            f"this machine cannot read the store ({problem or 'no such folder'}), where the files of needed cells are; "
            "use a --store that all nodes can reach (a network disk, or s3://)"
        )
    return storage


def provide(needs: Iterable[NeededCell], storage: Storage, folder: Path) -> dict[str, tuple[Needed, ...]]:
    """Write the artifacts of needed cells under `folder/BLOCK/CELL_ID`; return block -> its needed cells.

    Raises:
        StoreDamaged: an artifact is missing in the store, or damaged.
    """
    result: dict[str, tuple[Needed, ...]] = {}
    for cell in needs:
        place = folder / cell.block / cell.cell_id
        place.mkdir(parents=True)
        for file in cell.files:
            if file.sha256 is None:
                sys.stderr.write(f"raysweep: {file.path} of {cell.block} {cell.cell_id[:8]}: {file.kind}\n")
                continue
            row = {
                "epoch": cell.epoch, "cell_id": cell.cell_id, "attempt": cell.attempt, "sha256": file.sha256,
                "bytes": file.size, "path": file.path,
            }  # fmt: skip
            save(read_content(storage, row), place, file.path)
        needed = Needed(cell.cell_id, cell.method, cell.k, json.loads(cell.config), place)
        result[cell.block] = (*result.get(cell.block, ()), needed)
    return result
