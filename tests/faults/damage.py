"""Random damage to files of any kind in a store, and what every reader answers then.

    python -m tests.faults.damage --damages N --seed S [--store s3]

For each damage a file of a small but complete store (several launches, a merge, arrays, failed attempts, checkpoints,
requests, a killed owner) is changed: a flipped bit, a zeroed block, a cut, appended bytes, two files exchanged, an old
version of the store's file, no bytes. Then commands and the Python API read the store. Each answer must be that of the
undamaged store, or an error with exit code 2 that names the file. Prints the counts by kind of damage and of file;
exits with 1 after a wrong answer, a traceback, or the death of the reading process, which is a child.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.schedule import driver
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.spec import Sweep
from tests.command_line import forget_users, in_this_process
from tests.object_store import BUCKET, Server, variables
from tests.orchestrator.store.owners import let_go

CELLS = """
    def run(cell, context):
        if cell.method == "failing":
            context.checkpoint.save(b"step 1 of seed %d" % cell.seed)
            raise ValueError(f"always, with seed {cell.seed}")
        if cell.method == "curve":
            context.array("loss", [1.0 / (1 + step + cell.seed) for step in range(30)])
        return {"x": cell.seed * 0.5, "y": -1.0 * cell.seed}
"""
SWEEP = """
    name = "damage"
    workload = "damage_cells:run"
    seeds = "0..{last}"
    [resources]
    retries = 0
    [[grid]]
    method = ["plain", "curve", "failing"]
