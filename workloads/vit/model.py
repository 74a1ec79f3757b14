"""A vision transformer whose heads can be cut out of the gradient, or out of the network, one by one.

It is pre-norm (Dosovitskiy et al., 2021), with a class token and learned positions. S is the chosen subset of a
block's heads. Let o_1, ..., o_H be the outputs of a block's heads, each (B, T, c). With W_o (H c, d), the block's
attention is

    plain               y = [o_1; ...; o_H] W_o
    sparse transport    y = [~o_1; ...; ~o_H] W_o,  ~o_h = o_h where h is in S, else stopgrad(o_h)      (Eq. 11)
    sparse forward      y = [m_1 o_1; ...; m_H o_H] W_o,  m_h = 1 where h is in S, else 0               (Sec. 4.7)

Equations and sections are those of arXiv 2603.15195. Under Eq. 11 the forward pass is that of the plain model. W_q,
W_k, W_v of a head outside S get no gradient, and nothing flows through that head to earlier blocks. (An optimiser
with moments still moves these weights, unless `cut_heads = "still"`: see `workloads.vit.hold`.) W_o, the MLP and the
residual path get their whole gradient, since heads do not transport it. A mask over H cuts the gradient at the heads'
outputs (B, H, T, c) in one pass, without a loop over heads.

Stated in the paper: embedding 192, depth 4, 12 heads of 16. Not stated: class token or mean, MLP ratio, positions,
dropout (here none).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Transport = Literal["gradient", "forward"]


class Shape(NamedTuple):
    """Sizes of a network."""

    heads: int = 12
    head_dim: int = 16
    embed: int = 192
    depth: int = 4
    mlp_ratio: float = 4.0
    patch: int = 4
    image: int = 32
    classes: int = 10


class CutGradient(torch.autograd.Function):
    """The identity, except that the gradient is exactly 0 for the heads outside the chosen subset S."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, kept: Tensor) -> Tensor:
        """Return the outputs (B, H, T, c) unchanged, and save `kept` (H,), the set S."""
        ctx.save_for_backward(kept)
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient, with 0 for the heads outside S."""
        (kept,) = ctx.saved_tensors
        return gradients[0].masked_fill(~kept[:, None, None], 0.0), None


class Attention(nn.Module):
    """Multi-head attention. `heads` times `head_dim` may differ from `embed`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.head_dim = shape.heads, shape.head_dim
        self.qkv = nn.Linear(shape.embed, 3 * shape.heads * shape.head_dim)
        self.out = nn.Linear(shape.heads * shape.head_dim, shape.embed)

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the output of `qkv`, (B, T, 3 H c), into queries, keys and values, (B, H, T, c) each."""
        batch, tokens, _ = projected.shape
        q, k, v = projected.view(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor, kept: Tensor | None = None, transport: Transport = "gradient") -> Tensor:
        """Apply attention to x (B, T, d). `kept` (H,) bool is the set S.

        `transport` tells what a head outside S loses: its gradient, or its output.
        """
        outputs = scaled_dot_product_attention(*self.split(self.qkv(x)))
        if kept is not None:
            if transport == "gradient":
                outputs = CutGradient.apply(outputs, kept)  # type: ignore[no-untyped-call]
            else:
                outputs = outputs * kept[:, None, None].to(outputs.dtype)
        projected: Tensor = self.out(outputs.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """A transformer block: attention, then an MLP, each after a norm and with a residual path."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        wide = round(shape.embed * shape.mlp_ratio)
        self.norm_attention = nn.LayerNorm(shape.embed)
        self.attention = Attention(shape)
        self.norm_mlp = nn.LayerNorm(shape.embed)
        self.mlp = nn.Sequential(nn.Linear(shape.embed, wide), nn.GELU(), nn.Linear(wide, shape.embed))

    def forward(self, x: Tensor, kept: Tensor | None = None, transport: Transport = "gradient") -> Tensor:
        """Apply the block to x (B, T, d). `kept` (H,) bool is the set S.

        `transport` tells what a head outside S loses: its gradient, or its output.
        """
        x = x + self.attention(self.norm_attention(x), kept, transport)
        changed: Tensor = x + self.mlp(self.norm_mlp(x))
        return changed


class VisionTransformer(nn.Module):
    """A vision transformer: images (B, 3, side, side) to logits (B, classes)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        side = shape.image // shape.patch
        self.shape = shape
        self.patches = nn.Conv2d(3, shape.embed, shape.patch, shape.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, shape.embed))
        self.positions = nn.Parameter(torch.zeros(1, side * side + 1, shape.embed))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.embed)
        self.head = nn.Linear(shape.embed, shape.classes)

    def forward(self, images: Tensor, kept: Tensor | None = None, transport: Transport = "gradient") -> Tensor:
        """Compute the logits (B, classes).

        Args:
            images: (B, 3, side, side).
            kept: (depth, H) bool, each block's set S; None: the plain model.
            transport: what a head outside S loses: its gradient, or its output.
        """
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for layer, block in enumerate(self.blocks):
            x = block(x, None if kept is None else kept[layer], transport)
        token = self.norm(x)[:, 0]
        with torch.autocast(x.device.type, enabled=False):  # ten logits with the 8 bits of bf16 tie
            logits: Tensor = self.head(token.to(self.head.weight.dtype))
        return logits


def build(shape: Shape, seed: int) -> VisionTransformer:
    """Build a network initialised from a seed. It is built on the CPU, so weights do not depend on the device.

    Matrices are N(0, 0.02^2) truncated at two deviations, as is common in successors of ViT. The patch projection is
    scaled by its fan-in. Biases and the class token are 0, norms the identity.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = VisionTransformer(shape)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "patches.weight":
                bound = 1 / math.sqrt(parameter[0].numel())
                nn.init.trunc_normal_(parameter, std=bound, a=-2 * bound, b=2 * bound, generator=generator)
            elif name == "positions" or parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return model
