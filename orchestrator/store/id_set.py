"""A set of cell ids that needs 12 bytes of memory per id, where Python strings would need 110."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

_BYTES = 12


class _Ids(NamedTuple):
    """Ids as numbers: the first 8 bytes of each, and its last 4."""

    heads: npt.NDArray[np.uint64]
    tails: npt.NDArray[np.uint32]

    def at(self, chosen: npt.NDArray[np.int_] | npt.NDArray[np.bool_]) -> _Ids:
        """Return the ids at these positions."""
        return _Ids(self.heads[chosen], self.tails[chosen])


class IdSet:
    """A set of ids of 24 hex characters, stored as sorted arrays. Arrays of similar length are merged."""

    def __init__(self, ids: Iterable[str] | pl.Series = ()) -> None:
        self._runs: list[_Ids] = []
        self.update(ids if isinstance(ids, pl.Series) else list(ids))

    def update(self, ids: Sequence[str] | pl.Series) -> None:
        """Add ids."""
        new = _sorted(_packed(ids))
        new = new.at(~self._contains(new))
        if not len(new.heads):
            return
        self._runs.append(new)
        while len(self._runs) > 1 and len(self._runs[-2].heads) <= 2 * len(self._runs[-1].heads):
            last, before = self._runs.pop(), self._runs.pop()
            heads, tails = np.concatenate([before.heads, last.heads]), np.concatenate([before.tails, last.tails])
            self._runs.append(_sorted(_Ids(heads, tails)))

    def has(self, ids: Sequence[str] | pl.Series) -> list[bool]:
        """Tell for each id whether the set contains it."""
        contained: list[bool] = self._contains(_packed(ids)).tolist()
        return contained

    def _contains(self, ids: _Ids) -> npt.NDArray[np.bool_]:
        contained = np.zeros(len(ids.heads), np.bool_)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run.heads, ids.heads), len(run.heads) - 1)
            alike = run.heads[at] == ids.heads
            contained |= alike & (run.tails[at] == ids.tails)
            unsure = alike & ~contained  # ids of other tails may follow: digests hardly ever have such neighbours
            if unsure.any():
                contained[unsure] = np.isin(_joined(ids.at(unsure)), _joined(run))
        return contained

    def __contains__(self, cell_id: str) -> bool:
        return self.has([cell_id])[0]

    def __len__(self) -> int:
        return sum(len(run.heads) for run in self._runs)

    def __iter__(self) -> Iterator[str]:
        for run in self._runs:
            yield from (f"{head:016x}{tail:08x}" for head, tail in zip(run.heads, run.tails, strict=True))


def _sorted(ids: _Ids) -> _Ids:
    """Sort ids, and drop those that occur twice."""
    ids = ids.at(np.argsort(ids.heads, kind="stable"))
    alike = ids.heads[1:] == ids.heads[:-1]
    if alike.any():
        ids = ids.at(np.lexsort((ids.tails, ids.heads)))
        is_first = np.ones(len(ids.heads), np.bool_)
        is_first[1:] = (ids.heads[1:] != ids.heads[:-1]) | (ids.tails[1:] != ids.tails[:-1])
        ids = ids.at(is_first)
    return ids


def _joined(ids: _Ids) -> npt.NDArray[np.bytes_]:
    heads = ids.heads.astype(">u8").view(np.uint8).reshape(-1, 8)
    tails = ids.tails.astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.ascontiguousarray(np.hstack([heads, tails])).view(f"S{_BYTES}").ravel()


def _packed(ids: Sequence[str] | pl.Series) -> _Ids:
    texts = ids if isinstance(ids, pl.Series) else pl.Series(ids, dtype=pl.String)
    if texts.null_count() or not (texts.str.len_bytes() == 2 * _BYTES).all():
        raise ValueError("a cell id does not have 24 characters")
    buffers = texts.to_arrow(compat_level=pl.CompatLevel.oldest()).buffers()  # large strings, one after another
    digits = bytes(buffers[2]).decode() if len(texts) else ""
    digests = np.frombuffer(bytes.fromhex(digits[: 2 * _BYTES * len(texts)]), np.uint8).reshape(-1, _BYTES)
    if len(digests) != len(texts):  # spaces count as nothing
        raise ValueError("a cell id is not hexadecimal")
    heads, tails = (np.ascontiguousarray(part) for part in (digests[:, :8], digests[:, 8:]))
    return _Ids(heads.view(">u8").ravel().astype(np.uint64), tails.view(">u4").ravel().astype(np.uint32))
