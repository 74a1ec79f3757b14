"""Conversion of stored images to network inputs, on the images' device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SHIFT = 4
"""Largest shift in pixels, vertically and horizontally."""


def network_input(images: Tensor, which: Tensor, rng: np.random.Generator | None) -> Tensor:
    """Select images, as float32 from -1 to 1. With `rng`, flip and shift each image at random.

    Args:
        images: (N, 3, side, side) uint8.
        which: (B,) int64, positions of the selected images, on the device of `images`.
        rng: generator of the flips, and of the shifts by up to `SHIFT` pixels; None: no augmentation.

    Returns:
        (B, 3, side, side).
    """
    if rng is None:
        return images[which].float() / 127.5 - 1
    side = images.shape[-1]
    shifts = rng.integers(-SHIFT, SHIFT + 1, size=(2, len(which)))
    flips = rng.random(len(which)) < 0.5
    at = np.arange(side)
    rows = at + shifts[0][:, None]
    columns = np.where(flips[:, None], at[::-1], at) + shifts[1][:, None]
    outside = (rows < 0)[:, :, None] | (rows >= side)[:, :, None]
    outside = outside | ((columns < 0) | (columns >= side))[:, None, :]
    rows, columns, blank = (
        torch.from_numpy(part).to(images.device)
        for part in (rows.clip(0, side - 1), columns.clip(0, side - 1), outside)
    )
    channels = torch.arange(images.shape[1], device=images.device)
    picked = images[
        which[:, None, None, None], channels[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]
    return picked.float().div_(127.5).sub_(1).masked_fill_(blank[:, None], 0.0)  # 0 is mid grey
