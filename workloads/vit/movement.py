"""Movement of each head in a step: the Euclidean norm of the change of its rows of W_q, W_k, W_v, without biases."""

from __future__ import annotations

import torch
from torch import Tensor

from raysweep.workloads.vit.model import Attention, VisionTransformer


def weights(model: VisionTransformer) -> Tensor:
    """Copy W_q, W_k, W_v of all blocks: (depth, 3 H c, d)."""
    return torch.stack(
        [block.attention.qkv.weight.detach() for block in model.blocks if isinstance(block.attention, Attention)]
    )


def moved(model: VisionTransformer, before: Tensor) -> Tensor:
    """Compute the norm of each head's change since the copy `before`: (depth, H)."""
    shape = model.shape
    change = (weights(model) - before).view(shape.depth, 3, shape.heads, -1)
    norm: Tensor = torch.linalg.vector_norm(change, dim=(1, 3))
    return norm
