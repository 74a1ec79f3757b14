"""Descriptions of code changes for people: what changed, how the workload uses it, and who accepted the change."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from raysweep.orchestrator.text import count_cells

if TYPE_CHECKING:
    from raysweep.orchestrator.code.meaning import Difference
    from raysweep.orchestrator.launch.staleness import CodeChange

MAX_PARTS = 8
"""Maximum number of changed parts that a plan lists per code change without `--diff`."""


def change_lines(changes: Sequence[tuple[CodeChange, int]], unrecorded: int, *, diff: bool) -> Iterator[str]:
    """Yield the lines of a plan that describe changed code.

    Args:
        changes: the changes of code, each with the number of done cells that it concerns.
        unrecorded: number of done cells whose code has changed, but whose source was not recorded.
        diff: whether to list all changed parts, each with its differing lines.
    """
    for change, cells in changes:
        if change.accepted:
            yield f"{count_cells(cells)} done by other code, whose changes were accepted:"
            for entry in change.accepted:
                yield f"  {entry.name}, {entry.time[:10]}: {entry.reason}"
        else:
            yield f"changed since {count_cells(cells)} {'was' if cells == 1 else 'were'} done:"
        shown = change.differences if diff else change.differences[:MAX_PARTS]
        for difference in shown:
            yield f"  {difference.file}: {difference.what}{used_by(difference)}"
            if diff:
                yield from (f"    {line}" for line in text_diff(difference))
        if len(change.differences) > len(shown):
            yield f"  and {len(change.differences) - len(shown)} more (--diff lists all)"
    if unrecorded:
        yield f"{count_cells(unrecorded)} changed without a recorded source: any byte of the files counts"


def change_document(change: CodeChange, cells: int) -> dict[str, Any]:
    """Return a code change, and the number of cells that it concerns, as a JSON document."""
    return {
        "workload": change.workload, "before": change.before, "after": change.after, "cells": cells,
        "matters": change.matters, "parts": [difference._asdict() for difference in change.differences],
        "accepted": [asdict(entry) for entry in change.accepted],
    }  # fmt: skip


def used_by(difference: Difference) -> str:
    """Format the parts through which the workload uses a changed part: `, used by function run > function fit`.

    The text is empty if the chain of parts is empty.
    """
    return f", used by {' > '.join(difference.chain)}" if difference.chain else ""


def text_diff(difference: Difference) -> Iterator[str]:
    """Yield a unified diff of a changed part of the source, such as a function, with two lines of context."""
    before, after = ((text or "").splitlines() for text in (difference.before, difference.after))
    return itertools.islice(difflib.unified_diff(before, after, lineterm="", n=2), 2, None)
