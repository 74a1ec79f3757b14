"""The command `logs`: a cell's output, while it runs or afterwards."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.cells import CellId, one_cell
from raysweep.orchestrator.cli.options import StoreOption
from raysweep.orchestrator.cli.output import warn
from raysweep.orchestrator.text import printable

if TYPE_CHECKING:
    from raysweep.orchestrator.store.reader import Store

FOLLOW_S = 0.5


def logs(
    cell: CellId,
    store: StoreOption = "results",
    attempt: Annotated[int | None, typer.Option(min=1, help="Number of the attempt. Default: the last one.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until the attempt has ended.")] = False,
) -> None:
    """Print what a cell, its child processes and native code have printed.

    raysweep logs 3f5b

    raysweep logs 3f5b -f
    """
    from raysweep.orchestrator.store.reader import Store

    opened = Store(store).require()
    cell_id = one_cell(opened.known(), cell)["cell_id"]
    printer = _Printer()
    while True:
        number = attempt or _last_attempt(opened, cell_id)
        recorded = None if number is None else _recorded(opened, cell_id, number)
        if recorded is not None:
            status, text = recorded
            printer.finish(text)
            if follow:
                warn([f"attempt {number} has ended: {status}"])
            elif not text:
                warn([f"attempt {number} ({status}) printed nothing"])
            return
        running = _running(opened, cell_id)
        if number is not None:
            _print_live(opened, cell_id, number, printer)
            attempt = number
        if not follow or not running:
            printer.finish(None)
            if number is None or (attempt is not None and not printer.printed):
                warn(["the cell runs, and has printed nothing yet" if running else "the cell has no such attempt"])
            return
        time.sleep(FOLLOW_S)


def _last_attempt(store: Store, cell_id: str) -> int | None:
    """The number of the running attempt if it has printed or logged anything, otherwise of the last one that ended."""
    import polars as pl

    numbers = [state.attempt for state in store.live() if state.cell_id == cell_id]
    if not numbers and not _running(store, cell_id):
        is_cell = pl.col("cell_id") == cell_id
        numbers = store.collect(lambda: store.attempts.filter(is_cell).select("attempt"))["attempt"].to_list()
    return max(numbers, default=None)


def _running(store: Store, cell_id: str) -> bool:
    from raysweep.orchestrator.store.lease import current_owner

    owner = current_owner(store.storage)  # an owner that runs cells in its own process does not tell which
    return owner is not None and (cell_id in owner.running or any(s.cell_id == cell_id for s in store.live()))


def _recorded(store: Store, cell_id: str, attempt: int) -> tuple[str, str] | None:
    """Status and output of an attempt that has ended."""
    import polars as pl

    of_attempt = (pl.col("cell_id") == cell_id) & (pl.col("attempt") == attempt)
    rows = store.collect(lambda: store.attempts.filter(of_attempt).select("status", "log_tail")).rows()
    if not rows:
        return None
    texts = store.collect(lambda: store.logs.filter(of_attempt).select("text"))["text"].to_list()
    return rows[0][0], texts[-1] if texts else rows[0][1] or ""


def _print_live(store: Store, cell_id: str, attempt: int, printer: _Printer) -> None:
    from raysweep.orchestrator.store.live import read

    state = read(store.storage, cell_id, attempt)
    if state is not None:
        printer.more(state.size, state.end)


class _Printer:
    """Prints output as it grows, without control characters; a line that has not ended is held back."""

    def __init__(self) -> None:
        self._size = 0  # bytes seen
        self._rest = b""  # of them, after the last newline
        self.printed = ""

    def more(self, size: int, end: bytes) -> None:
        """Print the new part of an output of `size` bytes that ends with `end`."""
        from raysweep.orchestrator.run.output import clean

        new = size - self._size
        if new > len(end):
            self._write(f"... {new - len(end):,} bytes before this are not shown while the cell runs ...\n")
            self._rest, new = b"", len(end)
        lines, newline, self._rest = (self._rest + end[len(end) - new :]).rpartition(b"\n")
        self._size = size
        self._write(clean(lines + newline))

    def finish(self, text: str | None) -> None:
        """Print what is left of the whole `text`, or, if that is not known, the last line."""
        from raysweep.orchestrator.run.output import clean

        if text is None:
            rest = clean(self._rest)
        elif text.startswith(self.printed):
            rest = text[len(self.printed) :]
        else:  # some of it was not shown, or is cleaned otherwise as a whole
            lines = [line for line in self.printed.splitlines() if line.strip()]
            last = next((line for line in reversed(lines[-20:]) if line in text), None)
            rest = "" if last is None and lines else text if last is None else text.rpartition(last)[2].lstrip("\n")
        self._write(rest if not rest or rest.endswith("\n") else rest + "\n")

    def _write(self, text: str) -> None:
        self.printed += text
        sys.stdout.write(printable(text))
        sys.stdout.flush()
