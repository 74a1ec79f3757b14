"""The command `logs`: a cell's output, while it runs or afterwards."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.cells import CellId, one_cell
from raysweep.orchestrator.cli.options import StoreOption
from raysweep.orchestrator.cli.terminal.output import fail, warn
from raysweep.orchestrator.text import at_store, join_first, printable

if TYPE_CHECKING:
    from raysweep.orchestrator.store.reader import Store

FOLLOW_S = 0.5
MAX_ATTEMPTS = 10  # listed in a message


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
    printer, is_waiting = _Printer(), False
    while True:
        launching, running = _running(opened, cell_id)  # read first: an attempt that ends meanwhile is on record then
        ended = _ended(opened, cell_id)
        number = attempt or _latest(opened, cell_id, ended, running)
        recorded = None if number is None else _recorded(opened, cell_id, number)
        if recorded is not None:
            status, text = recorded
            printer.finish(text)
            if follow:
                warn([f"attempt {number} has ended: {status}"])
            elif not text:
                warn([f"attempt {number} ({status}) printed nothing"])
            return
        has_printed = number is not None and _print_live(opened, cell_id, number, printer)
        if not has_printed and attempt is not None and not (running and attempt == max(ended, default=0) + 1):
            known = f"its attempts: {join_first(ended, MAX_ATTEMPTS)}" if ended else "none has ended"
            fail(f"--attempt {attempt}: cell {cell_id[:8]} has no such attempt; {known}")
        if not has_printed and not running and not (follow and launching):
            later = f"; `raysweep logs {cell_id[:8]} -f{at_store(store)}` waits for it" if launching else ""
            fail(f"cell {cell_id[:8]}: has not run yet{later}")
        if follow and launching:
            if not has_printed and not is_waiting:
                is_waiting = True
                warn(["the cell has printed nothing yet" if running else "the cell waits for its turn"])
            time.sleep(FOLLOW_S)
            continue
        printer.finish(None)
        if not has_printed:
            warn(["the cell runs, and has printed nothing yet"])
        elif not running:
            again = f"`raysweep resume{at_store(store)}` runs the cell again"
            warn([f"attempt {number} was cut off with its launch; {again}"])
        return


def _ended(store: Store, cell_id: str) -> list[int]:
    """Return the numbers of the cell's attempts that have ended."""
    import polars as pl

    of_cell = store.attempts.filter(pl.col("cell_id") == cell_id).select("attempt")
    return sorted(store.collect(lambda: of_cell)["attempt"].to_list())


def _latest(store: Store, cell_id: str, ended: list[int], running: bool) -> int | None:
    """Return the number of the attempt to print.

    This is the newest attempt with a live state, which the worker publishes in the store while the cell runs. If
    there is none and the cell is not running, it is the last ended attempt. None if there is no such attempt.

    Args:
        store: the store.
        cell_id: the cell's id.
        ended: the numbers of the cell's attempts that have ended.
        running: whether the cell is running.
    """
    numbers = [state.attempt for state in store.live() if state.cell_id == cell_id]
    return max(numbers, default=None if running else max(ended, default=None))


def _running(store: Store, cell_id: str) -> tuple[bool, bool]:
    """Return (whether a launch is running, whether the cell is running in it)."""
    from raysweep.orchestrator.store.lease import current_owner

    owner = current_owner(store.storage)
    is_live = owner is not None and any(state.cell_id == cell_id for state in store.live())
    return owner is not None, owner is not None and (is_live or cell_id in owner.running)


def _recorded(store: Store, cell_id: str, attempt: int) -> tuple[str, str] | None:
    """Return the status and output of an attempt that has ended; None if the store has no such attempt."""
    import polars as pl

    of_attempt = (pl.col("cell_id") == cell_id) & (pl.col("attempt") == attempt)
    rows = store.collect(lambda: store.attempts.filter(of_attempt).select("status", "log_tail")).rows()
    if not rows:
        return None
    texts = store.collect(lambda: store.logs.filter(of_attempt).select("text"))["text"].to_list()
    return rows[0][0], texts[-1] if texts else rows[0][1] or ""


def _print_live(store: Store, cell_id: str, attempt: int, printer: _Printer) -> bool:
    """Print the new part of a running attempt's output; return False if its worker has not published any state yet."""
    from raysweep.orchestrator.store.live import read

    state = read(store.storage, cell_id, attempt)
    if state is not None:
        printer.more(state.size, state.end)
    return state is not None


class _Printer:
    """Prints a cell's output while it grows, without control characters. A line is printed once it has ended."""

    def __init__(self) -> None:
        self._size = 0  # bytes seen
        self._rest = b""  # of them, after the last newline
        self.printed = ""

    def more(self, size: int, end: bytes) -> None:
        """Print the part of the output that is new since the last call.

        Args:
            size: number of bytes that the cell has printed so far.
            end: the last of these bytes; the store does not keep the earlier ones while the cell runs.
        """
        from raysweep.orchestrator.run.output import clean

        new = size - self._size
        if new > len(end):
            self._write(f"... {new - len(end):,} bytes before this are not shown while the cell runs ...\n")
            self._rest, new = b"", len(end)
        lines, newline, self._rest = (self._rest + end[len(end) - new :]).rpartition(b"\n")
        self._size = size
        self._write(clean(lines + newline))

    def finish(self, text: str | None) -> None:
        """Print what remains of the complete output `text`; if `text` is None, only the unfinished last line."""
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
