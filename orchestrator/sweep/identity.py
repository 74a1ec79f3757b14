"""A cell's identity: canonical JSON, its hash (the cell id), and a readable name."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

ID_SCHEME = 1
ID_LENGTH = 24


def hash_parts(
    workload: str, version: str, experiment: str, method: str, k: int | None, config: Mapping[str, Any],
    needs: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Encode a variant, which is all that identifies a cell except its seed, as canonical JSON.

    The seed belongs in the middle of the JSON, so there are two parts: (text before the seed, text after the seed).
    `needs` maps each needed block to the digests of its needed variants; if it is None, the encoding has no such key.
    """
    # Keys are sorted: everything before "seed" is one object, everything after it another.
    key = {"config": config, "experiment": experiment, "k": k, "method": method, "scheme": ID_SCHEME}
    head = canonical_json(key if needs is None else {**key, "needs": needs})
    tail = canonical_json({"version": version, "workload": workload})
    return head[:-1] + ',"seed":', "," + tail[1:]


def cell_ids(parts: tuple[str, str], seeds: Iterable[int]) -> pl.Series:
    """Compute the ids of a variant's cells, one for each seed.

    An id is the first 24 hex characters of the SHA-256 of the JSON: `parts` (see `hash_parts`) with the seed between.
    """
    begin, tail = hashlib.sha256(parts[0].encode()).copy, parts[1].encode()
    digests = bytearray()
    for seed in seeds:
        digest = begin()
        digest.update(b"%d%b" % (seed, tail))
        digests += digest.digest()[: ID_LENGTH // 2]
    return _hex(digests)


def _hex(digests: bytearray) -> pl.Series:
    """Convert digests of 12 bytes each to a column of text, without a Python object per id."""
    import numpy as np  # here: workers, which import this module, need none of these
    import polars as pl
    import pyarrow as pa

    text = digests.hex().encode()
    ends = np.arange(0, len(text) + 1, ID_LENGTH, dtype=np.int64)
    column = pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))
    return pl.Series("cell_id", column)


def canonical_json(value: Any) -> str:
    """Encode a value as canonical JSON: sorted keys, no spaces, equal numbers written alike.

    Raises:
        ValueError: a number is not finite, a key is not text, or a value is of another type.
    """
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _canonical(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not finite")
        # 1 and 1.0 are one value, as are 0.0 and -0.0; beyond 2^53 floats are not exact integers.
        return int(value) if value == int(value) and abs(value) < 2**53 else float(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys must be text")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    raise ValueError(f"{type(value).__name__} is not a config value")


def cell_name(experiment: Any, method: Any, k: Any, seed: Any, cell_id: str) -> str:
    """Format a cell's readable name, such as `sine/sparse_rtrl/k=4/seed=42#3f5b12ab`."""
    middle = "" if k is None else f"/k={k}"
    return f"{experiment}/{method}{middle}/seed={seed}#{cell_id[:8]}"
