r"""Random-feedback local online learning, RFLO (Murray 2019).

    P_t = (1 - alpha) P_{t-1} + alpha d_t ahat_t^T    P (n, m) eligibility, d_t = 1 - tanh(pre_t)^2 (n,)    (1)
    G_t = (B e_t) * P_t                               B (n, n_out) drawn once, N(0, 1 / n_out), e_t (n_out,) (2)

RFLO is RTRL without the recurrent part alpha diag(d) W of the state's Jacobian, but with the leak. Fixed random
feedback replaces V^T (`feedback` "symmetric" restores V^T). RFLO is e-prop on a network with one state and one gate
per unit, and is computed by that rule. The gradient is biased. Time and memory are n m a step.

alpha is the network's leak. At alpha = 1 a trace remembers nothing. With symmetric feedback RFLO is then the
immediate gradient, Eq. 5 of the paper (`traces` with decay 0, window-1 BPTT). With a leak and symmetric feedback it
is sparse RTRL at k = 0, and KeRNL with A = I, eta = 0 and gam = alpha.

Differences from the source: the readout is trained by its exact gradient at every step, and the scale of B is ours
(see `eprop`). Marschall, Cho and Savin (2020) also let the trace decay at another rate than the network: this is
`traces` with `gain` = 1 - decay.
"""

from __future__ import annotations

from raysweep.workloads.rnn.rules.eprop import eprop, nothing_propagated
from raysweep.workloads.rnn.rules.rule import ONE_COMPONENT, ONE_GATE, ONE_STAGE, RECURRENT, LearningRule, Rule


def rflo(feedback: str = "random") -> Rule:
    """Build RFLO, which is e-prop on a network with one state and one gate per unit (see the module's docstring).

    Args:
        feedback: what carries the error back to the units: "random" for the fixed matrix B of (2), "symmetric" for the
            readout's V^T.
    """
    return eprop(feedback)


RFLO = LearningRule(
    rflo,
    {"feedback": "random"},
    gradient="biased",
    settle_k=nothing_propagated("rflo"),
    needs=(ONE_COMPONENT, ONE_STAGE, RECURRENT, ONE_GATE),
    immediate=False,
)
