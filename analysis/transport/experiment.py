"""An experiment of `docs/transport.md`, and the part of the page that reports it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis import rendering
from raysweep.analysis.rendering import ABSENT, markdown_table
from raysweep.analysis.transport.question import Answer, Question, answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Experiment:
    """An experiment with its questions.

    Args:
        title: the heading, such as `C. A multiverse of Experiments 1 to 3`.
        sweeps: the names of its sweeps, in the order in which they are launched.
        experiments: the experiments (a column of `cells`) of these sweeps.
        design: what is run and how it is analysed, in Markdown.
        questions: the questions.
        details: returns the main tables from the cells, in Markdown.
        figures: file name without ending -> function that draws the figure from the cells, with its caption.
        metrics: columns of `cells` that details and figures read, but no question.
        remarks: text below the answers, in Markdown, written once the results were known.
        appendix: returns tables from the cells that the page folds, in Markdown.
    """

    title: str
    sweeps: tuple[str, ...]
    experiments: tuple[str, ...]
    design: str
    questions: tuple[Question, ...]
    details: Callable[[pl.DataFrame], str] = lambda cells: ""
    figures: dict[str, tuple[Callable[[pl.DataFrame], Figure], str]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    remarks: str = ""
    appendix: Callable[[pl.DataFrame], str] = lambda cells: ""

    def own(self, cells: pl.DataFrame) -> pl.DataFrame:
        """Return the experiment's done cells."""
        return cells.filter(pl.col("experiment").is_in(self.experiments), pl.col("status") == "done")


def section(
    experiment: Experiment, cells: pl.DataFrame, figures: Path | None = None, given: Sequence[Answer] | None = None
) -> str:
    """Write the experiment's part of the page, in Markdown: design, answers, remarks, tables, figures, queries.

    Args:
        experiment: the experiment.
        cells: the table of cells.
        figures: folder to draw the figures into; None: they are only named.
        given: the answers; None: they are computed.
    """
    own = experiment.own(cells)
    given = answers(experiment.questions, own) if given is None else given
    parts = [f"## {experiment.title}", experiment.design, table(given)]
    if own.height:
        launch = f"{own.height:,} cells, `raysweep launch {' '.join(experiment.sweeps)}`."
        parts += [experiment.remarks, launch, experiment.details(own)]
        for name, (draw, caption) in experiment.figures.items():
            if figures is not None:
                from raysweep.analysis.figures.drawing import save

                save(draw(own), figures / f"{name}.svg")
            parts.append(f"![{caption}](results/transport/{name}.svg)\n\n{caption}")
        if appendix := experiment.appendix(own):
            parts.append(folded("Accuracies", "Every rule and its rate", appendix))
    parts.append(queries(experiment.questions))
    return "\n\n".join(part for part in parts if part)


def folded(heading: str, summary: str, text: str) -> str:
    """Format Markdown below a heading so that it is shown once its summary is clicked.

    The attribute `markdown` is for the documentation's site, which otherwise takes what is folded for HTML.
    """
    return f'### {heading}\n\n<details markdown="1"><summary>{summary}</summary>\n\n{text}\n\n</details>'


def table(given: Sequence[Answer]) -> str:
    """Format the answers as a Markdown table."""
    rows = [
        [
            answer.question.name,
            answer.question.words,
            answer.verdict if answer.verdict == answer.alone else f"{answer.verdict} (on its own: {answer.alone})",
            number(answer),
            str(answer.units or ABSENT),
            answer.why if answer.units else ABSENT,
        ]
        for answer in given
    ]
    return markdown_table(["", "question", "answer", "number, 95 % interval", "units", "why"], rows)


def number(answer: Answer) -> str:
    """Format an answer's number, interval and unit; a dash if there is no number."""
    if answer.value is None:
        return ABSENT
    ends = f" [{digits(answer.lower)}, {digits(answer.upper)}]" if answer.lower is not None else ""
    return f"{digits(answer.value)}{ends} {answer.question.criterion.unit}"


def digits(value: float | None) -> str:
    """Format a number with three significant digits; a dash for None."""
    return rendering.number(value, ".2e")


def queries(questions: Sequence[Question]) -> str:
    """Format the questions' queries, folded, each once, with the names of the questions that read it."""
    names: dict[str, list[str]] = {}
    for question in questions:
        names.setdefault(question.query, []).append(question.name)
    blocks = [f"{', '.join(group)}:\n\n```sql\n{query}\n```" for query, group in names.items()]
    return folded("Queries", "The SQL of each question", "\n\n".join(blocks))


def columns_read(experiments: Sequence[Experiment], cells: pl.DataFrame) -> list[str]:
    """Return the columns of `cells` that any query or table of these experiments reads, in the table's order."""
    words = {
        word
        for experiment in experiments
        for question in experiment.questions
        for word in re.findall(r"\w+", question.query)
    }
    words |= {name for experiment in experiments for name in experiment.metrics}
    always = {"experiment", "method", "k", "seed", "status"}
    return [name for name in cells.columns if name in words | always]
