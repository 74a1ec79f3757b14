"""Rounding: lines judged again under each rounding of the same seeds, and rounding's part of the variance.

`paper/rounding` runs the rows of the sine and the Lorenz system at 64 units several times for each seed, in runs that
differ in rounding alone: dtype, loop, and weights one ulp away. Rules: `docs/verdicts.md`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, Row, bptt, sparse
from raysweep.analysis.cells.notes import named_seeds
from raysweep.analysis.cells.source import Source
from raysweep.analysis.claims.claim import Cells, Line
from raysweep.analysis.claims.load import Reader, load
from raysweep.analysis.claims.verdict import judge
from raysweep.analysis.rendering import ABSENT, markdown_table
from raysweep.analysis.statistics.inference import Array
from raysweep.analysis.statistics.variance import components

SWEEP, EXPERIMENT = "paper/rounding", "rounding"
SETTINGS = ("dtype", "implementation", "rounding")
"""The settings that make a rounding."""
STREAMS = {"sine": "sine", "decay": "sine", "lorenz": "lorenz"}
"""Experiment whose lines are judged again -> its stream in the sweep, where the other settings are the same."""
METRICS = {"sine": "mse_post_last_500", "lorenz": "mse_post_all"}
ROWS = {
    "sine": (
        TRACES,
        *(Row(f"decay_{own:g}", f"k = 0, decay {own:g}", "traces", 0, {"decay": own}) for own in (0.5, 0.3, 0.1)),
        DECAY_0,
        bptt(1),
        *(sparse(k, "ring") for k in (4, 8, 16, 32)),
        FULL,
    ),
    "lorenz": (TRACES, DECAY_0, sparse(4, "ring"), FULL),
}
"""Stream -> the rows whose variance is decomposed."""


_EXACT = 1e-12
"""Standard deviation of ln MSE below which runs do not differ."""


class Rounding(NamedTuple):
    """One rounding: its values of `SETTINGS`, and a reader of its cells alone."""

    settings: Mapping[str, object]
    reader: Reader


class Rounded(NamedTuple):
    """A line's verdicts under each rounding, without Holm's correction, and the number of seeds. Empty: not judged."""

    verdicts: tuple[str, ...] = ()
    seeds: int = 0

    def __str__(self) -> str:
        counts = Counter(self.verdicts).most_common()
        if not counts:
            return ""
        (verdict, count), *others = counts
        total = len(self.verdicts)
        if not others:
            return f"Under each of {total} roundings of {self.seeds} seeds: {verdict}"
        rest = ", ".join(f"{other} under {n}" for other, n in others)
        return f"Changes with rounding ({self.seeds} seeds): {verdict} under {count} of {total}, {rest}"


def roundings(source: Source) -> list[Rounding]:
    """Return the roundings of the source's cells; first those of float32 and of the compiled loop."""
    if "experiment" not in source.cells.columns:
        return []
    cells = source.cells.filter(pl.col("experiment") == EXPERIMENT)
    configs = [json.loads(text) for text in cells["config"]]
    keys = [tuple(config.get(name) for name in SETTINGS) for config in configs]
    parts = []
    for own in sorted(set(keys), key=lambda key: (key[0] != "float32", key[1] != "fused", key[2])):
        part = cells.filter(pl.Series([key == own for key in keys], dtype=pl.Boolean))
        parts.append(Rounding(dict(zip(SETTINGS, own, strict=True)), Reader(source._replace(cells=part))))
    return parts


def judged_again(line: Line, among: Sequence[Rounding]) -> Rounded:
    """Judge a line on the cells of each rounding. Not judged unless all its cells are done under each rounding."""
    if not line.cells or any(cells.experiment not in STREAMS or cells.reduce for cells in line.cells):
        return Rounded()
    verdicts = []
    seeds: set[tuple[int, ...]] = set()
    for own in among:
        data = load(own.reader, [_under(cells, STREAMS[cells.experiment], own) for cells in line.cells])
        if data.lacking is not None:
            return Rounded()
        seeds.add(data.seeds)
        verdicts.append(judge(line, data).verdict)
    return Rounded(tuple(verdicts), len(seeds.pop())) if len(seeds) == 1 else Rounded()


