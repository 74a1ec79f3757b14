"""Questions that a sweep file declares: `[[question]]` blocks. They are never part of cell ids.

A question is checked twice. When the file is read, the block is checked on its own. When a launch is planned, the
block's predicates are checked against the sweep's cells. `pairings` decides which settings a question compares.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from raysweep.orchestrator.text import encodable, join_first, short_repr
from raysweep.workloads.registry import unknown_name

Setting = Mapping[str, Any]
"""The keys and values that cells share if they differ only in their seed."""
_KEYS = ("name", "a", "b", "best_of", "metric", "pair", "margin", "better")
_MAX_LETTERS = 1000


@dataclass(frozen=True)
class Question:
    """A question: which of two settings (`a`, `b`) is better in a metric, or which of several (`best_of`) is best."""

    name: str
    metric: str
    a: str | None = None  # an SQL predicate
    b: str | None = None
    best_of: str | None = None
    margin: float | None = None
    better: str = "lower"

    @property
    def predicates(self) -> dict[str, str]:
        """The predicates of the block by key: `a` and `b`, or `best_of`."""
        keys = {"a": self.a, "b": self.b, "best_of": self.best_of}
        return {key: text for key, text in keys.items() if text is not None}

    @property
    def digest(self) -> str:
        """The digest of all fields of the question, as 16 hex characters."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def read_questions(raw: Any, problems: list[str]) -> tuple[Question, ...]:
    """Read the questions of a sweep file. Mistakes are added to `problems`."""
    if isinstance(raw, dict):
        problems.append("question: [question] is one table, not a list of blocks; write [[question]]")
        raw = [raw]
    if not isinstance(raw, list):
        problems.append(f"question: {short_repr(raw)} is not a list of [[question]] blocks")
        return ()
    questions: list[Question] = []
    for i, block in enumerate(raw):
        where = f"question[{i}]"
        if not isinstance(block, dict):
            problems.append(f"{where}: {short_repr(block)} is not a table of key = value lines")
            continue
        before = len(problems)
        question = _question(block, where, problems)
        if len(problems) > before:
            continue
        if any(question.name == other.name for other in questions):
            problems.append(f"{where}.name: {question.name!r} appears twice; rename one of the questions")
        questions.append(question)
    return tuple(questions)


def _question(block: Mapping[str, Any], where: str, problems: list[str]) -> Question:
    problems += [f"{where}: {unknown_name('key', key, _KEYS)}" for key in block if key not in _KEYS]
    for key in ("name", "metric", "a", "b", "best_of", "better", "pair"):
        value = block.get(key)
        if value is not None and not _is_text(value):
            problems.append(f"{where}.{key}: {short_repr(value)} is not text of 1 to {_MAX_LETTERS:,} characters")
    for key in ("name", "metric"):
        if key not in block:
            problems.append(f'{where}.{key}: missing; add {key} = "..."')
    if "best_of" in block:
        problems += [f"{where}.{key}: not valid beside best_of" for key in ("a", "b", "margin") if key in block]
    elif not {"a", "b"} <= block.keys():
        problems.append(f"{where}: give two predicates a and b, such as a = \"method = 'sgd'\", or one in best_of")
    better, pair, margin = block.get("better", "lower"), block.get("pair", "seed"), block.get("margin")
    if better not in ("lower", "higher"):
        problems.append(f'{where}.better: {short_repr(better)} is neither "lower" nor "higher"')
    if pair != "seed":
        problems.append(f'{where}.pair: {short_repr(pair)} is not valid; cells are paired by "seed"')
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
        problems.append(f"{where}.margin: {short_repr(margin)} is not a number")
    elif margin is not None and not 0 < margin < math.inf:
        problems.append(f"{where}.margin: {short_repr(margin)} is not a positive number")
    return Question(
        name=str(block.get("name")), metric=str(block.get("metric")), a=block.get("a"), b=block.get("b"),
        best_of=block.get("best_of"), margin=margin, better=better,
    )  # fmt: skip


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_LETTERS and encodable(value)


@dataclass(frozen=True)
class Pairing:
    """Two settings to compare, given as indices into the settings of `pairings`.

    Args:
        a: index of the first setting.
        b: index of the second setting.
        stratum: the keys and values that the two share and that tell this pairing from others, such as `rate=0.1`.
        differing: keys whose values differ between a and b.
    """

    a: int
    b: int
    stratum: str
    differing: tuple[str, ...]


