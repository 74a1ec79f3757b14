"""The verdicts of a store on the questions that its sweep files declare, and when each was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from raysweep.analysis.questions.sequential import LEVEL, OPEN, Decision, decide, difference, dropped
from raysweep.analysis.questions.settings import Outcomes, of_table, paired
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.query.settings import compared
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import RecordedSweep, known_cells
from raysweep.orchestrator.sweep.question import Pairing, Question, Setting, label
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import count_cells, join_first


@dataclass(frozen=True)
class Verdict:
    """The answer to a question, or to a part of it that has the same values on both sides.

    Args:
        sweep: the sweep that declares the question.
        question: the question's name, and the stratum's values, if any.
        digest: digest of the question's text.
        verdict: `a is better`, `b is better`, `equal within the margin`, `best: NAME` or `open`.
        seeds: the number of seeds at which the verdict was reached, or all seeds with an outcome.
        detail: the settings, estimate and evidence, in words.
        asked_at: when a launch first recorded the question; None if the record has no valid time.
        ended_before: the number of the question's cells that had ended by then.
        dropped: whether the latest version of the sweep file no longer has the question.
    """

    sweep: str
    question: str
    digest: str
    verdict: str
    seeds: int
    detail: str
    asked_at: datetime | None
    ended_before: int
    dropped: bool

    @property
    def decided(self) -> bool:
        """Whether the question is no longer open."""
        return self.verdict != OPEN

    def __repr__(self) -> str:
        lines = [f"{self.sweep}, {self.question}: {self.verdict}, {self.seeds} seeds", f"  {self.detail}"]
        if self.ended_before:
            at = f"{self.asked_at:%Y-%m-%d %H:%M:%S} UTC" if self.asked_at else "an unknown time"
            lines.append(f"  asked at {at}, after {self.ended_before} of its cells had ended")
        if self.dropped:
            lines.append("  the sweep file no longer has this question")
        return "\n".join(lines)


def questions(store: str | Path | Store) -> list[Verdict]:
    """The verdicts on all questions that launches recorded with their sweeps.

    The probability that any verdict of a sweep is wrong is 5 % at most, however often they are looked at.
    """
    opened = store if isinstance(store, Store) else Store(store)
    families: dict[tuple[str, str], list[RecordedSweep]] = {}
    for entry in opened.require().sweeps():
        families.setdefault(entry.key, []).append(entry)
    return [verdict for records in families.values() for verdict in _of_sweep(opened, records)]


def _of_sweep(store: Store, records: Sequence[RecordedSweep]) -> Iterator[Verdict]:
    declared: dict[str, tuple[Question, datetime | None]] = {}
    latest: set[str] = set()
    for entry in records:  # oldest first
        sweep = Sweep.from_text(entry.metadata["text"])
        latest = {question.digest for question in sweep.questions}
        for question in sweep.questions:
            declared.setdefault(question.digest, (question, _time(entry.metadata.get("recorded_at"))))
    if not declared:
        return
    cells = of_table(store, known_cells(records))
    matched = {digest: compared(question, cells.by_setting) for digest, (question, _) in declared.items()}
    count = sum(max(1, len(entry.pairs)) for entry in matched.values())
    for digest, (question, at) in declared.items():
        pairs, _, problems = matched[digest]
        parts: list[Pairing | None] = list(pairs) if question.best_of is None and not problems else [None]
        for pair in parts:
            name = f"{question.name} at {pair.stratum}" if pair and pair.stratum else question.name
            try:
                if problems:
                    raise InputError(problems)
                settings = [pair.a, pair.b] if pair else cells.by_setting.select(str(question.best_of))
                outcomes = [cells.outcomes(i, question.metric, question.better) for i in settings]
            except InputError as error:
                verdict, seeds, detail, before = OPEN, 0, join_first(error.problems, 3, "; "), 0
            else:
                before = _ended_before(outcomes, at)
                shown = [cells.settings[i] for i in settings]
                answer = _pair if pair else _best_of
                verdict, seeds, detail = answer(question, shown, outcomes, count)
            yield Verdict(
                sweep=records[0].metadata["name"], question=name, digest=digest, verdict=verdict, seeds=seeds,
                detail=detail, asked_at=at, ended_before=before, dropped=digest not in latest,
            )  # fmt: skip


def _time(text: object) -> datetime | None:
    """The time of a record, which may be foreign."""
    try:
        time = datetime.fromisoformat(str(text))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _ended_before(outcomes: Sequence[Outcomes], at: datetime | None) -> int:
    """The number of cells that ended before a time; all of them if it is unknown."""
    limit = float("inf") if at is None else at.timestamp()
    return sum(ended < limit for entry in outcomes for ended in entry.ended.values())


def _pair(
    question: Question, settings: Sequence[Setting], outcomes: Sequence[Outcomes], count: int
) -> tuple[str, int, str]:
    """Verdict, number of seeds and detail of a comparison of two settings."""
    seeds = paired(outcomes)
    values = [np.array([entry.values[seed] for seed in seeds]) for entry in outcomes]
    differences = difference(*values)
    decision = decide(differences, question.margin, count)
    a, b = (label(setting, settings) for setting in settings)
    sign = 1 if question.better == "lower" else -1
    median = f"median a - b {sign * float(np.median(differences)):.4g}, " if seeds else ""
    wins = f"a better at {int((differences < 0).sum())}, b at {int((differences > 0).sum())} of {len(seeds)} seeds"
    detail = f"{question.metric}: a = {a}; b = {b}; {median}{wins}{_failures(outcomes)}; {_evidence(decision)}"
    return decision.verdict, decision.pairs, detail


def _evidence(decision: Decision) -> str:
    text = f"e-value {decision.e_value:.3g} of {decision.needed:.3g}"
    if decision.verdict == OPEN and decision.further is not None:
        text += f"; further seeds that would do: about {decision.further}"
    return text


def _best_of(
    question: Question, settings: Sequence[Setting], outcomes: Sequence[Outcomes], count: int
) -> tuple[str, int, str]:
    """Verdict, number of seeds and detail of a question for the best of several settings."""
    seeds = sorted(
        set().union(*(entry.values for entry in outcomes)),
        key=lambda seed: (max(entry.ended.get(seed, 0.0) for entry in outcomes), seed),
    )
    matrix = np.array([[entry.values.get(seed, np.nan) for seed in seeds] for entry in outcomes])
    gone = dropped(matrix, count, LEVEL)
    names = [label(setting, settings) for setting in settings]
    left = [name for name, at in zip(names, gone, strict=True) if not at]
    losers = [f"{name} after {at} seeds" for name, at in zip(names, gone, strict=True) if at]
    detail = f"{question.metric}: not the best: {join_first(losers, 6, '; ') or 'none so far'}{_failures(outcomes)}"
    if len(left) == 1:
        return f"best: {left[0]}", int(gone.max()), detail
    return OPEN, len(seeds), f"{detail}; may be the best: {join_first(left, 6, '; ')}"


def _failures(outcomes: Sequence[Outcomes]) -> str:
    counts = {"failed": sum(len(o.failed) for o in outcomes), "diverged": sum(len(o.diverged) for o in outcomes)}
    shown = [f"{count_cells(n)} {name}" for name, n in counts.items() if n]
    return f"; {', '.join(shown)} (counted as worse than any value)" if shown else ""
