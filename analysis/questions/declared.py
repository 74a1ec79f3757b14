"""The verdicts of a store on the questions that its sweep files declare, with the time when each was first asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from raysweep.analysis.questions.band import Point, band, planned_seeds
from raysweep.analysis.questions.parts import Evidence, Part, RecordedCells, evidence, parts_of, recorded_cells
from raysweep.analysis.questions.sequential import LEVEL, OPEN
from raysweep.analysis.questions.settings import Outcomes
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.grammar.question import Question
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import count_cells, join_first


@dataclass(frozen=True)
class Verdict:
    """The answer to a question, or to one stratum of it.

    Args:
        sweep: the sweep that declares the question.
        question: the question's name, and the stratum's values, if any.
        digest: digest of the question's text.
        verdict: `a is better`, `b is better`, `equal within the margin`, `best: NAME` or `open`.
        seeds: the number of seeds at which the verdict was reached; while the question is open, the number of seeds
            used so far.
        detail: the settings, estimate and evidence, as text.
        asked_at: when a launch first recorded the question; None if the record has no valid time.
        ended_before: the number of the question's cells that had ended before `asked_at`; if `asked_at` is None, the
            number of all its ended cells.
        dropped: whether the latest version of the sweep file no longer has the question.
        metric: the metric's name.
        cells: the number of ended cells of the question's settings, including those run for other questions.
        planned: the number of cells of a fixed plan (`band.planned_seeds`), over all settings of the question.
        path: the estimate and its band after each seed; empty for a question for the best of several settings.
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
    metric: str
    cells: int
    planned: int
    path: tuple[Point, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether the question is no longer open."""
        return self.verdict != OPEN

    @property
    def saved(self) -> str:
        """The number of cells, compared with that of the fixed plan, as text."""
        less = self.planned - self.cells
        change = f"{abs(less):,} {'fewer' if less >= 0 else 'more'}"
        return f"{count_cells(self.cells)}, {change} than a fixed plan for half a standard deviation ({self.planned:,})"

    def __repr__(self) -> str:
        lines = [f"{self.sweep}, {self.question}: {self.verdict}, {self.seeds} seeds", f"  {self.detail}"]
        if self.decided:
            lines.append(f"  {self.saved}")
        if self.ended_before:
            at = f"{self.asked_at:%Y-%m-%d %H:%M:%S} UTC" if self.asked_at else "an unknown time"
            lines.append(f"  asked at {at}, after {self.ended_before} of its cells had ended")
        if self.dropped:
            lines.append("  the sweep file no longer has this question")
        return "\n".join(lines)


def questions(store: str | Path | Store) -> list[Verdict]:
    """Return the verdicts on all questions that launches recorded with their sweeps.

    The probability that any verdict of a sweep is wrong is 5 % at most, however often the verdicts are computed.
    """
    opened = store if isinstance(store, Store) else Store(store)
    families: dict[tuple[str, str], list[RecordedSweep]] = {}
    recorded = opened.require().sweeps()
    for entry in recorded:
        families.setdefault(entry.key, []).append(entry)
    declarations = {key: declared(records) for key, records in families.items()}
    if not any(declarations.values()):
        return []
    cells = recorded_cells(opened, recorded)
    return [
        verdict
        for (name, _), entries in declarations.items()
        for verdict in verdicts(name, question_parts(entries), cells)
    ]


@dataclass(frozen=True)
class Declared:
    """A question that at least one version of a sweep file declares.

    Args:
        question: the question.
        variants: the variants from which its settings are selected: those of the latest launch with the question.
        at: when a launch first recorded the question; None if no launch has, or if the record has no valid time.
        dropped: whether the latest version of the sweep file no longer has the question.
    """

    question: Question
    variants: pl.DataFrame
    at: datetime | None
    dropped: bool


def declared(records: Sequence[RecordedSweep]) -> list[Declared]:
    """Return the questions of all versions of a sweep file, each once.

    Args:
        records: the records of the sweep by its launches, oldest first.
    """
    first: dict[str, datetime | None] = {}
    variants: dict[str, tuple[Question, pl.DataFrame]] = {}
    latest: set[str] = set()
    for entry in records:
        sweep = Sweep.from_text(entry.metadata["text"])
        latest = {question.digest for question in sweep.questions}
        for question in sweep.questions:
            first.setdefault(question.digest, _time(entry.metadata.get("recorded_at")))
            variants[question.digest] = (question, entry.table.variants)
    return [Declared(*variants[digest], at, digest not in latest) for digest, at in first.items()]


def question_parts(entries: Sequence[Declared]) -> list[tuple[Declared, Part]]:
    """Split the questions into their parts; return each part with its question."""
    return [(entry, part) for entry in entries for part in parts_of(entry.question, entry.variants)]


def verdicts(sweep: str, parts: Sequence[tuple[Declared, Part]], cells: RecordedCells) -> Iterator[Verdict]:
    """Yield the verdict on each part of a sweep's questions.

    Args:
        sweep: the sweep's name.
        parts: the parts of all questions of the sweep. The level is corrected for the number of parts.
        cells: the recorded cells.
    """
    for entry, part in parts:
        try:
            known: Evidence | None = evidence(part, cells.outcomes(part), len(parts), LEVEL)
        except InputError as error:
            yield _verdict(sweep, entry, part, None, join_first(error.problems, 3, "; "), len(parts))
        else:
            yield _verdict(sweep, entry, part, known, "", len(parts))


def _verdict(sweep: str, entry: Declared, part: Part, known: Evidence | None, problem: str, count: int) -> Verdict:
    path = () if known is None or known.race is not None else tuple(band(known.differences, count))
    if part.question.better == "higher":
        path = tuple(Point(p.seeds, _minus(p.estimate), _minus(p.high), _minus(p.low)) for p in path)
    verdict, seeds, detail = (OPEN, 0, problem) if known is None else answer(known, _estimate(path))
    others = max(1, len(part.keys) - 1)
    return Verdict(
        sweep=sweep, question=part.name, digest=part.question.digest, verdict=verdict, seeds=seeds, detail=detail,
        asked_at=entry.at, ended_before=0 if known is None else _ended_before(known.outcomes, entry.at),
        dropped=entry.dropped, metric=part.question.metric,
        cells=0 if known is None else sum(len(outcomes.values) for outcomes in known.outcomes),
        planned=len(part.keys) * planned_seeds(count * others), path=path,
    )  # fmt: skip


def _estimate(path: Sequence[Point]) -> str:
    """Return the last estimate of a - b with its band, as text; "" if there is none."""
    if not path or path[-1].estimate is None:
        return ""
    ends = " to ".join(
        infinite if end is None else f"{end:.4g}" for end, infinite in zip(path[-1][2:], ("-inf", "inf"), strict=True)
    )
    return f"median a - b {path[-1].estimate:.4g} ({ends}), "


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def answer(known: Evidence, estimate: str = "") -> tuple[str, int, str]:
    """Return the verdict, the number of seeds and the detail of a part of a question.

    `estimate` is text that becomes a part of the detail.
    """
    metric, failures = known.part.question.metric, _failures(known.outcomes)
    if known.race is not None:
        gone, names = known.race.dropped, known.part.names
        left = [names[i] for i in known.left]
        losers = [f"{name} after {at} seeds" for name, at in zip(names, gone, strict=True) if at]
        detail = f"{metric}: not the best: {join_first(losers, 6, '; ') or 'none so far'}{failures}"
        if len(left) == 1:
            return f"best: {left[0]}", int(gone.max()), detail
        further = f"; further seeds that would do: about {known.further}" if known.further is not None else ""
        return OPEN, known.pairs, f"{detail}; may be the best: {join_first(left, 6, '; ')}{further}"
    differences, decision = known.differences, known.decision
    assert decision is not None  # noqa: S101 - for the type checker
    a, b = known.part.names
    n = differences.size
    wins = f"a better at {int((differences < 0).sum())}, b at {int((differences > 0).sum())} of {n} seeds"
    e_value = f"e-value {decision.e_value:.3g} of {decision.needed:.3g}"
    if decision.verdict == OPEN and decision.further is not None:
        e_value += f"; further seeds that would do: about {decision.further}"
    return decision.verdict, decision.pairs, f"{metric}: a = {a}; b = {b}; {estimate}{wins}{failures}; {e_value}"


def _time(text: object) -> datetime | None:
    """Parse the time of a record, in UTC; None if it is invalid, as other programs may have written the record."""
    try:
        time = datetime.fromisoformat(str(text))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _ended_before(outcomes: Sequence[Outcomes], at: datetime | None) -> int:
    """Count the cells that ended before a time; all ended cells if the time is unknown."""
    limit = math.inf if at is None else at.timestamp()
    return sum(ended < limit for entry in outcomes for ended in entry.ended.values())


def _failures(outcomes: Sequence[Outcomes]) -> str:
    counts = {"failed": sum(len(o.failed) for o in outcomes), "diverged": sum(len(o.diverged) for o in outcomes)}
    shown = [f"{count_cells(n)} {name}" for name, n in counts.items() if n]
    return f"; {', '.join(shown)} (counted as worse than any value)" if shown else ""
