"""Wrong verdicts, power and cells of the anytime-valid verdicts, against a t test and fixed plans, by simulation.

    python benchmarks/questions.py                   # 1,000 replicates a row, three minutes of CPU

Each replicate is a sequence of paired differences a - b, looked at after every seed up to `SEEDS`. Effects are in
standard deviations of the difference. Columns:

    wrong         share of replicates that ever get a wrong verdict
    wrong, t      the same for a t test at 5 % looked at as often, from the third seed
    right         share with the right verdict by the last seed: the power
    median        median number of seeds until the verdict; the last seed if there is none
    equal power   seeds of the best of three fixed tests (t, signed rank, sign) with at least this power
    plan          seeds of the best fixed test with 80 % power at the smallest effect

*All effects* pools the replicates of a case's four effects: a plan has to be made for the smallest one. Further tables
have a margin, several settings, and other ways to compute the evidence; the last one leaves the assumption of
exchangeable pairs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # installed with scikit-learn

from raysweep.analysis.questions import sequential
from raysweep.analysis.questions.sequential import LEVEL, RATES, log_evidence
from raysweep.analysis.statistics.inference import t_quantile

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

SEEDS = 60
EFFECTS = (0.0, 0.5, 0.7, 1.0, 1.5)
FAILURE_RATE = 0.05
MARGIN = 1.0
SETTINGS = 5
THRESHOLD = math.log(2 / LEVEL)


def normal(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Standard normal differences."""
    return rng.normal(size=size)


