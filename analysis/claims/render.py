"""The ledger as text, Markdown or JSON: strings only, printing them is the caller's business."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl

from workloads.registry import Registry

ABSENT = "–"
_INDENT = "  "
_WIDTH = 120


def to_text(frame: pl.DataFrame) -> str:
    """A paragraph a line: verdict first, numbers, what stands beside it, why."""
    blocks = []
    for row in frame.to_dicts():
        said = [f"{row['id']}, {row['part']}: {row['verdict'].upper()}", f"{row['says']} ({row['where']})"]
        said.append(f"paper {row['paper']}; ours {_numbers(row)}{_beside(row)}")
        said.append(row["why"])
        if row["verdict"] == "not run" and row["command"] and row["command"] not in row["why"]:
            said.append(row["command"])
        first, *rest = said
        blocks.append("\n".join([first, *(_fill(text) for text in rest)]))
    return "\n\n".join([summary(frame), *blocks]) + "\n"


def to_markdown(frame: pl.DataFrame) -> str:
    """One table, a row a line; reasons in its last column."""
    heads = ["claim", "part", "paper", "ours, 95 % interval", "seeds", "verdict", "decay 0", "naive", "why"]
    lines = [heads, ["---"] * len(heads)]
    for row in frame.to_dicts():
        lines.append(
            [
                row["id"],
                row["part"],
                row["paper"],
                _numbers(row),
                str(row["n"]) if row["n"] else ABSENT,
                row["verdict"],
                _number(row["decay_0"]),
                _number(row["naive"]),
                row["why"],
            ]
        )
    table = [f"| {' | '.join(_cell(entry) for entry in line)} |" for line in lines]
    return "\n".join([summary(frame), "", *table, "", "Made by `raysweep claims`; rules: `docs/verdicts.md`."]) + "\n"


def to_json(frame: pl.DataFrame) -> str:
    """Every column in full, one object a line."""
    document: dict[str, Any] = {
        "verdicts": dict(Counter(frame["verdict"].to_list())),
        "lines": frame.to_dicts(),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


RENDERERS: Registry[Callable[[pl.DataFrame], str]] = Registry(
    "ledger format", {"text": to_text, "markdown": to_markdown, "json": to_json}
)
"""Format -> the ledger's frame to string."""


def render(frame: pl.DataFrame, how: str) -> str:
    """The ledger as `text`, `markdown` or `json`."""
    return RENDERERS[how](frame)


def summary(frame: pl.DataFrame) -> str:
    """How many lines came to which verdict."""
    counts = Counter(frame["verdict"].to_list())
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{frame.height} lines of {frame['id'].n_unique()} claims: {said}"


def _numbers(row: dict[str, Any]) -> str:
    """`0.0018 [0.0012, 0.0024] MSE, 5 seeds`, or a dash."""
    if row["ours"] is None:
        return ABSENT
    text = _number(row["ours"])
    if row["lower"] is not None or row["upper"] is not None:
        text += f" [{_number(row['lower'])}, {_number(row['upper'])}]"
    return f"{text} {row['unit']}"


def _beside(row: dict[str, Any]) -> str:
    named = {"decay 0": row["decay_0"], "naive": row["naive"]}
    said = [f"{name} {_number(value)}" for name, value in named.items() if value is not None]
    over = f"; {row['n']} seeds" if row["n"] else ""
    return over + (f"; beside it, {row['metric']}: {', '.join(said)}" if said else "")


def _number(value: float | None) -> str:
    if value is None:
        return ABSENT
    if value and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2g}"
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _fill(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
