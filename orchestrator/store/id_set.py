"""A set of cell ids in 12 bytes each, where a set of Python strings takes 110: a driver's memory stays flat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

_KIND = np.dtype("S12")


class IdSet:
    """Ids of 24 hex characters. Sorted runs, merged as they come to be alike in length.

    Args:
        ids: the first ones.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._runs: list[npt.NDArray[np.bytes_]] = []
        self.update(list(ids))

    def update(self, ids: Sequence[str]) -> None:
        """Add these."""
        new = np.unique(_packed(ids))
        new = new[~self._held(new)]
        if not len(new):
            return
        self._runs.append(new)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")

    def has(self, ids: Sequence[str]) -> list[bool]:
        """Whether each is there."""
        found: list[bool] = self._held(_packed(ids)).tolist()
        return found

    def _held(self, packed: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
        held = np.zeros(len(packed), np.bool_)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, packed), len(run) - 1)
            held |= run[at] == packed
        return held

    def __contains__(self, cell_id: str) -> bool:
        return self.has([cell_id])[0]

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def __iter__(self) -> Iterator[str]:
        for run in self._runs:
            # NumPy drops trailing zero bytes of an element.
            yield from (bytes(packed).ljust(_KIND.itemsize, b"\0").hex() for packed in run)


def _packed(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    if any(len(one) != 2 * _KIND.itemsize for one in ids):
        raise ValueError("an id is not of 24 characters")
    return np.frombuffer(bytes.fromhex("".join(ids)), _KIND)
