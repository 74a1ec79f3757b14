"""A set of cell ids that needs 12 bytes of memory per id, where Python strings would need 110."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

_KIND = np.dtype("S12")


class IdSet:
    """A set of ids of 24 hex characters, stored as sorted arrays. Arrays of similar length are merged."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._runs: list[npt.NDArray[np.bytes_]] = []
        self.update(list(ids))

    def update(self, ids: Sequence[str]) -> None:
        """Add ids."""
        new = np.unique(_packed(ids))
        new = new[~self._contains(new)]
        if not len(new):
            return
        self._runs.append(new)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")

    def has(self, ids: Sequence[str]) -> list[bool]:
        """Tell for each id whether the set contains it."""
        contained: list[bool] = self._contains(_packed(ids)).tolist()
        return contained

    def _contains(self, packed: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
        contained = np.zeros(len(packed), np.bool_)
        for run in self._runs:
            index = np.minimum(np.searchsorted(run, packed), len(run) - 1)
            contained |= run[index] == packed
        return contained

    def __contains__(self, cell_id: str) -> bool:
        return self.has([cell_id])[0]

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def __iter__(self) -> Iterator[str]:
        for run in self._runs:
            # NumPy drops trailing zero bytes of an element.
            yield from (bytes(packed).ljust(_KIND.itemsize, b"\0").hex() for packed in run)


def _packed(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    if any(len(cell_id) != 2 * _KIND.itemsize for cell_id in ids):
        raise ValueError("a cell id does not have 24 characters")
    return np.frombuffer(bytes.fromhex("".join(ids)), _KIND)
