"""Merging small segments while a launch goes on, so that readers of a million cells open tens of files, not thousands.

Segments are merged sixteen of one size class at a time, so that a row is rewritten a few times only. The merged
segment names those that it replaces and appears in one step; then they are deleted (`docs/store.md`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import add, gt

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.store.segments import MAX_VALUES, Segment

FAN = 16
SMALLEST = 32 * 2**10
LARGEST = 16 * 2**20  # bytes; a segment of this size or more is left as it is
MANY_ROWS = 32_768  # likewise: columns of equal values are small on disk, and large in memory
BATCH, BATCH_ROWS = 4 * LARGEST, 2 * MANY_ROWS  # of one merge, which is held in memory


def size_class(size: int, rows: int) -> int | None:
    """0 for the smallest segments, one more for each factor of `FAN`; None for those that stay."""
    if size >= LARGEST or rows >= MANY_ROWS:
        return None
    found, limit = 0, SMALLEST
    while size >= limit:
        found, limit = found + 1, limit * FAN
    return found


def runs(segments: Iterable[Segment], size: int, rows: int) -> Iterator[list[Segment]]:
    """Cut into runs, in order, whose sums keep within limits; what exceeds them by itself is alone.

    Args:
        segments: some.
        size: bytes of a run at most.
        rows: of it at most; of values it has `MAX_VALUES`, since no reader would take more.
    """
    limits = (size, rows, MAX_VALUES)
    run: list[Segment] = []
    sums = (0, 0, 0)
    for segment in segments:
        its = (segment.size, segment.rows, segment.values)
        sums = tuple(map(add, sums, its))
        if run and any(map(gt, sums, limits)):
            yield run
            run, sums = [], its
        run.append(segment)
    if run:
        yield run


def batches(segments: Sequence[Segment]) -> list[list[Segment]]:
    """What to merge now, in the order of names: of each size class, `FAN` segments or more, or a full batch."""
    classes: dict[int, list[Segment]] = {}
    for segment in segments:
        kind = None if segment.seal else size_class(segment.size, segment.rows)
        if kind is not None:
            classes.setdefault(kind, []).append(segment)
    found = []
    for same in classes.values():
        *full, last = runs(same, BATCH, BATCH_ROWS)
        found += [run for run in full if len(run) > 1]  # one alone would be written again for nothing, each time
        if len(last) >= FAN:
            found.append(last)
    return found


class Compactor(threading.Thread):
    """Calls `merge` each time that a folder has got enough new segments.

    Args:
        merge: merges what is due in a folder; called on this thread.
    """

    def __init__(self, merge: Callable[[str], None]) -> None:
        super().__init__(name="raysweep-compaction", daemon=True)
        self._merge = merge
        self._news: dict[str, int] = {}
        self._wake, self._ended = threading.Event(), threading.Event()
        self.problem: RaysweepError | None = None

    def committed(self, folder: str) -> None:
        """A segment was added."""
        self._news[folder] = self._news.get(folder, 0) + 1
        if self._news[folder] >= FAN:
            if not self.is_alive() and not self._ended.is_set():
                self.start()
            self._wake.set()

    def run(self) -> None:
        """Till `end`."""
        while not self._ended.is_set():
            self._wake.wait()
            self._wake.clear()
            for folder in [folder for folder, count in self._news.items() if count >= FAN]:
                if self._ended.is_set():
                    return
                self._news[folder] = 0
                try:
                    self._merge(folder)
                except RaysweepError as error:  # a full disk, say: the launch goes on with small segments
                    self.problem = error
                    self._ended.set()
                    return

    def end(self) -> None:
        """Wait for the merge that is being made, and make no other."""
        self._ended.set()
        self._wake.set()
        if self.is_alive():
            self.join()
