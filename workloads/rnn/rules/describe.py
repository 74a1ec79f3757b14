"""Generates the parts of docs/rules.md that follow from the code.

Run `python -m raysweep.workloads.rnn.rules.describe`. Each part stands between the comments `<!-- NAME -->` and
`<!-- end -->`. Tables come from the registries. Equations are the indented blocks in the docstrings of the modules
that implement them.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import string
from collections.abc import Iterable, Mapping
from pathlib import Path

from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.component import Scalar
from raysweep.workloads.rnn.fused import form
from raysweep.workloads.rnn.rules import RULES

PACKAGE = Path(__file__).resolve().parents[1]
DOCUMENT = PACKAGE.parents[1] / "docs" / "rules.md"
CHOICES: Mapping[str, tuple[Scalar, ...]] = {
    "feedback": ("symmetric", "random"),
    "order": (1, 2),
}
"""Settings on which it depends whether the compiled loop runs a rule.

For each setting: a value with which the loop runs the rule, then a value with which it does not.
"""
BUILT = {name: kind.build(**kind.defaults) for name, kind in ARCHITECTURES.items()}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Format a Markdown table."""
    names = list(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])


def code(values: Iterable[object]) -> str:
    """List names or values, each as Markdown code."""
    return ", ".join(f"`{value}`" for value in values)


def assigned(settings: Mapping[str, Scalar]) -> str:
    """List settings with their defaults, in the syntax of a sweep file."""
    return code(f"{name} = {json.dumps(value)}" for name, value in settings.items()) or "none"


def defined_on() -> str:
    """Format the table of architectures on which each rule is defined.

    Where a rule is not defined, letters refer to the reasons, which are listed below the table.
    """
    letters: dict[str, str] = {}
    rows = []
    for rule, entry in RULES.items():
        row = [f"`{rule}`"]
        for architecture in BUILT.values():
            reasons = [need.otherwise for need in entry.needs if not need.holds(architecture)]
            for reason in reasons:
                letters.setdefault(reason, string.ascii_lowercase[len(letters)])
            row.append("yes" if not reasons else "no: " + ", ".join(letters[reason] for reason in reasons))
        rows.append(row)
    notes = "\n".join(f"- {letter}: {reason}" for reason, letter in letters.items())
    return table(["rule", *(f"`{name}`" for name in BUILT)], rows) + "\n\n" + notes


def traits() -> str:
    """Format the table of the rules' traits. The last column tells whether the compiled loop runs the rule."""
    rows = []
    for rule, entry in RULES.items():
        exact = [name for name, a in BUILT.items() if entry.exact_on(a) and entry.undefined_on(a) is None]
        rows.append(
            [
                f"`{rule}`",
                entry.gradient + (f"; exact on {code(exact)}" if exact else ""),
                "yes" if entry.draws_noise else "no",
                k_of(rule),
                assigned(entry.defaults),
                compiled(rule),
            ]
        )
    return table(["rule", "gradient", "noise each step", "k", "its own settings", "compiled"], rows)


def k_of(rule: str) -> str:
    """Describe the k that is recorded for a cell of this rule if the cell states no k."""
    entry, n = RULES[rule], 8
    if entry.takes_k:
        return "needed"
    stored = entry.settle_k(None, n, entry.defaults)[0] if entry.settle_k else None
    return {None: "none", n: "n"}.get(stored, str(stored))


def compiled(rule: str) -> str:
    """Describe whether the compiled loop runs a rule: always, never, or only with a certain setting."""
    settings = RULES[rule].defaults
    for name, choices in CHOICES.items():
        if name in settings:
            fitting = [c for c in choices if form.propagation_of(rule, 2, 4, {**settings, name: c})]
            if 0 < len(fitting) < len(choices):
                return f"if `{name}` is {code(fitting)}"
            return "yes" if fitting else "no"
    return "yes" if form.propagation_of(rule, 2, 4, settings) else "no"


def architectures() -> str:
    """Format the table of the architectures' properties on which rules depend."""
    rows = [
        [
            f"`{name}`",
            *(str(count) for count in (a.components, a.gates, a.read, a.stages)),
            "yes" if a.recurrent else "no",
            "yes" if a.shared_inputs else "no",
            assigned(ARCHITECTURES[name].defaults),
            "yes" if name in form.ARCHITECTURES else "no",
        ]
        for name, a in BUILT.items()
    ]
    head = ["architecture", "C", "G", "Q", "stages", "units read one another", "gates share inputs"]
    return table([*head, "its own settings", "compiled"], rows)


def equations(path: Path) -> str:
    """Extract the indented blocks of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    groups = itertools.groupby(docstring.splitlines(), lambda line: line.startswith("    "))
    blocks = ["\n".join(line[4:] for line in lines) for indented, lines in groups if indented]
    return "```text\n" + "\n\n".join(blocks) + "\n```"


def parts() -> dict[str, str]:
    """Return the generated parts of docs/rules.md: name of the part -> its text."""
    return {
        "defined on": defined_on(),
        "traits": traits(),
        "architectures": architectures(),
        "masks": equations(PACKAGE / "masks.py"),
        "replay": equations(PACKAGE / "fused" / "replay.py"),
        "two levels": equations(PACKAGE / "fused" / "history.py"),
        **{rule: equations(Path(inspect.getfile(entry.build))) for rule, entry in RULES.items()},
    }


def rewritten(text: str) -> str:
    """Replace all generated parts in the text of docs/rules.md."""
    for name, part in parts().items():
        opening, closing = f"<!-- {name} -->\n", "<!-- end -->"
        if text.count(opening) != 1:
            raise ValueError(f"docs/rules.md has the part {name!r} {text.count(opening)} times")
        before, after = text.split(opening)
        if closing not in after:
            raise ValueError(f"docs/rules.md does not end the part {name!r}")
        text = f"{before}{opening}{part}\n{closing}{after.partition(closing)[2]}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
