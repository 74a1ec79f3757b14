"""Random damage to files of any kind in a store, and what every reader answers then.

    python -m tests.faults.damage --damages N --seed S [--store s3]

For each damage a file of a small but complete store (`tests.faults.damaged_store`) is changed: a flipped bit, a zeroed
block, a cut, appended bytes, two files exchanged, an old version of the store's file, no bytes. Then commands and the
Python API read the store. Each answer must be that of the undamaged store, or an error with exit code 2 that names the
file. Some stores are repaired, checked and launched last: all cells must then have their results again. Prints the
counts by kind of damage, of file and of reader; exits with 1 after a wrong answer, a traceback, or the death of the
reading process, which is a child.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from raysweep.orchestrator.errors import InputError, StoreDamaged
from raysweep.orchestrator.store import artifacts, documents, lease
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import TABLES
from tests.command_line import in_this_process
from tests.faults.damaged_store import DamagedStore
from tests.object_store import BUCKET, Server, variables

CHECKED = (*TABLES, *documents.FOLDERS, "_sweeps", "files", "_live", "_epochs json")
"""Kinds of files whose damage `store check` must report. It need not read marks, heartbeats and checkpoints."""
WEIGHTS = {
    "cells": 4, "attempts": 4, "arrays": 4, "_epochs json": 2, "_epochs released": 0.5, "_epochs sealed": 0.5,
    "_lock": 0.1,
}  # fmt: skip
"""Kind of file -> how often it is damaged; others: 2."""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("query", "SELECT * FROM cells ORDER BY cell_id", "--json"),
    ("query", "SELECT * FROM attempts ORDER BY cell_id, attempt", "--json"),
    ("query", "SELECT * FROM arrays ORDER BY ALL", "--json"),
    ("query", "SELECT * FROM logs ORDER BY ALL", "--json"),
    ("query", "SELECT * FROM live ORDER BY ALL", "--json"),
    ("status", "--json"),
    ("failures", "--json"),
    ("show", "ID", "--json"),
    ("logs", "PRINTED"),
    ("export", "-o", "out.csv"),
    ("report", "-o", "out.html"),
    ("artifacts", "ls", "--json"),
    ("artifacts", "get", "--to", "out"),
    ("store", "check", "--json"),
    ("plan", "more.toml", "--json"),
    ("launch", "more.toml", "--inline"),
    ("store", "repair", "--yes", "--json"),
)
INTERRUPTED = "a compaction was interrupted"
"""What `store check` reports of an old version of a file that a merge has replaced. The next launch removes it."""
WRITING = ("launch", "store repair")
"""Commands that change the store, which therefore come last."""


class Result(NamedTuple):
    """Outcome of a reader: exit code, what it printed and wrote, and its errors."""

    code: int
    answer: str
    errors: str


class Case(DamagedStore):
    """A store to damage, and the answers of all readers while it is undamaged."""

    def __init__(self, folder: Path, place: str) -> None:
        super().__init__(folder, place)
        first = "SELECT cell_id FROM cells WHERE method = '{}' ORDER BY ALL"
        methods = {"ID": "failing", "PRINTED": "files"}
        self.cells = {word: Store(place).sql(first.format(method)).item(0, 0) for word, method in methods.items()}
        self.kinds: dict[str, list[str]] = {}
        for path in sorted(self.files):
            self.kinds.setdefault(file_kind(path), []).append(path)
        self.truth: dict[tuple[str, ...], Result] = {}
        for words in ((), *COMMANDS):
            self.truth[words] = self.outcome(words)
            if " ".join(words).startswith(WRITING):
                self.reset()

    def outcome(self, words: Sequence[str]) -> Result:
        """What a command answers; without words, what the Python API does."""
        if not words:
            return self._of_the_api()
        result = self._command(words)
        if words[:2] != ("store", "repair") or result.code:
            return result
        check = self._command(("store", "check", "--json"))
        problems = [line for line in json.loads(check.answer)["problems"] if INTERRUPTED not in line]
        launched = self._command(("launch", "more.toml", "--inline"))
        answer = json.dumps([problems, launched.answer.rpartition("\n")[2]])
        return Result(launched.code, answer, "".join(part.errors for part in (result, check, launched)))

    def _command(self, words: Sequence[str]) -> Result:
        store = [] if self.place == "results" else ["--store", self.place]
        for name in ("out.csv", "out.html"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        words = [self.cells.get(word, word) for word in words]
        ended = in_this_process([*words, *store], self.folder, timeout=900)
        answer = ended.stdout
        written = [self.folder / "out.csv", self.folder / "out.html", *sorted((self.folder / "out").rglob("*.*"))]
        answer += "".join(path.read_text(encoding="utf-8") for path in written if path.is_file())
        if words[0] == "launch":
            answer = re.sub(r"[0-9.]+ (s|min)\b", "", answer)
            if ended.returncode in (0, 1):
                with contextlib.suppress(StoreDamaged):  # a file that the launch does not read
                    rows = Store(self.place).sql("SELECT method, seed, status, x, best FROM cells ORDER BY ALL")
                    answer += "\n" + rows.write_json()
        elif words[0] == "report":
            answer = re.sub(r"<p>[^<]* · raysweep|[0-9.]+ MiB", "", answer)
        return Result(ended.returncode, answer, ended.stderr)

    def _of_the_api(self) -> Result:
        try:
            store = Store(self.place)
            tables = [store.scan(folder).collect().sort("cell_id", "attempt").write_json() for folder in TABLES]
            summary = store.summary().sort("cell_id").write_json()
            known = store.known().wide().drop("source_digest").sort("cell_id").write_json()
            texts = [documents.read(store.storage, folder, None, bytes) for folder in documents.FOLDERS]
            files = store.artifacts()
            contents = [artifacts.read_content(store.storage, row) for row in files.iter_rows(named=True)]
            parts = (
                *tables,
                summary,
                known,
                str(files),
                repr(contents),
                repr(texts),
                repr(store.live()),
                repr(store.owner()),
            )
            return Result(0, "\n".join(parts), "")
        except (InputError, StoreDamaged) as error:
            return Result(2, "", str(error))

    def damage(self, chance: random.Random) -> tuple[str, dict[str, bytes]]:
        """Damage the store; return the kind, and the new contents of the files that are now others."""
        kind, change = chance.choice(list(KINDS.items()))
        path = self._choose(chance)
        if kind == "exchanged":
            same = [other for other in self.kinds[file_kind(path)] if other != path]
            other = chance.choice(same) if same and chance.random() < 0.5 else self._choose(chance)
            changed = {path: self.files[other], other: self.files[path]}
        elif kind == "old version":
            older = {path: data for path, data in self.old.items() if self.files.get(path) != data}
            path = chance.choice(sorted(older))
            changed = {path: older[path]}
        else:
            data = bytearray(self.files[path])
            change(data, chance)
            changed = {path: bytes(data)}
        changed = {path: data for path, data in changed.items() if self.files.get(path) != data}
        self.write(changed)
        return kind, changed

    def _choose(self, chance: random.Random) -> str:
        (kind,) = chance.choices(list(self.kinds), [WEIGHTS.get(kind, 2) for kind in self.kinds])
        return chance.choice(self.kinds[kind])

    def verdict(self, words: tuple[str, ...], paths: Sequence[str]) -> str:
        """Run a reader on the damaged store: `same`, `named`, or in words what is wrong."""
        result, truth = self.outcome(words), self.truth[words]
        named = any(path.rpartition("/")[2] in result.errors + result.answer for path in paths)
        is_checked = any(file_kind(path) in CHECKED for path in paths)
        if "Traceback" in result.errors:
            return f"traceback: {result.errors[-2000:]}"
        if words[:2] == ("store", "check"):
            if result.code in (1, 2) and (named or INTERRUPTED in result.answer):
                return "named"
            if is_checked:
                return f"not reported: exit code {result.code}: {result.answer[-500:]} {result.errors[-500:]}"
        if (result.code, result.answer) == (truth.code, truth.answer):
            return "same"
        if result.code == 2 and named and words[:2] != ("store", "repair"):
            return "named"
        if words[:1] == ("launch",) and result.code == truth.code and truth.answer.startswith(result.answer):
            return "same"
        return f"wrong: exit code {result.code}: {result.answer[-500:]} {result.errors[-500:]}"


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _zero(data: bytearray, chance: random.Random) -> None:
    if data:
        start, length = chance.randrange(len(data)), chance.choice([16, 128, 512, 4096])
        data[start : start + length] = bytes(len(data[start : start + length]))


def _cut(data: bytearray, chance: random.Random) -> None:
    if data:
        del data[chance.randrange(len(data)) :]


def _append(data: bytearray, chance: random.Random) -> None:
    data += chance.choice([bytes(chance.choice([1, 8, 512])), chance.randbytes(64), bytes(data[-100:])])


def _empty(data: bytearray, chance: random.Random) -> None:
    data.clear()


def _several(data: bytearray, chance: random.Random) -> None:
    """Replaced by `Case.damage`, which needs more than one file."""


KINDS: dict[str, Callable[[bytearray, random.Random], None]] = {
    "bit flipped": _flip, "block zeroed": _zero, "cut": _cut, "bytes appended": _append, "emptied": _empty,
    "exchanged": _several, "old version": _several,
}  # fmt: skip


def file_kind(path: str) -> str:
    """The kind of a file: its folder, or its name."""
    first = path.partition("/")[0]
    return f"{first} {path.rpartition('.')[2]}" if first == "_epochs" else first


def one(case: Case, seed: int, number: int, commands: int) -> Iterator[tuple[str, str, str, str]]:
    """Damage a store once and read it; yield kind of damage, damaged files, reader and verdict."""
    chance = random.Random(f"{seed}:{number}")
    kind, changed = case.damage(chance)
    paths = sorted(changed)
    print(json.dumps(["begin", number, kind, paths]), flush=True)
    readers: list[tuple[str, ...]] = [(), *chance.sample(COMMANDS, commands)]
    writing = [words for words in readers if " ".join(words).startswith(WRITING)]
    for words in [*(words for words in readers if words not in writing), *writing[:1]]:
        yield kind, ", ".join(paths), " ".join(words[:2]) or "Store", case.verdict(words, paths)
    case.reset(None if writing else changed)


def work(folder: Path, place: str, seed: int, numbers: range, commands: int) -> None:
    """The child process: print a line of JSON per outcome."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # the machine does not die here
    lease.DEAD_AFTER_S, lease.BEAT_S = 0.4, 0.2  # whose note is damaged is judged by its heartbeat
    case = Case(folder, place)
    for number in numbers:
        for outcome in one(case, seed, number, commands):
            print(json.dumps(["outcome", *outcome]), flush=True)
    case.reset()
    for words in ((), *COMMANDS[:5]):
        assert case.outcome(words) == case.truth[words], "the store was not put back"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="Number of the first damage.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--commands", type=int, default=2, help=f"Commands per damage, of {len(COMMANDS)}, drawn at random."
    )
    parser.add_argument("--store", choices=["folder", "s3"], default="folder")
    parser.add_argument("--child", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        place = "results" if options.store == "folder" else f"s3://{BUCKET}/{os.path.basename(options.child)}"
        os.chdir(options.child)
        numbers = range(options.first, options.damages)
        work(Path(options.child), place, options.seed, numbers, options.commands)
        return
    print(f"seed {options.seed}, damages {options.first} to {options.damages - 1}, store: {options.store}", flush=True)
    by_kind: Counter[str] = Counter()
    by_file: Counter[str] = Counter()
    readers: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    bad: list[str] = []
    server = Server() if options.store == "s3" else None
    environment = {**os.environ, **(variables(server.endpoint) if server else {})}
    number, first = options.first, ["begin", options.first, "", []]
    try:
        while number < options.damages:
            with tempfile.TemporaryDirectory() as folder:
                child = subprocess.Popen(
                    [
                        sys.executable, "-m", "tests.faults.damage", "--child", folder, "--first", str(number),
                        *("--damages", str(options.damages), "--seed", str(options.seed)),
                        *("--commands", str(options.commands), "--store", options.store),
                    ],
                    stdout=subprocess.PIPE, text=True, env=environment,
                )  # fmt: skip
                assert child.stdout is not None
                for line in child.stdout:
                    entry = json.loads(line)
                    if entry[0] == "begin":
                        first = entry
                        by_kind[entry[2]] += 1
                        by_file[file_kind(entry[3][0]) if entry[3] else "none (no byte changed)"] += 1
                        continue
                    verdict = entry[4]
                    readers[entry[3]] += 1
                    verdicts[verdict.partition(":")[0]] += 1
                    if verdict not in {"same", "named"}:
                        bad.append(f"damage {first[1]}: {entry[1]}: {entry[2]}: {entry[3]}: {verdict}")
                        print(bad[-1], flush=True)
                    elif first[1] % 100 == 0 and entry[3] == "Store":
                        print(f"{first[1]} damages, {len(bad)} defects", flush=True)
                if child.wait() == 0:
                    break
                if child.returncode == 1:
                    raise SystemExit("this program has failed")
                verdicts["abort"] += 1
                bad.append(f"damage {first[1]}: {first[2]}: {first[3]}: the process ended with {child.returncode}")
                print(bad[-1], flush=True)
                number = first[1] + 1
    finally:
        if server:
            server.close()
    for title, counts in (("damages", by_kind), ("files", by_file), ("readers", readers), ("outcomes", verdicts)):
        print(f"{title}: {sum(counts.values())}: " + ", ".join(f"{name} {n}" for name, n in counts.most_common()))
    print(f"{len(bad)} defects")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
