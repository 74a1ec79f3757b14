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
        parts += [as_answered(experiment.remarks, given), launch, experiment.details(own)]
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


_CITED = re.compile(
    r"\b([A-Z]\d+)((?:(?:, | to )[A-Z]\d+)*): (yes|no|open|on the margin)\b(?: \(on its own: ([\w ]+)\))?"
)
"""Such as `B7: yes`, `A1 to A4: yes`, `B4: open (on its own: no)`."""


def cited(text: str) -> dict[str, tuple[str, str]]:
    """Return what a text says of questions: name -> verdict, and the verdict on its own, which is empty if not said."""
    verdicts: dict[str, tuple[str, str]] = {}
    for first, others, verdict, alone in _CITED.findall(" ".join(text.split())):
        names = [first]
        for word, name in re.findall(r"(, | to )(\w+)", others):
            least = int(names[-1][1:]) + 1 if word == " to " else int(name[1:])
            names += [f"{name[0]}{number}" for number in range(least, int(name[1:]) + 1)]
        verdicts |= dict.fromkeys(names, (verdict, alone))
    return verdicts


def as_answered(text: str, given: Sequence[Answer]) -> str:
    """Return a text that was written for the published cells, unless these cells answer a question otherwise.

    It is left out if nothing is answered, and replaced by a sentence if an answer differs from what it says.
    """
    if not any(answer.units for answer in given):
        return ""
    answered = {answer.question.name: answer for answer in given}
    other = [
        name
        for name, (verdict, alone) in cited(text).items()
        if answered[name].verdict != verdict or alone not in ("", answered[name].alone)
    ]
    if not other:
        return text
    return f"The remarks on the published cells are left out, as these cells answer otherwise: {', '.join(other)}."


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
