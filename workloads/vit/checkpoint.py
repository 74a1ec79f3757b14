"""What a cell can be taken up from: its state between two epochs, as bytes.

Written by `torch.save` and read with `weights_only=True`, which makes tensors, numbers, text and plain containers and
runs no code of the file's. Random numbers need no state: each epoch has generators of its own.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from raysweep.workloads.interface import Cell
from raysweep.workloads.vit.fisher import Heads
from raysweep.workloads.vit.model import VisionTransformer
from raysweep.workloads.vit.selection import Mask

FORMAT = 2
Floats = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class State:
    """All that an epoch changes.

    Args:
        model: the network.
        optimizer: of its parameters.
        moving: (depth, H) float64, on the model's device, how far the task's steps so far moved each head
            (`raysweep.workloads.vit.movement`).
        task: from 0, the one to train.
        epoch: from 0, of that task.
        held: positions of the images in the buffer.
        kept: the heads that a ranking chose; None: none was made yet.
        losses: one a step.
        rows: accuracies after each task on the tasks up to it.
        heads: scores of the heads after each task.
        movement: `moving` of each task, at its end.
        diverged_at: the first step that had, or would have had, no finite loss; None: there was none.
        seconds: of training.
        images: trained on, counted as often as they were seen.
    """

    model: VisionTransformer
    optimizer: torch.optim.Optimizer
    moving: torch.Tensor
    task: int = 0
    epoch: int = 0
    held: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    kept: Mask | None = None
    losses: list[float] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)
    heads: list[Heads] = field(default_factory=list)
    movement: list[Floats] = field(default_factory=list)
    diverged_at: int | None = None
    seconds: float = 0.0
    images: int = 0


def saved(state: State, cell: Cell) -> bytes:
    """The state as bytes; tensors are copied to the CPU by whoever reads them."""
    buffer = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "cell_id": cell.cell_id,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "task": state.task,
            "epoch": state.epoch,
            "held": torch.from_numpy(state.held),
            "kept": None if state.kept is None else torch.from_numpy(state.kept),
            "losses": torch.tensor(state.losses, dtype=torch.float64),
            "rows": [torch.tensor(row, dtype=torch.float64) for row in state.rows],
            "fisher": [torch.from_numpy(heads.fisher) for heads in state.heads],
            "entropy": [torch.from_numpy(heads.entropy) for heads in state.heads],
            "moving": state.moving,
            "movement": [torch.from_numpy(moved) for moved in state.movement],
            "diverged_at": state.diverged_at,
            "seconds": state.seconds,
            "images": state.images,
        },
        buffer,
    )
    return buffer.getvalue()


def restore(data: bytes, state: State, cell: Cell) -> None:
    """Put a saved state into one just begun.

    Everything is read onto the CPU, and `load_state_dict` copies what belongs elsewhere: read onto a GPU, AdamW's
    counts of steps would stay there, and each step would wait for each of them.

    Raises:
        ValueError: the bytes are no checkpoint, or another cell's; one line.
    """
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        ours = isinstance(found, dict) and (found.get("format"), found.get("cell_id")) == (FORMAT, cell.cell_id)
        if ours:
            _put_back(found, state)
    except (MemoryError, torch.cuda.OutOfMemoryError):  # the machine's fault, not the checkpoint's
        raise
    except Exception as error:  # bytes from anywhere: whatever is wrong with them shows in torch or here
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the checkpoint of cell {cell.cell_id} cannot be read, remove it: {said}") from error
    if not ours:
        raise ValueError(f"the checkpoint found for cell {cell.cell_id} is not of this cell and version; remove it")


def _put_back(found: dict[str, Any], state: State) -> None:
    state.model.load_state_dict(found["model"])
    state.optimizer.load_state_dict(found["optimizer"])
    state.task, state.epoch = int(found["task"]), int(found["epoch"])
    state.held = found["held"].numpy()
    state.kept = None if found["kept"] is None else found["kept"].numpy()
    state.losses = found["losses"].tolist()
    state.rows = [row.tolist() for row in found["rows"]]
    state.heads = [
        Heads(fisher.numpy(), entropy.numpy())
        for fisher, entropy in zip(found["fisher"], found["entropy"], strict=True)
    ]
    state.moving.copy_(found["moving"])
    state.movement = [moved.numpy() for moved in found["movement"]]
    state.diverged_at, state.seconds, state.images = found["diverged_at"], found["seconds"], found["images"]
