"""Methods of Experiments 7 and 8: the attention heads of each block that a step's gradient passes through.

Source: arXiv 2603.15195, Sec. 4.7 and 4.8. A subset S is k of the H heads of one block, a row of a mask (depth, H).

| method | k | heads |
|---|---|---|
| `bptt_ref` | H | the plain model |
| `dense_ref` | H | all, by the code of the sparse methods: bit for bit the plain model's gradient |
| `no_replay` | H | the plain model without a buffer of earlier examples: the baseline of forgetting |
| `sparse` | given | a random S, new in each block at every forward pass |
| `trace_like` | 1 | the same with one head: the paper's floor |
| `sparse_forward` | given | the heads outside S are zeroed in the forward pass instead |
| `random` | given | all before task `select_from`; from then on as in `sparse` |
| `fisher_oracle`, `fisher_anti` | given | all before `select_from`; then the k of most or least Fisher information |
| `entropy_oracle`, `entropy_anti` | given | likewise, the k of most peaked or flattest attention |

Heads are ranked once, after task `rank_after`, within each block. The paper leaves two points open. Here all heads
learn until the selection begins (the paper says "for tasks 2-5"), and rankings are within a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from raysweep.workloads.registry import Registry

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Method:
    """How a method chooses heads, and what the other heads lose.

    Args:
        transport: what a head outside S loses; None: nothing is cut.
        k: the method's own k, `"all"` for H; None: given by the cell.
        staged: whether all heads learn until task `select_from`.
        score: the score that heads are ranked by; None: S is random.
        most: whether to keep the k heads with the highest scores, or those with the lowest.
        replay: whether earlier examples are kept and replayed.
    """

    transport: Literal["gradient", "forward"] | None = "gradient"
    k: int | Literal["all"] | None = None
    staged: bool = False
    score: Literal["fisher", "entropy"] | None = None
    most: bool = True
    replay: bool = True

    @property
    def cuts(self) -> bool:
        """Whether any step cuts the gradient of some head, so that `cut_heads` has an effect."""
        return self.transport == "gradient" and self.k != "all"


METHODS: Registry[Method] = Registry(
    "method",
    {
        "bptt_ref": Method(transport=None, k="all"),
        "dense_ref": Method(k="all"),
        "no_replay": Method(transport=None, k="all", replay=False),
        "sparse": Method(),
        "trace_like": Method(k=1),
        "sparse_forward": Method(transport="forward"),
        "random": Method(staged=True),
        "fisher_oracle": Method(staged=True, score="fisher"),
        "fisher_anti": Method(staged=True, score="fisher", most=False),
        "entropy_oracle": Method(staged=True, score="entropy", most=False),
        "entropy_anti": Method(staged=True, score="entropy"),
    },
)


def draw(rng: np.random.Generator, depth: int, heads: int, k: int) -> Mask:
    """Draw k of the heads at random in each block, every subset with equal probability: mask (depth, H)."""
    mask: Mask = rng.random((depth, heads)).argsort(axis=1).argsort(axis=1) < k
    return mask


def ranked(scores: npt.NDArray[np.float64], k: int, most: bool) -> Mask:
    """Select the k heads of each block with the highest scores (`most`) or the lowest: mask (depth, H).

    Ties go to the head with the lower index.
    """
    order = np.argsort(-scores if most else scores, axis=1, kind="stable")
    mask = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(mask, order[:, :k], True, axis=1)
    return mask
