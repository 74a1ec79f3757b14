"""The part of one forward step that a learning rule may see."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


class Step(NamedTuple):
    """Linearisation of h_t = (1 - alpha) h_{t-1} + alpha phi(theta ahat_t) at step t.

    The state Jacobian is D_t = (1 - alpha) I + diag(gain) W, and the immediate influence of the row
    theta_j. on h_t[j] is gain[j] ahat. W is a view of the weights *that this step ran with*.

    Attributes:
        ahat: [h_{t-1}; x_t; 1], shape (m,).
        gain: alpha phi'(pre_t), shape (n,).
        W: recurrent weights theta_{t-1}, shape (n, n).
        alpha: the leak.
    """

    ahat: Array
    gain: Array
    W: Array
    alpha: float
