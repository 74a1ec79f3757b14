"""Seeds of a sweep: a list of integers, or a range such as "0..19"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.grammar.near_misses import like_a_range
from raysweep.orchestrator.text import short_repr

_RANGE = re.compile(r"\s*(\d{1,18})\s*\.\.\s*(\d{1,18})\s*", re.ASCII)
_LIKE_A_RANGE = re.compile(r"\s*(\d{1,18})\s*(?:-|:|–|\.{2,}|…|to)\s*(\d{1,18})\s*", re.ASCII)
_SEED = re.compile(r"\d{1,19}", re.ASCII)
_MAX_SEED = 2**63 - 1
_MAX_RANGE = 100_000_000


def typed_seeds(seeds: str | Sequence[int]) -> Sequence[int]:
    """Parse the value of `--seeds`: `"0..19"`, `"1,2,5"` or a list of ints.

    Raises:
        InputError: the seeds are invalid.
    """
    problems: list[str] = []
    if isinstance(seeds, str) and ".." not in seeds and not _LIKE_A_RANGE.fullmatch(seeds):
        parts = [part.strip() for part in seeds.split(",")]
        seeds = [int(p) if _SEED.fullmatch(p) else p for p in parts]  # type: ignore[misc]
    read = read_seeds(seeds, "--seeds", problems)
    if problems:
        raise InputError(problems)
    return read


def read_seeds(value: Any, where: str, problems: list[str]) -> Sequence[int]:
    """Read the seeds of a sweep file. Problems are added to `problems`; the result is incomplete then."""
    if isinstance(value, str):
        match = _RANGE.fullmatch(value)
        if _SEED.fullmatch(value.strip()):
            count = int(value)
            several = f', "0..{count - 1}" for {count:,} seeds' if 1 < count <= _MAX_RANGE else ""
            problems.append(f"{where}: {short_repr(value)} is not a range; write [{count}] for one seed{several}")
            return ()
        if not match or int(match[1]) > int(match[2]):
            low, high = sorted(map(int, like.groups())) if (like := _LIKE_A_RANGE.fullmatch(value)) else (0, 19)
            write = f'did you mean "{low}..{high}"?' if like else f'write "{low}..{high}"'
            if value.strip().startswith("["):
                write = "write the list without quotes, or a range"
            problems.append(f"{where}: {short_repr(value)} is not a range; {write} (both ends included)")
            return ()
        first, last = int(match[1]), int(match[2])
        if last - first >= _MAX_RANGE:
            problems.append(f"{where}: {value!r} has {last - first + 1:,} seeds; at most {_MAX_RANGE:,} are possible")
            return ()
        return range(first, last + 1)
    if not isinstance(value, Sequence) or not value:
        write = f"; write [{value}] for one seed" if type(value) is int and 0 <= value <= _MAX_SEED else ""
        problems.append(
            f'{where}: {short_repr(value)} is neither a list of integers nor a range such as "0..19"{write}'
        )
        return ()
    bad = [s for s in value if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s <= _MAX_SEED]
    if bad:
        alone = "; a range is no part of a list" if like_a_range(bad[0]) else ""
        problems.append(f"{where}: {short_repr(bad[0])} is not an integer from 0 to 2^63 - 1{alone}")
        return ()
    repeated = sorted(s for s, count in Counter(value).items() if count > 1)
    if repeated:
        problems.append(f"{where}: {repeated[0]} appears twice; remove one of them")
    return tuple(dict.fromkeys(value))
