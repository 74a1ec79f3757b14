"""Rendering of the ledger as text, Markdown or JSON. The functions return strings, which the caller prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl

from raysweep.analysis.claims.claim import PAPER, SOURCES
from raysweep.analysis.claims.conclusions import conclusions
from raysweep.analysis.claims.verdict import CANNOT, NOT_RUN
from raysweep.analysis.rendering import ABSENT, markdown_table, number, wrapped
from raysweep.analysis.rendering import to_json as as_json
from raysweep.workloads.registry import Registry

TERMS = "What the words mean, and by which rules: docs/verdicts.md, Verdicts: the rules, and when they were written"
_INDENT = "  "
_WIDTH = 120


def to_text(frame: pl.DataFrame) -> str:
    """Render the ledger as text. Each line's paragraph has verdict, statement, numbers, baselines and reason."""
    blocks = []
    for row in frame.to_dicts():
        paragraph = [f"{row['id']}, {row['part']}: {row['verdict'].upper()}{_on_its_own(row)}"]
        paragraph.append(f"{row['says']} ({source(row)})")
        paragraph.append(f"{row['source']} {row['claimed']}{_its_seeds(row)}; ours {_numbers(row)}{_beside(row)}")
        paragraph.append(row["why"])
        if row["verdict"] == NOT_RUN and row["command"] and row["command"] not in row["why"]:
            paragraph.append(row["command"])
        first, *rest = paragraph
        blocks.append("\n".join([first, *(wrapped(text, _WIDTH, _INDENT) for text in rest)]))
    sweep_notes = [wrapped(f"{note}.", _WIDTH) for note in notes(frame)]
    return "\n\n".join([summary(frame), *sweep_notes, *blocks, TERMS]) + "\n"


def to_markdown(frame: pl.DataFrame) -> str:
    """Render the ledger as one Markdown table per source of claims. Each line has one row, with the reason last."""
    heads = ["claim", "part", "source", "claimed", "its seeds, 95 %", "ours, 95 % interval", "seeds", "verdict",
             "alone", "decay 0", "naive", "why"]  # fmt: skip
    parts = [conclusions(frame, _number), summary(frame), *(f"{note}." for note in notes(frame))]
    parts = [part for part in [*parts, _by_claim(frame)] if part]
    for name, description in SOURCES.items():
        rows = frame.filter(pl.col("source") == name).to_dicts()
        if not rows:
            continue
        lines = [
            [
                row["id"],
                row["part"],
                source(row),
                row["claimed"],
                _interval(row["paper_lower"], row["paper_upper"]),
                _numbers(row),
                str(row["n"]) if row["n"] else ABSENT,
                row["verdict"],
                row["alone"] if row["alone"] != row["verdict"] else "the same",
                _number(row["decay_0"]),
                _number(row["naive"]),
                row["why"],
            ]
            for row in rows
        ]
        parts += [f"## Claims: {description}", markdown_table(heads, lines)]
    parts.append(
        "Its seeds: the interval of the paper's own. Alone: without Holm's correction. "
        "Made by `raysweep claims`; rules: `docs/verdicts.md`."
    )
    return "\n\n".join(parts) + "\n"


def to_json(frame: pl.DataFrame) -> str:
    """Render the ledger as JSON: all columns, one object per line, and counts of the verdicts by source."""
    by_source = {name: frame.filter(pl.col("source") == name) for name in SOURCES}
    document: dict[str, Any] = {
        **{
            counted: {name: dict(Counter(part[column].to_list())) for name, part in by_source.items() if part.height}
            for counted, column in {"verdicts": "verdict", "alone": "alone"}.items()
        },
        "claims": {
            name: dict(Counter(_claims(frame).filter(pl.col("source") == name)["claim_verdict"])) for name in by_source
        },
        "notes": notes(frame),
        "lines": frame.to_dicts(),
    }
    return as_json(document)


RENDERERS: Registry[Callable[[pl.DataFrame], str]] = Registry(
    "ledger format", {"text": to_text, "markdown": to_markdown, "json": to_json}
)
"""Format -> function that renders the ledger's frame."""


def render(frame: pl.DataFrame, how: str) -> str:
    """Render the ledger as `text`, `markdown` or `json`."""
    return RENDERERS[how](frame)


