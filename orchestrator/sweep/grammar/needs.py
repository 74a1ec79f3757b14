"""Blocks whose cells need the cells of another block: `needs = "train"`.

A cell needs those cells of the named block that have the same seed and the same values in all shared settings.
Shared settings are the keys that both blocks have. `method` and `k` are shared if both blocks name them and have a
value in common. A cell's id depends on the cells that it needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from raysweep.orchestrator.sweep.grammar.block import Block
from raysweep.orchestrator.sweep.identity import ID_LENGTH, cell_ids
from raysweep.orchestrator.text import join_first
from raysweep.workloads.registry import unknown_name

Parts = tuple[str, str]
"""A variant in canonical JSON, as two parts: the text before the seed and the text after it (`identity.hash_parts`)."""
_MAX_SHOWN = 3


class Candidate(NamedTuple):
    """One combination of a block's settings: the values as the file has them, and the encoded variant."""

    row: Mapping[str, Any]
    parts: Parts


def problems_of(blocks: Sequence[Block]) -> list[str]:
    """Describe problems of the keys `block` and `needs`: duplicate names, unknown names, and cycles."""
    lines = []
    names = [block.name for block in blocks if block.name]
    for i, block in enumerate(blocks):
        if block.name and block.name in [other.name for other in blocks[:i]]:
            lines.append(f"grid[{i}].block: {block.name!r} appears twice; rename one of the blocks")
        for name in block.needs:
            if name == block.name:
                lines.append(f"grid[{i}].needs: {name!r} is the block itself")
            elif name not in names:
                no = '; a block gets its name by block = "..."' if not names else ""
                lines.append(f"grid[{i}].needs: {unknown_name('block', name, names)}{no}")
    if not lines and len(order(blocks)) < len(blocks):
        left = [block.name or "?" for i, block in enumerate(blocks) if i not in order(blocks)]
        lines.append(f"needs: the blocks need each other in a circle: {', '.join(left)}")
    return lines


def order(blocks: Sequence[Block]) -> list[int]:
    """Return the indices of the blocks, each block after those that it needs.

    Blocks in a cycle, and blocks that need one of these, are left out.
    """
    done: set[str] = set()
    result: list[int] = []
    while True:
        ready = [i for i, block in enumerate(blocks) if i not in result and done.issuperset(block.needs)]
        if not ready:
            return result
        result += ready
        done |= {blocks[i].name for i in ready}


def shared_names(block: Block, needed: Block) -> list[str]:
    """Return the names of the settings in which a cell and a cell that it needs must agree."""
    names = [name for name in block.axes if name in needed.axes]
    if block.names_method and needed.names_method and set(block.methods) & set(needed.methods):
        names.append("method")
    if set(block.ks) & set(needed.ks) - {None}:
        names.append("k")
    return names


def shared_by_folders(block: Block, blocks: Sequence[Block], needed: Collection[str]) -> set[str]:
    """Return the names of the settings on which the folders `{needs.BLOCK}` in a block's command depend.

    Args:
        block: the block.
        blocks: all blocks of the sweep.
        needed: the names of blocks in the placeholders.
    """
    named = [other for other in blocks if other.name and other.name in needed and other.name in block.needs]
    return {name for other in named for name in shared_names(block, other)}


def matched(
    row: Mapping[str, Any], block: Block, needed: Block, candidates: Sequence[Candidate]
) -> tuple[list[Parts], str | None]:
    """Return the variants of `needed` that a cell with the settings `row` needs, and a message if there are none."""
    names = shared_names(block, needed)
    matches = sorted({each.parts for each in candidates if all(row.get(name) == each.row.get(name) for name in names)})
    if matches:
        return matches, None
    shown = join_first((f"{name} = {json.dumps(row.get(name))}" for name in names), _MAX_SHOWN)
    return [], f".needs: block {needed.name!r} has no cell with {shown}"


def digests(needs: Mapping[str, Sequence[Parts]]) -> dict[str, list[str]] | None:
    """Return needed block -> digests of the needed variants, for a cell's id; None if `needs` is empty."""
    if not needs:
        return None
    return {
        name: [hashlib.sha256("".join(part).encode()).hexdigest()[:ID_LENGTH] for part in parts]
        for name, parts in needs.items()
    }


class Edge(NamedTuple):
    """A needed cell: its block, id, method, k and hashed config."""

    block: str
    cell_id: str
    method: str
    k: int | None
    config: Mapping[str, Any]


def edges(needs: str, seed: int) -> list[Edge]:
    """List the cells that a cell with this seed needs.

    `needs` is JSON from the table of variants: the column `needs` in the row of the cell's variant.
    """
    result = []
    for block, variants in json.loads(needs).items():
        for head, tail in variants:
            key = json.loads(f"{head}{seed}{tail}")
            cell_id = cell_ids((head, tail), [seed])[0]
            result.append(Edge(block, cell_id, key["method"], key["k"], key["config"]))
    return result