"""
FOLDERS = ("cells", "attempts", "arrays", "_sweeps", "_epochs", "_hb")
DATA = ("cells", "attempts", "arrays", "_sweeps")
"""Folders whose damage `store check` must report. Marks of generations and heartbeats are only looked at if needed."""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("query", "SELECT * FROM cells ORDER BY cell_id", "--json"),
    ("query", "SELECT * FROM attempts ORDER BY cell_id, attempt", "--json"),
    ("query", "SELECT * FROM arrays ORDER BY ALL", "--json"),
    ("status", "--json"),
    ("failures", "--json"),
    ("show", "ID", "--json"),
    ("export", "-o", "out.csv"),
    ("report", "-o", "out.html"),
    ("store", "check", "--json"),
    ("plan", "more.toml", "--json"),
    ("launch", "more.toml", "--inline"),
)


class Result(NamedTuple):
    """Outcome of a reader: exit code, what it printed, and its errors."""

    code: int
    answer: str
    errors: str


class Case:
    """A store to damage, in a folder of its own.

    Args:
        folder: an empty folder.
        place: the store: a folder in it, or an address.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place
        (folder / "damage_cells.py").write_text(textwrap.dedent(CELLS))
        (folder / "more.toml").write_text(textwrap.dedent(SWEEP).format(last=5))
        with _few_at_once():
            self._launch(1)
            self.storage: Storage = Store(place).storage
            self.old = dict(self._files())
            self._launch(2)
            with StoreWriter(Store(place)) as owner:
                owner.compact()
            self._launch(4)
        killed = StoreWriter(Store(place))
        killed._closed.set()
        killed._heart.join()
        let_go(killed)
        forget_users()
        self.files = dict(self._files())
        self.cell = Store(place).sql("SELECT cell_id FROM cells WHERE method = 'failing' ORDER BY ALL").item(0, 0)
        self.truth = {words: self.outcome(words) for words in ((), *COMMANDS)}
        self.reset()

    def _launch(self, last: int) -> None:
        path = self.folder / "damage.toml"
        path.write_text(textwrap.dedent(SWEEP).format(last=last))
        launcher.launch(Sweep.load(path), self.place, inline=True)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Path and content of each file of the store."""
        storage = self.storage
        cells = [f"checkpoints/{name}" for name in storage.names("checkpoints")]
        paths = [f"{folder}/{name}" for folder in (*FOLDERS, *cells) for name in storage.names(folder)]
        for path in [*paths, *(name for name in ("store.json", "_lock") if name in storage.names(""))]:
            data = storage.read(path)
            assert data is not None
            yield path, data

    def reset(self) -> None:
        """Put back the undamaged store."""
        now = dict(self._files())
        for path in now.keys() - self.files.keys():
            self.storage.delete(path)
        for path, data in self.files.items():
            if now.get(path) != data:
                self.storage.replace(path, data)

    def outcome(self, words: Sequence[str]) -> Result:
        """What a command answers; without words, what the Python API does."""
        if not words:
            return self._of_the_api()
        store = [] if self.place == "results" else ["--store", self.place]
        for name in ("out.csv", "out.html"):
            (self.folder / name).unlink(missing_ok=True)
        words = [self.cell[:12] if word == "ID" else word for word in words]
        ended = in_this_process([*words, *store], self.folder, timeout=900)
        answer = ended.stdout
        for name in ("out.csv", "out.html"):
            if (self.folder / name).exists():
                answer += (self.folder / name).read_text(encoding="utf-8")
        if words[0] == "launch":
            answer = re.sub(r"[0-9.]+ (s|min)\b", "", answer)
            if ended.returncode in (0, 1):
                with contextlib.suppress(StoreDamaged):  # a file that the launch does not read
                    answer += (
                        Store(self.place).sql("SELECT method, seed, status, x FROM cells ORDER BY ALL").write_json()
                    )
        elif words[0] == "report":
            answer = re.sub(r"<p>[^<]* · raysweep|[0-9.]+ MiB", "", answer)
        return Result(ended.returncode, answer, ended.stderr)

    def _of_the_api(self) -> Result:
        try:
            store = Store(self.place)
            tables = [store.scan(folder).collect().sort("cell_id", "attempt").write_json() for folder in DATA[:3]]
            summary = store.summary().sort("cell_id").write_json()
            known = store.known().wide().drop("source_digest").sort("cell_id").write_json()
            return Result(0, "\n".join([*tables, summary, known, str(store.owner())]), "")
        except StoreDamaged as error:
            return Result(2, "", str(error))

    def damage(self, chance: random.Random) -> tuple[str, list[str]]:
        """Damage the store; return the kind and the paths whose content is now another one."""
        kind, change = chance.choice(list(KINDS.items()))
        path = chance.choice(sorted(self.files))
        changed = {}
        if kind == "exchanged":
            other = chance.choice(sorted(self.files.keys() - {path}))
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
        for path, data in changed.items():
            self.storage.replace(path, data)
        return kind, sorted(changed)

    def verdict(self, words: tuple[str, ...], paths: Sequence[str]) -> str:
        """Run a reader on the damaged store: `same`, `named`, or in words what is wrong."""
        result, truth = self.outcome(words), self.truth[words]
        named = any(path.rpartition("/")[2] in result.errors + result.answer for path in paths)
        if "Traceback" in result.errors:
            return f"traceback: {result.errors[-2000:]}"
        if words[:2] == ("store", "check"):
            if result.code == 1 and (named or "a compaction was interrupted" in result.answer):
                return "named"
            if any(path.partition("/")[0] in DATA for path in paths):
                return f"not reported: exit code {result.code}: {result.answer[-500:]} {result.errors[-500:]}"
        if (result.code, result.answer) == (truth.code, truth.answer):
            return "same"
        if result.code == 2 and named:
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


@contextlib.contextmanager
def _few_at_once() -> Iterator[None]:
    """Commit a few cells at a time, so that a small store has many segments."""
    before = launcher.FLUSH_OUTCOMES, driver.CHUNK_CELLS
    launcher.FLUSH_OUTCOMES = driver.CHUNK_CELLS = 3
    try:
        yield
    finally:
        launcher.FLUSH_OUTCOMES, driver.CHUNK_CELLS = before


def file_kind(paths: Sequence[str]) -> str:
    """The kind of the first damaged file: its folder, or its name."""
    first = paths[0].partition("/")[0] if paths else "none (no byte changed)"
    return f"{first} {paths[0].rpartition('.')[2]}" if first == "_epochs" else first


def one(case: Case, seed: int, number: int, commands: int) -> Iterator[tuple[str, str, str, str]]:
    """Damage a store once and read it; yield kind of damage, damaged files, reader and verdict."""
    chance = random.Random(f"{seed}:{number}")
    kind, paths = case.damage(chance)
    print(json.dumps(["begin", number, kind, paths]), flush=True)
    readers: list[tuple[str, ...]] = [(), *chance.sample(COMMANDS, commands)]
    for words in sorted(readers, key=lambda words: words[:1] == ("launch",)):  # last, as it changes the store
        yield kind, ", ".join(paths), " ".join(words[:2]) or "Store", case.verdict(words, paths)
    case.reset()


def work(folder: Path, place: str, seed: int, numbers: range, commands: int) -> None:
    """The child process: print a line of JSON per outcome."""
    case = Case(folder, place)
    for number in numbers:
        for outcome in one(case, seed, number, commands):
            print(json.dumps(["outcome", *outcome]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="Number of the first damage.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=3, help="Commands per damage, of 11, drawn at random.")
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
                        by_file[file_kind(entry[3])] += 1
                        continue
                    verdict = entry[4]
                    verdicts[verdict.partition(":")[0]] += 1
                    if verdict not in {"same", "named"}:
                        bad.append(f"damage {first[1]}: {entry[1]}: {entry[2]}: {entry[3]}: {verdict}")
                        print(bad[-1], flush=True)
                if child.wait() == 0:
                    break
                verdicts["abort"] += 1
                bad.append(f"damage {first[1]}: {first[2]}: {first[3]}: the process ended with {child.returncode}")
                print(bad[-1], flush=True)
                number = first[1] + 1
    finally:
        if server:
            server.close()
    for title, counts in (("damages", by_kind), ("files", by_file), ("outcomes", verdicts)):
        print(f"{title}: {sum(counts.values())}: " + ", ".join(f"{name} {n}" for name, n in counts.most_common()))
    print(f"{len(bad)} defects")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
