"""The SQL prompt of `query`: completion of tables and columns, history, saved queries.

It has a file of its own because prompt_toolkit is slow to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from raysweep.orchestrator.cli.terminal import saved
from raysweep.orchestrator.cli.terminal.output import complain, print_frame, say
from raysweep.orchestrator.errors import InputError, RaysweepError
from raysweep.orchestrator.query.catalog import columns

if TYPE_CHECKING:
    from raysweep.orchestrator.store.reader import Store

SQL_WORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "AND", "OR", "NOT", "IS NULL", "AS", "JOIN", "USING",
    "HAVING", "DISTINCT", "DESC", "count(*)", "avg(", "stddev(", "min(", "max(", "median(", "quantile_cont(",
)  # fmt: skip
HELP = "SQL, or: describe [TABLE], save NAME (the last query), saved (list), NAME (run it), help, quit (Ctrl-D)"


class SqlCompleter(Completer):
    """Completes the word at the cursor: first columns and tables, then SQL keywords."""

    def __init__(self, names: dict[str, list[str]]) -> None:  # table -> its columns
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield completions of the word at the cursor. After FROM and JOIN these are only tables."""
        before = document.text_before_cursor
        word = re.search(r'"?[\w.]*$', before)
        typed = word[0] if word else ""
        bare = typed.strip('"').rpartition(".")[2].lower()
        if re.search(rf"\b(from|join)\s+{re.escape(typed)}$", before, re.IGNORECASE):
            candidates: Iterable[str] = self._names
        else:
            columns = dict.fromkeys(name for table in self._names.values() for name in table)
            candidates = (*columns, *self._names, *SQL_WORDS)
        for candidate in candidates:
            if candidate.strip('"').lower().startswith(bare) and (bare or candidates is self._names):
                yield Completion(candidate, start_position=-len(typed.rpartition(".")[2]))


def run(store: Store) -> None:
    """Run the SQL prompt until Ctrl-D. Each query reads the store again, so it sees new rows of a running launch."""
    described = columns(store)
    names: dict[str, list[str]] = {}
    for table, column in described.select("table", "column").iter_rows():
        names.setdefault(table, []).append(column)
    home = saved.home()
    home.mkdir(parents=True, exist_ok=True)
    session: PromptSession[str] = PromptSession(
        "sql> ", completer=SqlCompleter(names), history=FileHistory(str(home / "history")),
        auto_suggest=AutoSuggestFromHistory(), lexer=PygmentsLexer(SqlLexer), complete_while_typing=True,
    )  # fmt: skip
    say(HELP)
    last = ""
    while True:
        try:
            text = session.prompt().strip().rstrip(";").strip()
        except KeyboardInterrupt:
            continue  # as in a shell, Ctrl-C discards only the line
        except EOFError:
            return
        if text.lower() in {"quit", "exit", "\\q", ".quit"}:
            return
        try:
            last = _answer(store, text, last)
        except RaysweepError as error:
            complain(error.problems)


def _answer(store: Store, text: str, last: str) -> str:
    """Execute one line of the prompt, and return the last SQL query that succeeded.

    `last` is the last query that succeeded before this line; `save NAME` saves it.
    """
    import polars as pl

    word, _, rest = text.partition(" ")
    if not text:
        return last
    if word.lower() == "help" and not rest:
        say(HELP)
    elif word.lower() == "describe" and " " not in rest:
        described = columns(store)
        print_frame(described.filter(pl.col("table") == rest) if rest else described)
    elif word.lower() == "saved" and not rest:
        print_frame(saved.listed())
    elif word.lower() == "save" and rest and " " not in rest:
        if not last:
            raise InputError("save: no query has succeeded yet")
        say(f"saved as {rest!r}: {saved.keep(rest, last)}")
    else:
        sql = saved.resolve(text)
        print_frame(store.sql(sql))
        return sql
    return last
