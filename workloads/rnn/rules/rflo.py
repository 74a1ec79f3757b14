r"""Random-feedback local online learning, RFLO (Murray 2019).

    P_t = (1 - alpha) P_{t-1} + alpha d_t ahat_t^T    P (n, m) eligibility, d_t = 1 - tanh(pre_t)^2 (n,)    (1)
    G_t = (B e_t) * P_t                               B (n, n_out) drawn once, N(0, 1 / n_out), e_t (n_out,) (2)

RTRL with the recurrent part alpha diag(d) W of the state's Jacobian dropped and the leak kept, and with
fixed random feedback instead of V^T (`feedback` "symmetric" gives V^T back). That is e-prop on a network of
one state and one gate a unit, and computed as such. Biased. Time and memory n m a step.

alpha is the network's leak. At alpha = 1 a trace remembers nothing: with symmetric feedback RFLO is then the
immediate gradient, Eq. 5 of the paper (`traces` with decay 0, window-1 BPTT). With a leak and symmetric
feedback it is sparse RTRL at k = 0, and KeRNL with A = I, eta = 0 and gam = alpha.

What differs from the source: the readout is trained by its exact gradient at every step, and the scale of B
is ours (see `eprop`). Marschall, Cho and Savin (2020) also let the trace decay at another rate than the
network's: `traces` with `gain` = 1 - decay.
"""

from __future__ import annotations

from raysweep.workloads.rnn.rules.eprop import eprop, nothing_propagated
from raysweep.workloads.rnn.rules.rule import ONE_COMPONENT, ONE_GATE, ONE_STAGE, RECURRENT, LearningRule, Rule


def rflo(feedback: str = "random") -> Rule:
    """E-prop (1), its learning signal (2) by random feedback.

    Args:
        feedback: "random" or "symmetric".
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