def heavy_tailed(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Student's t with 3 degrees of freedom, of unit variance."""
    return np.asarray(rng.standard_t(3, size=size) / math.sqrt(3))


def skewed(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Difference of two lognormal outcomes."""
    a, b = np.exp(rng.normal(size=(2, *size)))
    return np.asarray((a - b) / math.sqrt(2 * (math.e - 1) * math.e))


def shifted(draw: Draw, rng: np.random.Generator, size: tuple[int, int], effect: float) -> Array:
    """Differences of a law, moved by the effect."""
    return draw(rng, size) + effect


def with_failures(rng: np.random.Generator, size: tuple[int, int], effect: float) -> Array:
    """Normal differences; each of the two cells fails with a probability of `FAILURE_RATE`, also where they differ."""
    a, b = rng.random((2, *size)) < FAILURE_RATE
    differences = rng.normal(size=size) + effect
    return np.where(a & b, 0.0, np.where(a, np.inf, np.where(b, -np.inf, differences)))


def with_ties(rng: np.random.Generator, size: tuple[int, int], effect: float) -> Array:
    """Normal differences, rounded to whole standard deviations."""
    return np.round(rng.normal(size=size) + effect)


CASES: dict[str, Callable[[np.random.Generator, tuple[int, int], float], Array]] = {
    "normal": lambda rng, size, effect: shifted(normal, rng, size, effect),
    "t, 3 degrees": lambda rng, size, effect: shifted(heavy_tailed, rng, size, effect),
    "lognormal": lambda rng, size, effect: shifted(skewed, rng, size, effect),
    "5 % failures": with_failures,
    "ties": with_ties,
}


def by_signs(differences: Array) -> Array:
    """The evidence from signs alone."""
    return log_evidence(np.sign(differences))


def by_sizes(differences: Array) -> Array:
    """The evidence with scores |d| over its root mean square so far, 2.5 at most, instead of ranks."""
    sizes = np.minimum(np.abs(differences), 1e6)
    scale = np.sqrt((sizes**2).cumsum(axis=-1) / np.maximum((sizes > 0).cumsum(axis=-1), 1))
    scores = np.minimum(sizes / np.maximum(scale, 1e-300), 2.5)
    bets = np.multiply.outer(np.array(RATES), scores * np.sign(differences))
    steps = np.where(differences == 0, 0.0, math.log(2) - np.logaddexp(0, -2 * bets))
    return np.asarray(np.logaddexp.reduce(steps.cumsum(axis=-1), axis=0) - math.log(len(RATES)))


def by_asymptotics(differences: Array) -> Array:
    """A studentised asymptotic confidence sequence of the mean (Waudby-Smith et al.), from the fifth seed.

    The result exceeds `THRESHOLD` where the sequence at 5 % is above 0.
    """
    finite = np.clip(differences, -1e6, 1e6)
    n = np.arange(1, finite.shape[-1] + 1)
    mean = finite.cumsum(axis=-1) / n
    deviation = np.sqrt(np.maximum((finite**2).cumsum(axis=-1) / n - mean**2, 1e-300))
    rho2 = (-2 * math.log(LEVEL) + math.log(-2 * math.log(LEVEL) + 1)) / 10  # narrowest near the tenth seed
    width = np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / LEVEL))
    return np.where((n >= 5) & (mean > width * deviation), THRESHOLD + 1, 0.0)


CANDIDATES = {"ranks": log_evidence, "signs": by_signs, "sizes": by_sizes, "asymptotic": by_asymptotics}


def first(reached: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first seed, from 1, of each replicate; one more than the last if none."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, reached.shape[1] + 1)


def t_statistics(differences: Array) -> Array:
    """The absolute t statistic over the finite differences so far, over its critical value at 5 %."""
    finite = np.where(np.isfinite(differences), differences, 0.0)
    n = np.isfinite(differences).cumsum(axis=1)
    mean = finite.cumsum(axis=1) / np.maximum(n, 1)
    variance = np.maximum((finite**2).cumsum(axis=1) - n * mean**2, 0.0) / np.maximum(n - 1, 1)
    critical = np.array([math.inf] * 3 + [t_quantile(1 - LEVEL / 2, df) for df in range(2, differences.shape[1])])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(mean / np.sqrt(variance / np.maximum(n, 1)) / critical[n], posinf=2.0, neginf=-2.0)


def fixed_power(differences: Array) -> Array:
    """The power of the best fixed test after each number of seeds, in favour of a positive difference."""
    seeds = differences.shape[1]
    power = (t_statistics(differences) > 1).mean(axis=0)
    z = 1.96
    signs = np.sign(differences)
    sums, used = signs.cumsum(axis=1), np.abs(signs).cumsum(axis=1)
    # Normal approximations with continuity corrections, which favour the fixed tests for few seeds.
    sign_test = ((sums - 1) > z * np.sqrt(np.maximum(used, 1))) & (used >= 6)
    power = np.maximum(power, sign_test.mean(axis=0))
    for n in range(6, seeds + 1):
        part = differences[:, :n]
        weight = np.sign(part) * rankdata(np.abs(part), axis=1)
        power[n - 1] = max(power[n - 1], ((weight.sum(axis=1) - 1) > z * np.sqrt((weight**2).sum(axis=1))).mean())
    return np.asarray(power)


def smallest(power: Array, wanted: float) -> str:
    """The first number of seeds with this power."""
    reached = power >= wanted
    return str(int(reached.argmax()) + 1) if reached.any() else f"> {power.size}"


def table(replicates: int) -> None:
    """Print verdicts without a margin beside the t test and the fixed plans."""
    print(
        f"{'case':14}{'effect':>7}{'wrong':>8}{'wrong, t':>10}{'right':>8}{'median':>8}{'equal power':>13}{'plan':>6}"
    )
    for case, draw in CASES.items():
        plan, ended = "", []
        for effect in EFFECTS:
            differences = draw(np.random.default_rng([7, round(10 * effect)]), (replicates, SEEDS), effect)
            up, down = (first(log_evidence(sign * differences) >= THRESHOLD) for sign in (1, -1))
            t = t_statistics(differences)
            t_up, t_down = first(t > 1), first(t < -1)
            if effect == 0:
                wrong, wrong_t = (np.minimum(up, down) <= SEEDS).mean(), (np.minimum(t_up, t_down) <= SEEDS).mean()
                print(f"{case:14}{effect:7g}{wrong:8.1%}{wrong_t:10.1%}")
                continue
            right, wrong = (up < down) & (up <= SEEDS), (down < up).mean()
            power = fixed_power(differences)
            plan = plan or smallest(power, 0.8)
            ended.append(np.minimum(np.minimum(up, down), SEEDS))
            print(
                f"{case:14}{effect:7g}{wrong:8.1%}{(t_down < t_up).mean():10.1%}{right.mean():8.1%}"
                f"{np.median(ended[-1]):8g}{smallest(power, right.mean()):>13}{plan:>6}"
            )
        pooled = np.median(np.concatenate(ended))
        print(f"{case:14}{'all':>7}{'':26}{pooled:8g}{'':13}{plan:>6}{pooled / float(plan):6.0%}")


def margins(replicates: int) -> None:
    """Print verdicts with a margin."""
    print(f"\nWith a margin of {MARGIN:g} standard deviation:")
    print(f"{'case':14}{'effect':>7}{'wrong':>8}{'equal':>8}{'b better':>10}{'median':>8}")
    for case, draw in CASES.items():
        for effect in (0.0, 0.5, MARGIN):
            differences = draw(np.random.default_rng([8, round(10 * effect)]), (replicates, SEEDS), effect)
            inside = [np.maximum.accumulate(log_evidence(MARGIN + s * differences), axis=1) for s in (1, -1)]
            evidence = {
                sequential.A_BETTER: log_evidence(-differences),
                sequential.B_BETTER: log_evidence(differences),
                sequential.EQUAL: np.minimum(*inside),
            }
            at = np.stack([first(log_e >= THRESHOLD) for log_e in evidence.values()])
            ended, winner = at.min(axis=0), at.argmin(axis=0)
            share = {v: ((winner == i) & (ended <= SEEDS)).mean() for i, v in enumerate(evidence)}
            wrong = share[sequential.A_BETTER]
            wrong += share[sequential.B_BETTER] if effect == 0 else share[sequential.EQUAL] if effect >= MARGIN else 0
            median = np.median(np.minimum(ended, SEEDS))
            print(
                f"{case:14}{effect:7g}{wrong:8.1%}{share[sequential.EQUAL]:8.1%}{share[sequential.B_BETTER]:10.1%}"
                f"{median:8g}"
            )


def races(replicates: int) -> None:
    """Print verdicts on which of several settings is the best, of which the first is one.

    Wrong: the first setting is dropped. Cells: of those that running all `SEEDS` seeds of all settings takes; a setting
    gets no more seeds once it is dropped, and none does once one is left.
    """
    print(f"\nThe best of {SETTINGS}, each of the others worse by the effect:")
    print(f"{'case':14}{'effect':>7}{'wrong':>8}{'decided':>9}{'cells':>7}")
    asked = np.tile(np.arange(SEEDS), (SETTINGS, 1))
    for case, draw in OUTCOMES.items():
        for effect in (0.0, 1.0):
            rng = np.random.default_rng([10, round(10 * effect)])
            wrong, decided, cells = 0, 0, 0
            for _ in range(replicates):
                outcomes = draw(rng, (SETTINGS, SEEDS))
                outcomes[1:] += effect
                dropped = sequential.race(outcomes, asked).dropped
                last = SEEDS if (dropped == 0).sum() > 1 else dropped.max()
                wrong += dropped[0] > 0
                decided += last < SEEDS
                cells += np.where(dropped > 0, dropped, last).sum()
            share = cells / (replicates * SETTINGS * SEEDS)
            print(f"{case:14}{effect:7g}{wrong / replicates:8.1%}{decided / replicates:9.1%}{share:7.0%}")


OUTCOMES: dict[str, Draw] = {
    "normal": normal,
    "t, 3 degrees": heavy_tailed,
    "lognormal": lambda rng, size: np.asarray(np.exp(rng.normal(size=size)) / math.sqrt((math.e - 1) * math.e)),
    "5 % failures": lambda rng, size: np.where(rng.random(size) < FAILURE_RATE, np.inf, rng.normal(size=size)),
    "ties": lambda rng, size: np.round(rng.normal(size=size)),
}
"""Outcomes of settings, with a standard deviation of about 1."""


def candidates(replicates: int) -> None:
    """Print ways to compute the evidence side by side."""
    print("\nWays to compute the evidence: wrong at effect 0; right, and median seeds, at 0.5 and at 1")
    print(f"{'case':14}" + "".join(f"{name:>26}" for name in CANDIDATES))
    for case, draw in CASES.items():
        line = f"{case:14}"
        for evidence in CANDIDATES.values():
            null, small, large = (
                draw(np.random.default_rng([9, round(10 * e)]), (replicates, SEEDS), e) for e in (0, 0.5, 1)
            )
            wrong = np.maximum(evidence(null).max(axis=1), evidence(-null).max(axis=1)) >= THRESHOLD
            cell = f"{wrong.mean():.1%}"
            for differences in (small, large):
                at = first(evidence(differences) >= THRESHOLD)
                cell += f"  {(at <= SEEDS).mean():.0%} {np.median(np.minimum(at, SEEDS)):g}"
            line += f"{cell:>26}"
        print(line)


def outside(replicates: int) -> None:
    """Differences that are not exchangeable: lognormal against a constant."""
    print("\nOutside the assumption: a is lognormal and b a constant; share of replicates with any verdict")
    print(f"{'':34}" + "".join(f"{name:>12}" for name in CANDIDATES))
    draws = np.exp(np.random.default_rng(10).normal(size=(replicates, SEEDS)))
    for name, constant in (("b is the mean of a", math.exp(0.5)), ("b is the median of a", 1.0)):
        differences = draws - constant
        shares = [
            (np.maximum(evidence(differences).max(axis=1), evidence(-differences).max(axis=1)) >= THRESHOLD).mean()
            for evidence in CANDIDATES.values()
        ]
        print(f"{name:34}" + "".join(f"{share:12.1%}" for share in shares))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1_000)
    arguments = parser.parse_args()
    for part in (table, margins, races, candidates, outside):
        part(arguments.replicates)