class Pairings(NamedTuple):
    """The result of `pairings`.

    Args:
        pairs: the pairs of settings to compare.
        left_out: one line for each stratum in which only `a` or only `b` has a setting.
        problems: the reasons why settings cannot be paired, one line each.
    """

    pairs: tuple[Pairing, ...]
    left_out: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def pairings(a: Sequence[int], b: Sequence[int], settings: Sequence[Setting]) -> Pairings:
    """Pair the settings `a` with the settings `b`, given as indices into `settings`.

    The settings are divided into strata. The keys that define strata are those that vary and have some value in both
    `a` and `b`. The settings of one stratum have equal values of all these keys. Only settings of the same stratum
    are compared, and in it `a` and `b` may each have only one.
    """
    both = [settings[i] for i in (*a, *b)]
    if set(a) & set(b):
        shown = join_first((label(settings[i], both) for i in sorted(set(a) & set(b))), 3, "; ")
        return Pairings((), (), (f"both sides select {shown}; make the predicates exclude each other",))
    varying = [key for key in keys_of(both) if len({_text(s.get(key)) for s in both}) > 1]
    values = {key: [{_text(settings[i].get(key)) for i in side} for side in (a, b)] for key in varying}
    strata = [key for key in varying if values[key][0] & values[key][1]]
    groups: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}
    for side, chosen in enumerate((a, b)):
        for i in chosen:
            groups.setdefault(tuple(_text(settings[i].get(key)) for key in strata), ([], []))[side].append(i)
    result: list[Pairing] = []
    left_out: list[str] = []
    problems: list[str] = []
    for of_a, of_b in groups.values():
        stratum = ", ".join(f"{key}={shown_value((settings[(of_a or of_b)[0]]).get(key))}" for key in strata)
        at = f" at {stratum}" if stratum else ""
        if not (of_a and of_b):
            only = "first" if of_a else "second"
            left_out.append(f"only the {only} side has cells{at}")
            continue
        for name, chosen in (("first", of_a), ("second", of_b)):
            if len(chosen) > 1:
                own = [settings[i] for i in chosen]
                shown = join_first(labels(own), 4, "; ")
                problems.append(f"the {name} side selects {len(chosen)} settings{at} ({shown}); select one of them")
        if len(of_a) == len(of_b) == 1:
            one, other = settings[of_a[0]], settings[of_b[0]]
            differing = tuple(key for key in varying if _text(one.get(key)) != _text(other.get(key)))
            result.append(Pairing(of_a[0], of_b[0], stratum, differing))
    if not (result or problems):
        problems.append(f"no settings of both sides agree in {', '.join(strata)}: {join_first(left_out, 4, '; ')}")
    return Pairings(tuple(result), tuple(left_out), tuple(problems))


def label(setting: Setting, among: Sequence[Setting]) -> str:
    """Format a short name of a setting, such as `sparse, k=4, rate=0.1`.

    It consists of the method, and of the keys that vary in `among`.
    """
    return _label(setting, _differing(among))


def labels(settings: Sequence[Setting]) -> list[str]:
    """Return a label for each setting: its method, and the keys in which the settings differ."""
    keys = _differing(settings)
    return [_label(setting, keys) for setting in settings]


def _label(setting: Setting, keys: Sequence[str]) -> str:
    parts = [f"{key}={shown_value(setting[key])}" for key in keys if setting.get(key) is not None]
    return ", ".join([str(setting.get("method")), *parts])


def _differing(settings: Sequence[Setting]) -> list[str]:
    """Return the keys, except `method`, in which the settings differ."""
    return [
        key
        for key in keys_of(settings)
        if key != "method" and len({_text(setting.get(key)) for setting in settings}) > 1
    ]


def keys_of(settings: Sequence[Setting]) -> list[str]:
    """Return all keys of the settings, in order of appearance."""
    return list(dict.fromkeys(key for setting in settings for key in setting))


def shown_value(value: Any) -> str:
    """Format a setting's value for messages."""
    return value if isinstance(value, str) else json.dumps(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
