"""Which learners the compiled loop can run, and in which terms. Imports no compiler: plans ask it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ARCHITECTURES = ("tanh_rnn", "lstm", "gru_reset_after")
LOSSES = ("mse", "half_sse", "cross_entropy")
OPTIMIZERS = ("adam", "adam_reference", "sgd")


class Size(NamedTuple):
    """What a step costs by, in microseconds on one core of an AMD EPYC in float32.

    Measured for n = 16 to 256, tanh RNN, LSTM and GRU: a small overhead, and multiply-adds at the rate that
    memory allows. The three forms' ratios are within a factor of two of these.
    """

    n: int  # hidden units
    k: int  # sources of each
    components: int
    gates: int
    m: int  # inputs of a gate

    @property
    def back_us(self) -> float:
        """Replay, for each step that it goes back."""
        return 0.3 + self.gates * self.n * (self.m + self.k) / 7500

    @property
    def gathered_us(self) -> float:
        """Carrying J compiled, k sources a unit."""
        rows = self.components * self.n
        return rows * (self.k + self.components) * self.gates * self.n * self.m / 3000

    @property
    def dense_us(self) -> float:
        """Carrying J by NumPy's dense product."""
        return 300 + (self.components * self.n) ** 2 * self.gates * self.n * self.m / 40000

    @property
    def gather_pays(self) -> bool:
        """Whether the compiled way to carry J is the faster one."""
        return self.gathered_us <= self.dense_us


class Propagation(NamedTuple):
    """A rule of the masked-RTRL family: what is propagated along which connections."""

    n: int  # units
    k: int  # sources of each
    selection: str | None  # None: k is 0 or n, or each unit itself alone
    include_self: bool
    decay: float | None = None  # of a carried trace
    window: int | None = None  # steps that a replay goes back at most; None: as far as tol says

    @property
    def local(self) -> bool:
        """Whether influence stays within units, so that carrying it is cheapest."""
        return self.decay is None and self.window is None and (self.k == 0 or self.each_itself)

    @property
    def each_itself(self) -> bool:
        """Whether each unit keeps its connection to itself alone."""
        return self.k == 1 and self.include_self

    @property
    def carried(self) -> bool:
        """Whether J itself is needed at every step, to choose the mask by."""
        return self.selection == "dynamic" and 0 < self.k < self.n

    @property
    def replays(self) -> bool:
        """Whether the gradient is read back over the trajectory as far as `tol` says."""
        return self.decay is None and self.window is None and not self.local and not self.carried


def propagation_of(method: str, k: int | None, n: int, settings: Mapping[str, Any]) -> Propagation | None:
    """The rule in those terms, or None if it is not of the family.

    Args:
        method: name of the rule.
        k: as settled.
        n: hidden units.
        settings: the rule's own.
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
    """Why there is no compiled loop, or None if there is."""
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
