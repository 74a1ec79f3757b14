"""Merging of small segments during a launch, so that readers of a million cells open tens of files, not thousands.

Sixteen segments of the same size class are merged at a time, so that a row is rewritten only a few times. The
merged segment lists the segments that it replaces, and appears in one step. Then the replaced segments are
deleted (`docs/store.md`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import add, gt

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.store.segments import Segment
from raysweep.orchestrator.store.untrusted import MAX_VALUES

FAN = 16
SMALLEST = 32 * 2**10
# Segments of at least so many bytes or rows are not merged; equal values are small on disk but large in memory.
LARGEST, MANY_ROWS = 16 * 2**20, 32_768
BATCH, BATCH_ROWS = 4 * LARGEST, 2 * MANY_ROWS  # limits of one merge, which is held in memory


def size_class(size: int, rows: int) -> int | None:
    """Return a segment's size class; None if the segment is too large to merge.

    Class 0 is smaller than `SMALLEST` bytes. The upper limit of each class is `FAN` times that of the class before.
    """
    if size >= LARGEST or rows >= MANY_ROWS:
        return None
    number, limit = 0, SMALLEST
    while size >= limit:
        number, limit = number + 1, limit * FAN
    return number


def runs(segments: Iterable[Segment], size: int, rows: int) -> Iterator[list[Segment]]:
    """Split segments, in order, into groups within limits. A segment that exceeds a limit is a group by itself.

    A group also has at most `MAX_VALUES` values, since readers refuse more.

    Args:
        segments: the segments.
        size: maximum number of bytes per group.
        rows: maximum number of rows per group.
    """
    limits = (size, rows, MAX_VALUES)
    run: list[Segment] = []
    sums = (0, 0, 0)
    for segment in segments:
        amounts = (segment.size, segment.rows, segment.values)
        sums = tuple(map(add, sums, amounts))
        if run and any(map(gt, sums, limits)):
            yield run
            run, sums = [], amounts
        run.append(segment)
    if run:
        yield run


def batches(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Return the groups of segments to merge now.

    All segments of a group have one size class. A group is merged if it has at least `FAN` segments, or at least two
    when the next segment would exceed the limits of one merge.
    """
    classes: dict[int, list[Segment]] = {}
    for segment in segments:
        number = None if segment.seal else size_class(segment.size, segment.rows)
        if number is not None:
            classes.setdefault(number, []).append(segment)
    due = []
    for same in classes.values():
        *full, last = runs(same, BATCH, BATCH_ROWS)
        due += [run for run in full if len(run) > 1]  # a single segment would be rewritten each time in vain
        if len(last) >= FAN:
            due.append(last)
    return due


class Compactor(threading.Thread):
    """A thread that calls `merge(folder)` whenever a folder has `FAN` new segments."""

    def __init__(self, merge: Callable[[str], None]) -> None:
        super().__init__(name="raysweep-compaction", daemon=True)
        self._merge = merge
        self._new: dict[str, int] = {}
        self._wake, self._ended = threading.Event(), threading.Event()
        self.problem: RaysweepError | None = None

    def committed(self, folder: str) -> None:
        """Count a new segment of a folder, and wake the thread if a merge is due."""
        self._new[folder] = self._new.get(folder, 0) + 1
        if self._new[folder] >= FAN:
            if not self.is_alive() and not self._ended.is_set():
                self.start()
            self._wake.set()

    def run(self) -> None:
        """Merge until `end` is called or a merge fails."""
        while not self._ended.is_set():
            self._wake.wait()
            self._wake.clear()
            for folder in [folder for folder, count in self._new.items() if count >= FAN]:
                if self._ended.is_set():
                    return
                self._new[folder] = 0
                try:
                    self._merge(folder)
                except RaysweepError as error:  # such as a full disk; the launch continues with small segments
                    self.problem = error
                    self._ended.set()
                    return

    def end(self) -> None:
        """Stop the thread after its current merge."""
        self._ended.set()
        self._wake.set()
        if self.is_alive():
            self.join()
