"""Scores of attention heads: their Fisher information and the entropy of their attention (the paper's Sec. 4.8).

Let g_b be the gradient of sample b's cross-entropy with its true label. Let P_h be the parameters of head h: its rows
of W_q, W_k, W_v and its columns of W_o.

    F_h = mean over b of  sum over p in P_h of  g_b[p]^2        (the diagonal of the empirical Fisher information)

    E_h = mean over b and queries of  - sum over keys of a log a,  a = softmax(q k^T / sqrt(c))       nats

Biases are left out. One backward pass serves a whole batch. A linear layer's gradient for sample b is delta_b^T x_b,
with the layer's inputs x (B, T, n) and the gradients delta (B, T, m) at its outputs. Samples of a batch are
independent, since there is no batch norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysweep.workloads.vit.model import Attention, VisionTransformer

BATCH = 50
PARTS = ("q", "k", "v", "out")


class Heads(NamedTuple):
    """The scores of all heads: Fisher information and entropy."""

    fisher: npt.NDArray[np.float64]
    """(4, depth, H): the Fisher information of W_q, W_k, W_v, W_o. The sum of the four is F."""
    entropy: npt.NDArray[np.float64]
    """(depth, H), nats."""


def cross_entropies(logits: Tensor, labels: Tensor, competing: Tensor | None) -> Tensor:
    """Compute the cross-entropy of each sample, (B,), in nats.

    Args:
        logits: (B, classes).
        labels: (B,) int64.
        competing: (classes, classes) bool. Row c says which classes compete with class c; None: all do.
    """
    if competing is not None:
        logits = logits.masked_fill(~competing[labels], -math.inf)
    losses: Tensor = cross_entropy(logits, labels, reduction="none")
    return losses


def measure(model: VisionTransformer, images: Tensor, labels: Tensor, competing: Tensor | None = None) -> Heads:
    """Measure the Fisher information and entropy of all heads on some images. The model stays unchanged.

    Args:
        model: the network, with all heads.
        images: (B, 3, side, side), network inputs.
        labels: (B,) int64.
        competing: as for `cross_entropies`.
    """
    shape = model.shape
    fisher = torch.zeros(len(PARTS), shape.depth, shape.heads, dtype=torch.float64)
    entropy = torch.zeros(shape.depth, shape.heads, dtype=torch.float64)
    attentions = [block.attention for block in model.blocks if isinstance(block.attention, Attention)]
    layers = [layer for attention in attentions for layer in (attention.qkv, attention.out)]
    for start in range(0, len(images), BATCH):
        x, y = images[start : start + BATCH], labels[start : start + BATCH]
        passed, logits = _observed(model, layers, x)
        loss = cross_entropies(logits, y, competing).sum()
        deltas = torch.autograd.grad(loss, [output for _, output in passed])
        for layer, attention in enumerate(attentions):
            (into, projected), (outputs, _) = passed[2 * layer : 2 * layer + 2]
            rows = torch.einsum("btm,btn->bmn", deltas[2 * layer], into).square().sum((0, 2))
            columns = torch.einsum("btm,btn->bmn", deltas[2 * layer + 1], outputs).square().sum((0, 1))
            fisher[:3, layer] += rows.double().view(3, shape.heads, shape.head_dim).sum(-1).cpu()
            fisher[3, layer] += columns.double().view(shape.heads, shape.head_dim).sum(-1).cpu()
            entropy[layer] += _entropy(attention, projected.detach()).cpu()
    count = max(len(images), 1)
    return Heads((fisher / count).numpy(), (entropy / count).numpy())


def _observed(
    model: VisionTransformer, layers: Sequence[nn.Module], images: Tensor
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Run a forward pass, and return the input and output of each of `layers`, in order, and the logits."""
    passed: list[tuple[Tensor, Tensor]] = []

    def observe(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passed.append((inputs[0].detach(), output))

    hooks = [layer.register_forward_hook(observe) for layer in layers]
    try:
        logits = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return passed, logits


def _entropy(attention: Attention, projected: Tensor) -> Tensor:
    """Compute the attention entropy of each head, (H,): summed over samples, mean over queries."""
    q, k, _ = attention.split(projected)
    weights = (q @ k.transpose(-1, -2) / attention.head_dim**0.5).softmax(-1)
    total: Tensor = torch.special.entr(weights).sum(-1).mean(-1).sum(0).double()
    return total
