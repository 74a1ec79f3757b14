"""What the figures share before any ink: rows, which cells stand for them, geometric means, the caption's wording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from raysweep.analysis.cells.cell_notes import named_seeds, origin_notes
from raysweep.analysis.cells.launch_options import commands
from raysweep.analysis.cells.selection import Chosen, Row, choose
from raysweep.analysis.cells.source import Source
from raysweep.analysis.errors import NothingDone
from raysweep.orchestrator.errors import InputError

PAPER_SEEDS = (42, 123, 7, 2024, 31337)

TRACES = Row("traces_decay095", "decay 0.95", "traces", 0, {"decay": 0.95})
DECAY0 = Row("traces_decay0", "decay 0", "traces", 0, {"decay": 0.0})
FULL = Row("full", "full RTRL", "rtrl")


def ring(k: int) -> Row:
    """Sparse RTRL with the paper's default selection."""
    return Row(f"k{k}", f"k = {k}", "sparse_rtrl", k, {"selection": "ring"})


@dataclass(frozen=True)
class Part:
    """The share of a figure that comes from one sweep at one setting.

    Args:
        sweep: its name, as commands take it.
        experiment: key column's value.
        rows: what is compared.
        pinned: config values that the part is about.
        label: said in front of what it lacks; empty where the figure has one part only.
        metric: the metric shown; None where arrays are.
        arrays: the arrays shown.
        seeds: asked for where none has been launched.
    """

    sweep: str
    experiment: str
    rows: tuple[Row, ...]
    pinned: Mapping[str, object]
    label: str = ""
    metric: str | None = None
    arrays: tuple[str, ...] = ()
    seeds: tuple[int, ...] = PAPER_SEEDS

    def labels(self, keys: Iterable[str]) -> str:
        """The rows of these keys, in the part's order, as a caption lists them."""
        wanted = set(keys)
        return ", ".join(row.label for row in self.rows if row.key in wanted)


@dataclass(frozen=True)
class Taken:
    """A part and its cells."""

    part: Part
    chosen: Chosen
    source: Source

    def values(self) -> pl.DataFrame:
        """Columns row, experiment, seed and `mse`, of the done cells; null where a cell has none."""
        if self.part.metric is None:
            raise ValueError("this part shows arrays, not a metric")
        return self.chosen.values(self.part.metric).rename({self.part.metric: "mse"})

    def per_seed(self, metric: str) -> pl.DataFrame:
        """Columns seed, mse: a metric that is the stream's and not the method's, once a seed."""
        mean = pl.col(metric).drop_nulls().mean().alias("mse")
        return self.chosen.values(metric).group_by("seed", maintain_order=True).agg(mean)

    def series(self) -> pl.DataFrame:
        """The part's arrays, one row an entry: row, seed, name, step, value (null if not finite).

        Raises:
            InputError: cells are done, and none of them has such an array.
        """
        names, done = self.part.arrays, self.chosen.done
        value = pl.col("value")
        found = (
            self.source.arrays(names)
            .join(done.select("cell_id", "row", "seed"), on="cell_id")
            .with_columns(at=pl.int_ranges(pl.col("values").list.len()))
            .explode("at", "values")
            .filter(pl.col("at").is_not_null())  # an array of no entries explodes to one null
            .select("row", "seed", "name", step=pl.col("step") + pl.col("at") * pl.col("stride"), value="values")
            .with_columns(value=pl.when(value.is_finite()).then(value))
            .sort("row", "seed", "name", "step")
        )
        if found.is_empty() and done.height:
            raise InputError(
                f"the done cells of experiment {self.part.experiment!r} have no array {', '.join(names)}; "
                f"the sweep that records it: raysweep launch {self.part.sweep}{self.source.at}"
            )
        return found


