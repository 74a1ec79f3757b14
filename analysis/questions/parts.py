"""The parts of a declared question, one per stratum, and the evidence on each of them so far."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from raysweep.analysis.questions.order import in_request_order
from raysweep.analysis.questions.sequential import LITTLE, Decision, Race, decide, in_order, race
from raysweep.analysis.questions.settings import FAILED, Outcomes, metrics_of, outcomes_of
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.query.settings import by_setting, compared
from raysweep.orchestrator.status import CHARGES, used_up
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import VARIANT, CellTable
from raysweep.orchestrator.sweep.grammar.question import Question, Setting, labels

Key = tuple[Any, ...]
"""A setting, as the values of its columns `cells.VARIANT`."""


@dataclass(frozen=True)
class Part:
    """A question, or one stratum of it: the settings to compare, which agree in the stratum's values.

    Args:
        question: the question.
        name: the question's name, followed by the stratum's values, if any.
        keys: the settings.
        names: the names of the settings.
        problems: the reasons why no settings can be compared; `keys` is empty then.
    """

    question: Question
    name: str
    keys: tuple[Key, ...] = ()
    names: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def parts_of(question: Question, variants: pl.DataFrame) -> list[Part]:
    """Split a question into its parts (at least one), with settings from `variants` (`cells.VARIANTS_SCHEMA`).

    The variants need not have any cells.
    """
    one_each = variants.select(cell_id=pl.format("variant {}", "variant"), variant="variant", seed=pl.lit(0, pl.Int64))
    table = by_setting(CellTable(variants, one_each))
    keys = variants.select(VARIANT).unique(maintain_order=True).rows()
    matched = compared(question, table)
    if matched.problems:
        return [Part(question, question.name, problems=matched.problems)]
    chosen = [(pair.stratum, [pair.a, pair.b]) for pair in matched.pairs]
    if question.best_of is not None:
        chosen = [("", table.select(question.best_of))]
    return [
        Part(
            question, f"{question.name} at {stratum}" if stratum else question.name, tuple(keys[i] for i in settings),
            _names([table.settings[i] for i in settings]),
        )
        for stratum, settings in chosen
    ]  # fmt: skip


def _names(settings: Sequence[Setting]) -> tuple[str, ...]:
    return tuple(labels(settings))


@dataclass(frozen=True)
class RecordedCells:
    """The cells of recorded sweeps, one frame per setting.

    Columns: cell_id, seed, request_places, status, metrics, finished_at.
    """

    frames: Mapping[Key, pl.DataFrame]

    @functools.cached_property
    def metrics(self) -> frozenset[str]:
        """The names of all metrics that done cells have."""
        return metrics_of(self.frames.values())

    def outcomes(self, part: Part) -> list[Outcomes]:
        """Return the outcomes of each setting of a part.

        Raises:
            InputError: the settings cannot be compared, or the metric does not exist (see `settings.outcomes_of`).
        """
        if part.problems:
            raise InputError(list(part.problems))
        metric, better = part.question.metric, part.question.better
        return [
            outcomes_of(self.frames.get(key, _NO_CELLS), metric, better, name, self.metrics)
            for key, name in zip(part.keys, part.names, strict=True)
        ]


_NO_CELLS = pl.DataFrame(
    schema={
        "cell_id": pl.String, "seed": pl.Int64, "request_places": pl.Int64, "status": pl.String, "metrics": pl.Object,
        "finished_at": pl.Datetime,
    }
)  # fmt: skip


def recorded_cells(
    store: Store, recorded: Sequence[RecordedSweep], *, retried: bool = False, tried_now: Collection[str] = ()
) -> RecordedCells:
    """Read the cells of recorded sweeps, and their outcomes.

    Args:
        store: the store.
        recorded: the recorded sweeps, oldest first.
        retried: whether a failed cell with attempts left counts as pending, because the launch will retry it.
        tried_now: ids of cells that this launch has already tried, so that they count as failed even if `retried`.
    """
    requested = in_request_order(recorded)
    if requested.is_empty():
        return RecordedCells({})
    columns = ["cell_id", "status", "metrics", "finished_at"]
    done = store.collect(lambda: store.cells.select(columns)).unique("cell_id", keep="first")
    tried = store.collect(
        lambda: (
            store.attempts.filter(pl.col("status") != "done")  # done, but not in `cells`: a half commit, still pending
            .select(*columns, "attempt")
            .sort("attempt")
            .unique("cell_id", keep="last")
            .select(columns)
        )
    )
    ended = pl.concat([done, tried.join(done, on="cell_id", how="anti")])
    frame = requested.join(ended, on="cell_id", how="left").with_columns(pl.col("status").fill_null("pending"))
    if retried:
        frame = frame.join(store.summary().select("cell_id", *CHARGES), on="cell_id", how="left")
        has_attempts = ~used_up({name: pl.col(name) for name in CHARGES}, pl.col("retries"))
        again = pl.col("status").is_in(FAILED) & has_attempts & ~pl.col("cell_id").is_in(list(tried_now))
        frame = frame.with_columns(status=pl.when(again).then(pl.lit("pending")).otherwise("status"))
    groups = frame.sort("request_places").partition_by(VARIANT, as_dict=True, maintain_order=True)
    return RecordedCells({key: rows.select(_NO_CELLS.columns) for key, rows in groups.items()})


@dataclass(frozen=True)
class Evidence:
    """The evidence on a part of a question.

    Args:
        part: the part.
        outcomes: the outcomes of each setting of the part.
        decision: the verdict on a comparison of two settings; None for a question for the best of several.
        race: the evidence against each setting being the best; None for a comparison of two.
        differences: shape (pairs,): the differences a - b that are used, in order; lower is better. Empty for a
            question for the best.
    """

    part: Part
    outcomes: tuple[Outcomes, ...]
    decision: Decision | None
    race: Race | None
    differences: NDArray[np.float64]

    @property
    def left(self) -> list[int]:
        """Indices of the settings that may get more seeds: both of a pair, or those that may still be the best."""
        return list(range(len(self.outcomes))) if self.race is None else np.nonzero(self.race.dropped == 0)[0].tolist()

    @property
    def left_settings(self) -> list[tuple[Key, Outcomes]]:
        """The settings in `left`, each with its outcomes."""
        return [(self.part.keys[i], self.outcomes[i]) for i in self.left]

    @property
    def further(self) -> int | None:
        """The expected number of further seeds until a verdict, if the evidence grows as before; None if unknown."""
        if self.race is None:
            return self.decision.further if self.decision is not None else None
        log_e, seeds = self.race.log_e[self.left], self.race.seeds[self.left]
        if len(log_e) < 2 or not seeds.all() or np.sort(log_e)[1] < LITTLE:
            return None
        losers = log_e.argsort()[1:]  # the setting with the least evidence against it is left in the end
        return int(np.ceil((self.race.needed - log_e[losers]) * seeds[losers] / log_e[losers]).max())

    @property
    def pairs(self) -> int:
        """The number of seeds used; for a question for the best, the smallest number over the settings in `left`."""
        if self.race is None:
            return self.differences.size
        return int(self.race.seeds[self.left].min()) if self.left else 0


def evidence(part: Part, outcomes: Sequence[Outcomes], count: int, level: float) -> Evidence:
    """Compute the evidence on a part of a question.

    Args:
        part: the part.
        outcomes: the outcomes of its settings.
        count: the number of questions that are asked together.
        level: the probability of a wrong verdict on any of them.
    """
    seeds = sorted({seed for entry in outcomes for seed in entry.request_places})
    values = np.array([[entry.values.get(seed, np.nan) for seed in seeds] for entry in outcomes])
    request_places = np.array(
        [[entry.request_places.get(seed, -1) for seed in seeds] for entry in outcomes], dtype=np.int64
    )
    if part.question.best_of is not None:
        return Evidence(part, tuple(outcomes), None, race(values, request_places, count, level), np.zeros(0))
    differences = in_order(values, request_places)
    decision = decide(differences, part.question.margin, count, level)
    return Evidence(part, tuple(outcomes), decision, None, differences)
