"""The learners that the compiled loop can run, and the cost of a step.

This module does not import the compiler, since it is used when sweeps are planned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

ARCHITECTURES = ("tanh_rnn", "lstm", "gru_reset_after")
LOSSES = ("mse", "half_sse", "cross_entropy")
OPTIMIZERS = ("adam", "adam_reference", "rmsprop", "sgd")


class Size(NamedTuple):
    """The sizes of a learner, and estimates of a step's cost in microseconds, on one core in float32.

    A cost is a small overhead plus the time of the multiply-adds, whose rate is limited by memory. The estimates were
    fitted to measurements of the tanh RNN, LSTM and GRU at n = 16 to 256: `gathered_us` and `dense_us` on an AMD EPYC,
    where their ratio was right within a factor of two; `back_us`, `move_us` and `two_levels_us` on an Intel Xeon,
    where they were right within a factor of 1.5.
    """

    n: int  # hidden units
    k: int  # recurrent sources of each unit
    components: int
    gates: int
    m: int  # inputs of each gate, the bias's 1 included

    @property
    def influence(self) -> int:
        """Number of entries of J, C G n^2 m."""
        return self.components * self.n * self.gates * self.n * self.m

    @property
    def back_us(self) -> float:
        """Estimated microseconds of a replay per step that it reads back."""
        return 0.1 + self.gates * self.n * (self.m + self.k) / 9500

    @property
    def gathered_us(self) -> float:
        """Estimated microseconds per step of carrying J in the compiled loop, with k sources per unit."""
        return self.influence * (self.k + self.components) / 3000

    @property
    def move_us(self) -> float:
        """Estimated microseconds of moving J on over a block, but for the part that grows with the block's steps."""
        return 50 + self.components * self.n * self.influence / 70000

    @property
    def block(self) -> int:
        """Number of steps per block of two levels: that of least cost, as half a block is read back at each step."""
        return min(128, max(16, round(math.sqrt(2 * self.move_us / self.back_us))))

    @property
    def two_levels_us(self) -> float:
        """Estimated microseconds per step of two levels: read back half a block, contract J, move it on."""
        contract = self.influence / 5500
        products = 2 + ((self.components * self.n) ** 3 + self.influence) / 15000
        return self.block / 2 * self.back_us + contract + products + self.move_us / self.block

    @property
    def dense_us(self) -> float:
        """Estimated microseconds per step of carrying J by NumPy's dense product."""
        return 300 + self.components * self.n * self.influence / 40000

    @property
    def gather_pays(self) -> bool:
        """Whether the compiled loop carries J faster than NumPy."""
        return self.gathered_us <= self.dense_us


class Propagation(NamedTuple):
    """A rule of the masked-RTRL family, described by the connections along which it propagates influence.

    The family: `rtrl`, `sparse_rtrl`, `snap` of order 1, `traces`, `bptt`, and `eprop` and `rflo` with symmetric
    feedback.
    """

    n: int  # hidden units
    k: int  # recurrent sources of each unit
    selection: str | None  # None: no sources, all, or each unit itself alone
    include_self: bool
    decay: float | None = None  # of a carried trace
    window: int | None = None  # greatest number of steps that a replay goes back; None: until `tol` ends it

    @property
    def local(self) -> bool:
        """Whether influence stays within units. Carrying it is then cheapest."""
        return self.decay is None and self.window is None and (self.k == 0 or self.each_itself)

    @property
    def each_itself(self) -> bool:
        """Whether each unit's only source is itself."""
        return self.k == 1 and self.include_self

    @property
    def carried(self) -> bool:
        """Whether every step needs J, to choose the mask."""
        return self.selection == "dynamic" and 0 < self.k < self.n

    @property
    def replays(self) -> bool:
        """Whether the gradient is read back over kept steps, until the signal has shrunk to the fraction `tol`."""
        return self.decay is None and self.window is None and not self.local and not self.carried


def propagation_of(method: str, k: int | None, n: int, settings: Mapping[str, Any]) -> Propagation | None:
    """Describe a rule as a `Propagation`. None if it is not in the masked-RTRL family.

    Args:
        method: name of the rule.
        k: the cell's recorded k.
        n: number of hidden units.
        settings: the rule's own settings.
    """
    if method == "traces":
        return Propagation(n, 0, None, False, settings["decay"])
    if method == "bptt":  # over one step nothing passes through the weights, so none are kept
        return Propagation(n, 0 if settings["window"] == 1 else n, None, False, window=settings["window"])
    if method == "rtrl":
        return Propagation(n, n, None, False)
    if method == "snap" and settings["order"] == 1:
        return Propagation(n, 1, None, True)
    if method in ("eprop", "rflo") and settings["feedback"] == "symmetric":
        return Propagation(n, 0, None, False)
    if method == "sparse_rtrl":
        return Propagation(n, k or 0, settings["selection"], settings["include_self"])
    return None


def not_fused(form: Propagation | None, architecture: str, loss: str, optimizer: str) -> str | None:
    """Return the reason why the compiled loop cannot run this learner; None if it can."""
    if form is None:
        return "the rule is not of the masked-RTRL family, or needs the influence itself"
    for what, name, known in (
        ("architecture", architecture, ARCHITECTURES),
        ("loss", loss, LOSSES),
        ("optimizer", optimizer, OPTIMIZERS),
    ):
        if name not in known:
            return f"{what} {name!r} has none; these have: {', '.join(known)}"
    return None