def take(figure: str, source: Source, parts: Sequence[Part]) -> list[Taken]:
    """Every part's cells.

    Raises:
        NothingDone: none of any part is done; the message names the commands to run.
        AmbiguousCells: a part fits cells of several settings.
    """
    taken = [
        Taken(
            part,
            choose(
                source.cells,
                part.rows,
                experiment=part.experiment,
                pinned=part.pinned,
                default_seeds=part.seeds,
            ),
            source,
        )
        for part in parts
    ]
    if all(each.chosen.done.is_empty() for each in taken):
        asked = sum(each.chosen.asked for each in taken)
        raise NothingDone(
            f"figure {figure!r} has nothing to draw, as none of its {asked} cells is done; run: {_commands(taken)}"
        )
    return taken


def one_part(figure: str, part: Part) -> Callable[[Source], Taken]:
    """`take` for a figure of one part."""
    return lambda source: take(figure, source, [part])[0]


def geometric(frame: pl.DataFrame, by: Sequence[str], value: str = "mse") -> pl.DataFrame:
    """Geometric mean over seeds, `level`, and the `n` seeds it is over; a group without any is left out."""
    positive = frame.filter(pl.col(value) > 0)
    return positive.group_by(list(by), maintain_order=True).agg(
        pl.col(value).log().mean().exp().alias("level"), n=pl.len().cast(pl.Int64)
    )


def sentence(what: str, taken: Sequence[Taken], metric: str) -> str:
    """The caption, one line: what is shown, of which sweeps, metric and seeds, and what of it is missing."""
    sweeps = list(dict.fromkeys(each.part.sweep for each in taken))
    counts = [group.height for each in taken for group in each.chosen.done.partition_by("row")]
    seeds = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    said = [
        f"{what}.",
        f"Metric: {metric}; {'sweep' if len(sweeps) == 1 else 'sweeps'}: {', '.join(sweeps)}; "
        f"n = {seeds} {'seed' if seeds == '1' else 'seeds'}.",
        *origin_notes((each.part.sweep, each.chosen) for each in taken),
        *(f"{text}." for each in taken if (text := _diverged(each))),
    ]
    missing = [text for each in taken if (text := _missing(each))]
    if missing:
        lacking = [each for each in taken if each.chosen.missing.height]
        said.append(f"Missing: {'; '.join(missing)}. To run them: {_commands(lacking)}.")
    return " ".join(said)


def _diverged(taken: Taken) -> str | None:
    """Done cells that ended early: without a metric to draw, or with shorter arrays."""
    part, done = taken.part, taken.chosen.done
    if part.metric is not None:
        early, so = taken.values().filter(~(pl.col("mse") > 0).fill_null(value=False)), "so not drawn"
    elif "diverged" in done.columns:
        early, so = done.filter(pl.col("diverged").cast(pl.Float64) > 0), "drawn up to there"
    else:
        return None
    if early.is_empty():
        return None
    said = "; ".join(
        f"{part.labels([str(key)])}, {named_seeds(group['seed'].to_list())}"
        for (key,), group in early.group_by("row", maintain_order=True)
    )
    return f"Diverged, {so}: {_behind(part, said)}"


def _missing(taken: Taken) -> str | None:
    """How many cells are missing, which, and what became of them: rows of one fate together."""
    chosen, part = taken.chosen, taken.part
    if chosen.missing.is_empty():
        return None
    statuses = chosen.missing["status"].unique(maintain_order=True).to_list()
    if chosen.missing.height == chosen.asked and len(statuses) == 1:
        return _behind(part, f"all {chosen.asked} cells, {statuses[0]}")
    fates: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for (key, status), group in chosen.missing.group_by("row", "status", maintain_order=True):
        fates.setdefault((tuple(group["seed"].to_list()), str(status)), []).append(str(key))
    said = "; ".join(
        f"{part.labels(keys)}, {'all seeds' if len(seeds) == len(chosen.seeds) else named_seeds(seeds)}, {status}"
        for (seeds, status), keys in fates.items()
    )
    return _behind(part, f"{chosen.missing.height} of {chosen.asked} cells ({said})")


def _commands(taken: Sequence[Taken]) -> str:
    return "; ".join(commands(((each.part.sweep, each.chosen.cells) for each in taken), taken[0].source.at))


def _behind(part: Part, text: str) -> str:
    return f"{part.label}: {text}".replace("\n", " ") if part.label else text
