"""What a cell can be taken up from: its state between two epochs, as bytes.

Written by `torch.save` and read with `weights_only=True`, which makes tensors, numbers, text and plain containers and
runs no code of the file's. Random numbers need no state: each epoch has generators of its own.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workloads.interface import Cell
from workloads.vit.fisher import Heads
from workloads.vit.model import VisionTransformer
from workloads.vit.selection import Mask

FORMAT = 1
Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class State:
    """All that an epoch changes."""

    model: VisionTransformer
    optimizer: torch.optim.Optimizer
    task: int = 0
    epoch: int = 0
    held: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    kept: Mask | None = None
    losses: list[float] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)
    heads: list[Heads] = field(default_factory=list)
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
            "diverged_at": state.diverged_at,
            "seconds": state.seconds,
            "images": state.images,
        },
        buffer,
    )
    return buffer.getvalue()


def restore(data: bytes, state: State, cell: Cell, device: torch.device) -> None:
    """Put a saved state into one just begun.

    Raises:
        ValueError: the bytes are no checkpoint, or another cell's; one line.
    """
    try:
        found = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the checkpoint of cell {cell.cell_id} cannot be read, remove it: {said}") from error
    if not isinstance(found, dict) or (found.get("format"), found.get("cell_id")) != (FORMAT, cell.cell_id):
        raise ValueError(f"the checkpoint found for cell {cell.cell_id} is not of this cell and version; remove it")
    state.model.load_state_dict(found["model"])
    state.optimizer.load_state_dict(found["optimizer"])
    state.task, state.epoch = found["task"], found["epoch"]
    state.held = found["held"].cpu().numpy()
    state.kept = None if found["kept"] is None else found["kept"].cpu().numpy()
    state.losses = found["losses"].tolist()
    state.rows = [row.tolist() for row in found["rows"]]
    state.heads = [
        Heads(fisher.cpu().numpy(), entropy.cpu().numpy())
        for fisher, entropy in zip(found["fisher"], found["entropy"], strict=True)
    ]
    state.diverged_at, state.seconds, state.images = found["diverged_at"], found["seconds"], found["images"]
