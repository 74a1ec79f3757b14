"""`--until decided`: the cells that a launch runs next, so that its sweeps' questions are decided with few cells.

Each round reads the store afresh, so that a launch can continue after a kill. Seeds are added in the order of the
sweep's file, followed by the integers above its largest seed. A round adds seeds to open questions within the budget,
first to those that are cheapest to close. Only the settings of questions run. If a question asks for the best of
several settings and one of them is dropped, this setting gets no more seeds for the question.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from raysweep.analysis.questions.budget import Budget, Cost, total
from raysweep.analysis.questions.declared import Declared, Verdict, answer, declared, question_parts, verdicts
from raysweep.analysis.questions.parts import Evidence, Key, Part, RecordedCells, evidence, recorded_cells
from raysweep.analysis.questions.sequential import LEVEL, OPEN, fewest
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.request import Options, Request
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import CELLS_SCHEMA, VARIANT, CellTable, expand
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import join_first

GROWTH = 8
"""A round adds one seed per `GROWTH` seeds of a question.

So at most about 1 / `GROWTH` of the question's seeds are superfluous. More seeds are added only to fill free slots.
"""
AHEAD = 32
"""Number of seeds beyond those of the sweep file that are expanded into cells at once."""

Place = tuple[int, int]
"""A cell, as (number of its variant, seed)."""


@dataclass(frozen=True)
class _Open:
    """A part of a question without a verdict: its evidence, its sweep, and the fewest seeds that allow a verdict."""

    known: Evidence
    sweep: Sweep
    fewest: int

    @property
    def further(self) -> int:
        """The expected number of further seeds until a verdict.

        While the question has fewer seeds than any verdict needs, it is the number that is lacking. If the evidence
        allows no estimate, it is the number of seeds so far, at least 1.
        """
        n = self.known.pairs
        if n < self.fewest:
            return self.fewest - n
        return max(1, n if self.known.further is None else self.known.further)

    def step(self, factor: int) -> int:
        """Return the number of seeds to add in a round; `factor` multiplies the growth (see `GROWTH`)."""
        n = self.known.pairs
        return self.further if n < self.fewest else max(1, min(factor * math.ceil(n / GROWTH), self.further, n))


class UntilDecided:
    """Chooses the cells of each round of a launch with `--until decided` (see `launch.rounds.Rounds`)."""

    def __init__(self, request: Request, store: Store, options: Options) -> None:
        self._store, self._options = store, options
        self._variants = request.every.variants
        self._number: dict[Key, int] = {}
        for number, *key in self._variants.select("variant", *VARIANT).iter_rows():
            self._number.setdefault(tuple(key), number)
        self._ids: dict[Place, str] = {(variant, seed): i for i, variant, seed in request.every.cells.iter_rows()}
        self._ahead: dict[str, int] = {}  # sweep -> number of seeds beyond the file's that are in `_ids`
        self._records: dict[str, RecordedSweep] = {}
        recorded = self._recorded()
        self._asked = [(sweep, question_parts(_declared(sweep, self._variants, recorded))) for sweep in request.sweeps]
        self._parts: list[tuple[Sweep, list[Part], int]] = [  # with the number of parts that are corrected for
            (sweep, [part for entry, part in pairs if not entry.dropped], len(pairs)) for sweep, pairs in self._asked
        ]
        self._keys = list(dict.fromkeys(key for _, parts, _ in self._parts for part in parts for key in part.keys))
        self._tried: set[str] = set()
        self._noted: set[tuple[Part, str]] = set()
        self._news: list[str] = []
        self._reason: str | None = None

    def table(self, slots: int) -> CellTable:
        """Return the requested cells: those tried before, then those of the next round (see `Rounds.table`)."""
        cells = self._read()
        frames = [(self._number[key], frame) for key in self._keys if (frame := cells.frames.get(key)) is not None]
        rows = [
            (place, variant, seed, cell_id)
            for variant, frame in frames
            for cell_id, seed, place in frame.select("cell_id", "seed", "request_places").iter_rows()
        ]
        rows.sort()
        self._ids |= {(variant, seed): cell_id for _, variant, seed, cell_id in rows}
        costs = self._costs([cell_id for *_, cell_id in rows])
        tried = {(variant, seed): None for _, variant, seed, cell_id in rows if cell_id in costs}
        requested = tried | dict.fromkeys(self._choose(cells, costs, slots))
        frame = pl.DataFrame([(self._ids[place], *place) for place in requested], schema=CELLS_SCHEMA, orient="row")
        return CellTable(self._variants, frame)

    def ran(self, cell_ids: Collection[str]) -> None:
        """Note the cells of a round that has run (see `Rounds.ran`)."""
        self._tried.update(cell_ids)

    def news(self) -> tuple[str, ...]:
        """Return what was decided since the last call, one line each."""
        lines, self._news = tuple(self._news), []
        return lines

    def ended(self) -> str | None:
        """Return why the rounds ended with open questions; otherwise None."""
        return self._reason

    def spent(self) -> tuple[float, float]:
        """Return the CPU-seconds and GPU-seconds of all recorded attempts of the questions' cells."""
        ids = [i for key in self._keys if (frame := self._read().frames.get(key)) is not None for i in frame["cell_id"]]
        return total(self._costs(ids).values())[1:]

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts on all questions that the sweeps' files have now."""
        recorded = self._recorded()
        cells = recorded_cells(self._store, recorded)
        known: list[Verdict] = []
        for sweep, pairs in self._asked:
            now = {entry.question.digest: entry for entry in _declared(sweep, self._variants, recorded)}
            known += verdicts(sweep.name, [(now[part.question.digest], part) for _, part in pairs], cells)
        return [verdict for verdict in known if not verdict.dropped]

    # Reading

    def _recorded(self) -> list[RecordedSweep]:
        return self._store.sweeps(self._records) if self._store.exists() else []

    def _read(self) -> RecordedCells:
        return recorded_cells(self._store, self._recorded(), retried=True, tried_now=self._tried)

    def _costs(self, cell_ids: Sequence[str]) -> dict[str, Cost]:
        """Return the total cost of each cell's attempts, by cell id. Cells without attempts are left out."""
        if not cell_ids:
            return {}
        seconds = pl.col("seconds").fill_null(0)
        frame = self._store.collect(
            lambda: (
                self._store.attempts.filter(pl.col("cell_id").is_in(list(cell_ids)))
                .group_by("cell_id")
                .agg((seconds * pl.col("cpus")).sum().alias("cpu"), (seconds * pl.col("gpus")).sum().alias("gpu"))
            )
        )
        return {cell_id: Cost(1, cpu, gpu) for cell_id, cpu, gpu in frame.iter_rows()}

    # The choice

    def _choose(self, cells: RecordedCells, costs: Mapping[str, Cost], slots: int) -> list[Place]:
        """Return the cells of the next round; empty if this launch can decide no further question."""
        entries: list[_Open] = []
        blocked: list[str] = []
        for sweep, parts, count in self._parts:
            for part in parts:
                try:
                    known = evidence(part, cells.outcomes(part), count, LEVEL)
                except InputError as error:
                    blocked.append(f"{part.name}: {join_first(error.problems, 3, '; ')}")
                    continue
                if self._note(known) != OPEN:
                    continue
                if stuck := self._stuck(known):
                    blocked.append(f"{part.name}: {stuck}")
                else:
                    entries.append(_Open(known, sweep, fewest(count, LEVEL, len(part.keys))))
        budget = Budget.of(self._options, total(costs.values()))
        per_cell = self._per_cell(cells, costs)
        entries.sort(key=lambda entry: budget.weight(_closing(entry, per_cell)))
        chosen: list[Place] = []
        for factor in (1, 2, 4, GROWTH):
            chosen = self._round(entries, per_cell, budget, costs, factor)
            if len(chosen) >= slots:
                break
        reasons = [*([f"no further seed within {budget.used}"] if entries else []), *blocked]
        self._reason = "; ".join(reasons) if reasons and not chosen else None
        return chosen

    def _round(
        self, entries: Sequence[_Open], per_cell: Mapping[Key, Cost], budget: Budget, costs: Mapping[str, Cost],
        factor: int,
    ) -> list[Place]:  # fmt: skip
        """Choose cells for all questions that can be closed within the budget; if there are none, for the cheapest.

        Args:
            entries: the open questions, the cheapest to close first.
            per_cell: the expected cost of a cell of each setting.
            budget: the limits and the cost so far.
            costs: the cost of each cell that has been tried.
            factor: see `_Open.step`.
        """
        within: list[_Open] = []
        closing = Cost()
        for entry in entries:
            if budget.allows(total([closing, cost := _closing(entry, per_cell)])):
                within.append(entry)
                closing = total([closing, cost])
        chosen: dict[Place, None] = {}
        planned = Cost()
        for entry in within or entries[:1]:
            for seed in itertools.islice(self._seeds(entry), entry.step(factor)):
                new = {
                    place: per_cell[key] if self._id(entry.sweep, place) not in costs else Cost(0, *per_cell[key][1:])
                    for key, outcomes in entry.known.left_settings
                    if seed not in outcomes.values and (place := (self._number[key], seed)) not in chosen
                }
                if not budget.allows(total([planned, *new.values()])):
                    break
                planned = total([planned, *new.values()])
                chosen |= dict.fromkeys(new)
        return list(chosen)

    def _per_cell(self, cells: RecordedCells, costs: Mapping[str, Cost]) -> dict[Key, Cost]:
        """Return for each setting the mean cost of its tried cells; if it has none, the mean over all settings."""
        mean = _mean(costs.values())
        tried = {
            key: [costs[i] for i in frame["cell_id"] if i in costs]
            for key in self._keys
            if (frame := cells.frames.get(key)) is not None
        }
        return {key: _mean(tried[key]) if tried.get(key) else mean for key in self._keys}

    def _seeds(self, entry: _Open) -> Iterator[int]:
        """Yield the next seeds of a question: first those that were requested and have no outcome, then new ones."""
        pending = _pending(entry.known)
        yield from pending
        sides = [outcomes for _, outcomes in entry.known.left_settings]
        for seed in _canonical(entry.sweep):
            if not all(seed in side.request_places for side in sides):
                yield seed

    def _id(self, sweep: Sweep, place: Place) -> str:
        """Return the id of a cell; `place` may have a seed that the sweep's file does not list."""
        while place not in self._ids:
            first = self._ahead.get(sweep.name, 0)
            self._ahead[sweep.name] = first + AHEAD
            new = list(itertools.islice(_canonical(sweep), len(sweep.seeds) + first, len(sweep.seeds) + first + AHEAD))
            wide = expand([sweep.with_seeds(new)]).wide()
            for cell_id, seed, *key in wide.select("cell_id", "seed", *VARIANT).iter_rows():
                self._ids.setdefault((self._number[tuple(key)], seed), cell_id)
        return self._ids[place]

    def _stuck(self, known: Evidence) -> str | None:
        """Return a message if a cell of the question has no outcome although this launch tried it; otherwise None."""
        for seed in _pending(known)[:1]:
            for (key, outcomes), i in zip(known.left_settings, known.left, strict=True):
                place = (self._number[key], seed)
                if (
                    seed in outcomes.request_places
                    and seed not in outcomes.values
                    and self._ids.get(place) in self._tried
                ):
                    return f"{known.part.names[i]} has no outcome at seed {seed}"
        return None

    def _note(self, known: Evidence) -> str:
        """Add to the news the settings that were newly dropped, and the verdict once the question is decided.

        Return the verdict.
        """
        verdict, seeds, _ = answer(known)
        for name, at in zip(known.part.names, known.race.dropped, strict=True) if known.race is not None else ():
            if at and (known.part, name) not in self._noted:
                self._noted.add((known.part, name))
                self._news.append(f"{known.part.name}: {name} was dropped, after {at} seeds")
        if verdict != OPEN and (known.part, verdict) not in self._noted:
            self._noted.add((known.part, verdict))
            self._news.append(f"{known.part.name}: {verdict}, after {seeds} seeds")
        return verdict