def _under(cells: Cells, stream: str, own: Rounding) -> Cells:
    """Return the selection of the same rows under one rounding."""
    pinned = {**cells.pinned, "stream": stream, **own.settings}
    return replace(cells, sweep=SWEEP, experiment=EXPERIMENT, pinned=pinned, decay_0=None)


def page(source: Source, ledger: pl.DataFrame) -> str | None:
    """Format the page of a store's roundings as Markdown; None if no row is done under two roundings of three seeds.

    Args:
        source: the store's cells.
        ledger: the ledger's frame for the same source.
    """
    among = roundings(source)
    rows = [text for stream, own in ROWS.items() for row in own if (text := _variance(stream, row, among)) is not None]
    if not rows:
        return None
    names = "; ".join(", ".join(f"{name} = {value}" for name, value in own.settings.items()) for own in among)
    lines = ledger.filter(pl.col("roundings").list.len() > 0).to_dicts()
    moved = sum(len(set(line["roundings"])) > 1 for line in lines)
    head = ["stream", "row", "seeds", "roundings", "sd between seeds", "sd within a seed", "share, %", "geometric mean"]
    parts = [
        "# Rounding as a part of the variance",
        f"Runs of the same seed that differ in rounding alone ({len(among)}: {names}). Variances are of ln MSE, with a "
        "seed as a random effect. The share is that of the variance within seeds, with its 95 % interval over seeds. "
        "The last column is the range over roundings of the geometric mean over seeds.",
        markdown_table(head, rows, [False, False, *[True] * 6]),
        "## Lines judged under each rounding",
        f"Of {len(lines)} lines {moved} change{'s' * (moved == 1)} with rounding. Verdicts under a rounding are of "
        "these seeds, without Holm's correction. The ledger's own verdict may be of others.",
        markdown_table(
            ["claim", "part", "verdict", "under the roundings"],
            [[line["id"], line["part"], line["verdict"], _counted(line["roundings"])] for line in lines],
        ),
        "Made by `python -m raysweep.analysis.publish` from `paper/rounding`; rules: `docs/verdicts.md`.",
    ]
    return "\n\n".join(parts) + "\n"


def _counted(verdicts: Sequence[str]) -> str:
    counts = Counter(verdicts).most_common()
    return ("" if len(counts) == 1 else "changes: ") + ", ".join(f"{count} {verdict}" for verdict, count in counts)


def _variance(stream: str, row: Row, among: Sequence[Rounding]) -> list[str] | None:
    """Format the components of variance of a row; None if there are too few runs or seeds, or not the same ones."""
    selected = Cells(SWEEP, EXPERIMENT, (row,), {"stream": stream}, metric=METRICS[stream])
    loaded = [load(own.reader, [_under(selected, stream, own)]) for own in among]
    seeds = {data.seeds for data in loaded}
    if len(loaded) < 2 or any(data.lacking is not None for data in loaded) or len(seeds) != 1:
        return None
    (own_seeds,) = seeds
    if len(own_seeds) < 3:
        return None
    values: Array = np.stack([data.columns[row.key] for data in loaded])
    counted = [stream, row.label, str(len(own_seeds)), str(len(loaded))]
    diverged = [seed for i, seed in enumerate(own_seeds) if np.isnan(values[:, i]).any()]
    if diverged:
        return [*counted, ABSENT, ABSENT, f"diverged: {named_seeds(diverged)}", ABSENT]
    result = components(np.log(values))
    low, high = result.interval()
    means = np.exp(np.log(values).mean(-1))
    share = f"{100 * result.share.value:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
    sds = ["0" if sd < _EXACT else f"{sd:.2g}" for sd in (result.between, result.within)]
    return [*counted, *sds, share, f"{means.min():.2g} to {means.max():.2g}"]
