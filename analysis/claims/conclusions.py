"""Five concluding sentences. Each reports one line of the ledger, with a query for its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import polars as pl


class Conclusion(NamedTuple):
    """A sentence that reports one line of the ledger.

    Args:
        claim: the claim's id.
        part: the line's name.
        sentence: the sentence; `{ours}`, `{verdict}` and `{naive}` are replaced by the line's values.
        query: SQL that computes the means behind the sentence.
    """

    claim: str
    part: str
    sentence: str
    query: str


def _means(columns: str, experiment: str, value: str) -> str:
    return (
        f"SELECT {columns}, {value}, count(*) FROM cells "  # noqa: S608 - to be typed by the reader; parts are ours
        f"WHERE experiment = '{experiment}' AND status = 'done' GROUP BY ALL ORDER BY ALL"
    )


_GEOMETRIC = "exp(avg(ln({0}))) AS {0}"

CONCLUSIONS = (
    Conclusion(
        "F-decay0",
        "the decay is why traces fail",
        "A trace of decay .95, the paper's k = 0, has {ours} times the error of decay 0 on the sine; neither "
        "propagates anything. The author's follow-up (arXiv 2603.28750) says first that the decay is the step.",
        _means("method, k, decay", "sine", _GEOMETRIC.format("mse_post_last_500")),
    ),
    Conclusion(
        "E1-recovery",
        "level, k = 4",
        "Of what full RTRL gains over a trace of decay .95 on the sine, k = 4 recovers {ours} %; the paper has 84 "
        "({verdict}).",
        _means("method, k, decay", "sine", _GEOMETRIC.format("mse_post_last_500")),
    ),
    Conclusion(
        "E4-copy",
        "transport",
        "On copy, where something has to be transported, k = 4 recovers {ours} % of what full RTRL has over decay 0.",
        _means("method, k, decay", "copy", "avg(accuracy_all_last_500) AS accuracy"),
    ),
    Conclusion(
        "E1-tbptt",
        "no worse, window 10",
        "Beside truncated BPTT over 10 steps, both at their best rates, k = 4 has {ours} times the error on the sine.",
        _means('method, k, "window", learning_rate', "sine_tbptt", _GEOMETRIC.format("mse_post_last_500")),
    ),
    Conclusion(
        "E2-lorenz64",
        "level, k = 4, n = 64",
        "On Lorenz k = 4 is at an error of {ours}; predicting no change is at {naive}.",
        _means("method, k, hidden", "lorenz", _GEOMETRIC.format("mse_post_all") + ", avg(persistence_post_all)"),
    ),
)


def conclusions(frame: pl.DataFrame, number: Callable[[float | None], str]) -> str:
    """Format the concluding sentences, each with its query, as Markdown.

    A sentence is left out if the ledger has no value `ours` for its line. Without any sentence, the text is empty.

    Args:
        frame: the ledger.
        number: function that formats a number.
    """
    sentences: list[str] = []
    for conclusion in CONCLUSIONS:
        rows = frame.filter((pl.col("id") == conclusion.claim) & (pl.col("part") == conclusion.part)).to_dicts()
        if not rows or rows[0]["ours"] is None:
            continue
        row = rows[0]
        ours = f"{number(row['ours'])} [{number(row['lower'])}, {number(row['upper'])}]"
        text = conclusion.sentence.format(ours=ours, verdict=row["verdict"], naive=number(row["naive"]))
        sentences.append(f"{len(sentences) + 1}. {text} ({row['n']} seeds)\n\n   ```sql\n   {conclusion.query}\n   ```")
    return "## What to conclude\n\n" + "\n".join(sentences) if sentences else ""
