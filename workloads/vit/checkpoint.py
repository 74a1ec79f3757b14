"""Conversion of a cell's state to bytes and back, for a checkpoint between two epochs.

`torch.save` writes the bytes. They are read with `weights_only=True`, which loads tensors, numbers, text and plain
containers, and runs no code from the file. Random generators have no state to save: each epoch creates its own.
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
    """The state of a cell: everything that an epoch changes.

    Args:
        model: the network.
        optimizer: the optimiser of the network's parameters.
        moving: (depth, H) float64, on the model's device: movement of each head in this task so far
            (`raysweep.workloads.vit.movement`).
        task: the current task, from 0.
        epoch: the current epoch of the task, from 0.
        held: the replay buffer, as positions of its images in the training set.
        kept: (depth, H), the heads chosen by the ranking; None before the ranking.
        losses: the loss of each step.
        rows: accuracies after each task on the tasks so far.
        heads: scores of the heads after each task.
        movement: `moving` at the end of each task.
        diverged_at: the step at which training diverged (see `training.one_epoch`); None if it has not.
        seconds: training time.
        images: number of images processed in training, replayed ones included; repeated images count each time.
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
    """Encode a state as bytes."""
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
    """Load a saved state into a new one.

    Everything is loaded onto the CPU, and `load_state_dict` then copies tensors to the device. AdamW's step counts stay
    on the CPU that way. On a GPU, each step would wait for them.

    Raises:
        ValueError: the bytes are not a checkpoint of this cell; the message is one line.
    """
    try:
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        valid = isinstance(stored, dict) and (stored.get("format"), stored.get("cell_id")) == (FORMAT, cell.cell_id)
        if valid:
            _load(stored, state)
    except (MemoryError, torch.cuda.OutOfMemoryError):  # not the checkpoint's fault
        raise
    except Exception as error:  # arbitrary bytes raise arbitrary errors
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the checkpoint of cell {cell.cell_id} cannot be read, remove it: {message}") from error
    if not valid:
        raise ValueError(f"the checkpoint of cell {cell.cell_id} belongs to another cell or version; remove it")


def _load(stored: dict[str, Any], state: State) -> None:
    state.model.load_state_dict(stored["model"])
    state.optimizer.load_state_dict(stored["optimizer"])
    state.task, state.epoch = int(stored["task"]), int(stored["epoch"])
    state.held = stored["held"].numpy()
    state.kept = None if stored["kept"] is None else stored["kept"].numpy()
    state.losses = stored["losses"].tolist()
    state.rows = [row.tolist() for row in stored["rows"]]
    state.heads = [
        Heads(fisher.numpy(), entropy.numpy())
        for fisher, entropy in zip(stored["fisher"], stored["entropy"], strict=True)
    ]
    state.moving.copy_(stored["moving"])
    state.movement = [moved.numpy() for moved in stored["movement"]]
    state.diverged_at, state.seconds, state.images = stored["diverged_at"], stored["seconds"], stored["images"]
