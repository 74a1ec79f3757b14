"""Experiments 7 to 9, whose workloads do not exist yet, and what tests check instead of a store."""

from __future__ import annotations

from analysis.claims.claim import ByTests, Claim, Line, NotBuilt

FAMILY = "unrun"
VIT = NotBuilt(
    "the workload does not exist yet: a vision transformer on Split CIFAR-10 with gradients through few heads"
)
BCI = NotBuilt("the workload does not exist yet: decoding two recording sessions of the Indy data")
COVERS = (
    "stored runs of that framework with SGD over 200 steps: gradients, states, losses and weights to 1e-12, float64; "
    "it needs the golden vectors and is skipped without"
)
REFERENCE = "tests/workloads/test_golden.py::test_learning_with_sgd_follows_marschalls_framework"


def _claim(name: str, where: str, judge: NotBuilt, *parts: tuple[str, str, str]) -> Claim:
    return Claim(name, FAMILY, where, tuple(Line(part, says, paper, judge) for part, says, paper in parts))


# fmt: off
threshold = _claim(
    "E7-threshold", "Sec. 4.7, Table 10", VIT,
    ("6 of 12 heads", "6 of 12 heads recover 107 %", "107"),
    ("4 of 12 heads", "4 of 12 heads recover 77 %", "77"),
    ("2 of 12 heads", "2 of 12 heads recover 8 %", "8"),
    ("1 of 12 heads", "1 of 12 heads is the floor", "0"),
)
forward = _claim(
    "E7-forward", "Sec. 4.7", VIT,
    ("threshold", "zeroed in the forward pass, 50 % of heads are needed", "50 %"),
    ("floor", "with one head its accuracy is .14 against .33 detached", "0.14 against 0.33"),
)
forgetting = _claim(
    "E7-forgetting", "Sec. 4.7", VIT,
    ("less forgetting", "forgetting is .22 against .45 dense", "0.22 against 0.45"),
)
head_fisher = _claim(
    "E8-fisher", "Sec. 4.8, Table 11", VIT,
    ("gap", "Fisher's oracle recovers 24.3 points more than its opposite (95.3, 71.0)", "24.3"),
    ("on every seed", "the gap is positive on 5 of 5 seeds", "5 of 5"),
    ("entropy", "entropy (76.4) is no better than random (77.5)", "-1.1"),
)
timing = _claim(
    "E8-timing", "Sec. 4.8", VIT,
    ("after task 1", "Fisher after task 1 helps tasks 3-5", "22.5"),
    ("after task 2", "Fisher after task 2 is worse than random there", "worse"),
)
bci = _claim(
    "E9-bci", "Sec. 4.9, Table 12", BCI,
    ("level, k = 4", "k = 4 recovers 80 +- 11 % of the drift", "80 +- 11"),
    ("every seed", "all five seeds are above 60 %", "5 of 5"),
    ("full fails", "full RTRL fails on two seeds (49, 38 %)", "2 of 5"),
    ("traces", "traces recover 58.5 %", "58.5"),
)
reference = Claim(
    "V-reference", FAMILY, "Sec. 4",
    (
        Line("agreement", "RTRL and RFLO agree exactly with the reference of Marschall et al. (2020) over 2000 "
             "online steps", "zero difference", ByTests(REFERENCE, COVERS)),
    ),
)
