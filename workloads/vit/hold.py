"""Protection of the heads outside the chosen subset S from an optimiser's step (`cut_heads = "still"`).

A head outside S has gradient 0 for its W_q, W_k, W_v. An optimiser with moments still moves these weights, and weight
decay shrinks them. The paper defines gradients alone (Eq. 11) and leaves this open. Here a step's changes to these
heads' rows of W_q, W_k, W_v, to their biases and to their moments are undone, bit for bit. Moments are AdamW's
`exp_avg` and `exp_avg_sq`, or SGD's `momentum_buffer`. Rows of heads in S are those of a plain step. AdamW's step
count, which corrects the bias of its moments, exists once per tensor and advances for all heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raysweep.workloads.vit.model import Attention, VisionTransformer


@contextmanager
def hold(model: VisionTransformer, optimizer: torch.optim.Optimizer, kept: Tensor) -> Iterator[None]:
    """Restore the heads outside S at the end of the `with` block, which contains the optimiser's step.

    All heads are handled at once, with one copy of the rows and without synchronisation with the device.

    Args:
        model: the network; the rows of W_q, W_k, W_v of heads outside S, and their biases, are restored.
        optimizer: the optimiser of the model's parameters.
        kept: (depth, H) bool on the model's device, each block's set S.
    """
    parameters = [
        (parameter, layer)
        for layer, block in enumerate(model.blocks)
        if isinstance(block.attention, Attention)
        for parameter in block.attention.qkv.parameters()
    ]
    before = [
        {None: parameter.detach().clone()} | {name: value.clone() for name, value in _moments(optimizer, parameter)}
        for parameter, _ in parameters
    ]
    yield
    rows = kept.repeat_interleave(model.shape.head_dim, dim=1).repeat(1, 3)  # (depth, 3 H c), as `qkv` has them
    with torch.no_grad():
        for (parameter, layer), old in zip(parameters, before, strict=True):
            stays = ~rows[layer].view(-1, *[1] * (parameter.ndim - 1))
            parameter.copy_(torch.where(stays, old[None], parameter))
            for name, value in _moments(optimizer, parameter):
                # Moments do not exist before the first step: they start at zero.
                value.copy_(torch.where(stays, old.get(name, torch.zeros_like(value)), value))


def _moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> list[tuple[str, Tensor]]:
    """Return the parts of the optimiser's state, by name, that have one value per entry of the parameter."""
    return [
        (name, value)
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    ]
