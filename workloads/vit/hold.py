"""Heads that stand still in the steps that cut them (`cut_heads = "still"`).

A head outside S has gradient 0 for its W_q, W_k, W_v, which is not no gradient: an optimiser with moments moves it all
the same, by what it has learnt of earlier steps, and weight decay shrinks it. arXiv 2603.15195 speaks of gradients
alone (Eq. 11) and does not say which it means. Here all that a step does to these rows, weights and biases, and to
their moments (AdamW's `exp_avg` and `exp_avg_sq`, the `momentum_buffer` of SGD), is undone for the heads outside S:
bit for bit as before the step. The others' rows are those of a step that holds nothing. AdamW's count of steps, from
which it corrects the bias of young moments, is one a tensor and goes on for all heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raysweep.workloads.vit.model import Attention, VisionTransformer


@contextmanager
def hold(model: VisionTransformer, optimizer: torch.optim.Optimizer, kept: Tensor) -> Iterator[None]:
    """Around an optimiser's step: the heads outside S come out as they went in.

    All heads at once, a copy of the rows each way; nothing waits for the device.

    Args:
        model: its W_q, W_k, W_v, of every block.
        optimizer: of the model's parameters.
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
                # Moments are made in the first step, of nothing.
                value.copy_(torch.where(stays, old.get(name, torch.zeros_like(value)), value))


def _moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> list[tuple[str, Tensor]]:
    """What the optimiser keeps of each entry of a parameter, by name; its count of steps is none of it."""
    return [
        (name, value)
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    ]
