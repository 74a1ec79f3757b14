"""The claim that is checked by a test instead of a store's cells."""

from __future__ import annotations

from raysweep.analysis.claims.claim import ByTests, Claim, Line

FAMILY = "unrun"
COVERS = (
    "stored runs of that framework with SGD over 200 steps: gradients, states, losses and weights to 1e-12, float64; "
    "the test is skipped without the golden vectors"
)
REFERENCE = "tests/workloads/rnn/test_golden.py::test_learning_with_sgd_follows_marschalls_framework"


# fmt: off
reference = Claim(
    "V-reference", FAMILY, "Sec. 4",
    (
        Line("agreement", "RTRL and RFLO agree exactly with the reference of Marschall et al. (2020) over 2000 "
             "online steps", "zero difference", ByTests(REFERENCE, COVERS)),
    ),
)