def summary(frame: pl.DataFrame) -> str:
    """Count the lines of each source by verdict.

    Lines that are undecided only because of Holm's correction are also counted by their uncorrected verdict.
    """
    return "\n\n".join(
        _counts(name, part, _claims(frame).filter(pl.col("source") == name)["claim_verdict"].to_list())
        for name in SOURCES
        if (part := frame.filter(pl.col("source") == name)).height
    )


def notes(frame: pl.DataFrame) -> list[str]:
    """Return the distinct notes of all lines: settings that differ from the sweep's file, and cells left out."""
    return frame["notes"].explode().drop_nulls().unique(maintain_order=True).to_list()


def _counts(name: str, part: pl.DataFrame, claims: list[str]) -> str:
    """Describe how many lines have each verdict and, if the source has claims of its own, how many claims do."""
    counts = Counter(part["verdict"].to_list())
    hidden = Counter(part.filter(pl.col("alone") != pl.col("verdict"))["alone"].to_list())
    verdicts = []
    for verdict, count in counts.most_common():
        of_them = ", ".join(f"{n} {alone}" for alone, n in hidden.most_common()) if verdict == CANNOT else ""
        verdicts.append(f"{count} {verdict}" + (f" (of them on their own: {of_them})" if of_them else ""))
    by_line = ", ".join(verdicts)
    if not claims:
        return f"{part.height} line{'s' * (part.height > 1)} within claims of others, {SOURCES[name]}: {by_line}"
    many = f"{len(claims)} claim{'s' * (len(claims) > 1)}, {SOURCES[name]}"
    by_claim = ", ".join(f"{count} {verdict}" for verdict, count in Counter(claims).most_common())
    return f"{many}: {by_claim}. By line, of {part.height}: {by_line}"


def _claims(part: pl.DataFrame) -> pl.DataFrame:
    """Return the first row of each claim."""
    return part.unique("id", keep="first", maintain_order=True)


def _by_claim(frame: pl.DataFrame) -> str:
    """Format a table with the verdict on each claim, and the numbers of its lines by verdict."""
    rows = []
    for row in _claims(frame).to_dicts():
        counts = Counter(frame.filter(pl.col("id") == row["id"])["verdict"].to_list()).most_common()
        rows.append([row["id"], row["claim_verdict"], ", ".join(f"{n} {verdict}" for verdict, n in counts)])
    return "## By claim\n\n" + markdown_table(["claim", "verdict", "its lines"], rows)


def source(row: dict[str, Any]) -> str:
    """Return the place of a claim, such as `Sec. 4.1, Table 3`; if it is not in the paper, its source comes first."""
    return str(row["where"]) if row["source"] == PAPER else f"not in the paper; {row['source']}: {row['where']}"


def _its_seeds(row: dict[str, Any]) -> str:
    text = _interval(row["paper_lower"], row["paper_upper"])
    return "" if text == ABSENT else f", its own seeds {text}"


def _on_its_own(row: dict[str, Any]) -> str:
    return "" if row["alone"] == row["verdict"] else f" (on its own: {row['alone']})"


def _numbers(row: dict[str, Any]) -> str:
    """Format our number, interval and unit as `0.0018 [0.0012, 0.0024] MSE`; a dash if there is no number."""
    if row["ours"] is None:
        return ABSENT
    text = _number(row["ours"])
    if row["lower"] is not None or row["upper"] is not None:
        text += " " + _interval(row["lower"], row["upper"])
    return f"{text} {row['unit']}"


def _interval(lower: float | None, upper: float | None) -> str:
    """Format an interval as `[lower, upper]`; a dash if both ends are missing."""
    if lower is None and upper is None:
        return ABSENT
    return f"[{_number(lower)}, {_number(upper)}]"


def _beside(row: dict[str, Any]) -> str:
    named = {"decay 0": row["decay_0"], "naive": row["naive"]}
    baselines = [f"{name} {_number(value)}" for name, value in named.items() if value is not None]
    over = f"; {row['n']} seeds" if row["n"] else ""
    return over + (f"; beside it, {row['metric']}: {', '.join(baselines)}" if baselines else "")


def _number(value: float | None) -> str:
    return number(value, ".2g")