def _declared(sweep: Sweep, variants: pl.DataFrame, recorded: Sequence[RecordedSweep]) -> list[Declared]:
    """Return the questions of a sweep's file and of its earlier versions; the correction counts all of them."""
    own = variants.filter((pl.col("sweep") == sweep.name) & (pl.col("workload").is_in(sweep.workloads)))
    now = {question.digest for question in sweep.questions}
    before = {e.question.digest: e for e in declared([r for r in recorded if r.key == (sweep.name, sweep.path)])}
    old = [replace(entry, dropped=True) for digest, entry in before.items() if digest not in now]
    new = [
        Declared(q, own, before[q.digest].at if q.digest in before else None, dropped=False) for q in sweep.questions
    ]
    return [*new, *old]


def _canonical(sweep: Sweep) -> Iterator[int]:
    """Yield all seeds in the order of their addition: those of the file, then the integers above the largest."""
    yield from sweep.seeds
    yield from itertools.count(max(sweep.seeds) + 1)


def _pending(known: Evidence) -> list[int]:
    """Return the seeds of requested pairs without an outcome, in the order of the requests."""
    sides = [outcomes for _, outcomes in known.left_settings]
    places: dict[int, int] = {}
    for seed in {seed for side in sides for seed in side.request_places}:
        requested = [side for side in sides if seed in side.request_places]
        if len(requested) > 1 and not all(seed in side.values for side in requested):
            places[seed] = max(side.request_places[seed] for side in requested)
    return sorted(places, key=places.__getitem__)


def _closing(entry: _Open, per_cell: Mapping[Key, Cost]) -> Cost:
    """Return the expected cost until the question is decided."""
    return total(per_cell[key].times(entry.further) for key, _ in entry.known.left_settings)


def _mean(costs: Collection[Cost]) -> Cost:
    """Return the mean cost of a cell; 0 CPU- and GPU-seconds if `costs` is empty."""
    _, cpu, gpu = total(costs)
    return Cost(1, cpu / max(1, len(costs)), gpu / max(1, len(costs)))
