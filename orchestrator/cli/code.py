"""The code and the environment recorded for a cell. They are printed, compared, or loaded to run again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.orchestrator.cli.changes import text_diff, used_by
from raysweep.orchestrator.cli.terminal.output import fail, print_json, say
from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.text import at_store

if TYPE_CHECKING:
    from raysweep.orchestrator.code.source import Source
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.sweeps import RecordedSweep
    from raysweep.orchestrator.sweep.loading.workload import Workload


def last_row(store: Store, cell_id: str) -> dict[str, Any] | None:
    """Return the row of a cell's done attempt, otherwise that of its last ended attempt.

    None if no attempt has ended.
    """
    import polars as pl

    is_cell = pl.col("cell_id") == cell_id
    done = store.collect(lambda: store.cells.filter(is_cell)).to_dicts()
    attempts = store.collect(lambda: store.attempts.filter(is_cell).sort("attempt")).to_dicts()
    return done[0] if done else attempts[-1] if attempts else None


def workload_as_recorded(store: Store, cell_id: str, entry: RecordedSweep, folder: Path, *, trust: bool) -> Workload:
    """Load a cell's workload from the source that the store recorded with its last attempt.

    Args:
        store: the store.
        cell_id: the cell's id.
        entry: the sweep that requested the cell.
        folder: a new private folder, to which the source is unpacked.
        trust: load the source even if another user, or another machine, recorded it.

    Raises:
        InputError: the source was not recorded, cannot be loaded, or is not trusted.
    """
    from raysweep.orchestrator.launch.as_recorded import recorded_workload

    digest, source, own = source_of_row(store, last_row(store, cell_id))
    if not trust and not (own and entry.own):
        fail(
            f"store {store.storage}: this code was not recorded by this user on this machine: read it "
            f"(`raysweep show {cell_id[:8]} --source`), and add --trust-store if you trust the store's author"
        )
    return recorded_workload(source, digest, entry, folder)


def source_of_row(store: Store, row: Mapping[str, Any] | None) -> tuple[str, Source, bool]:
    """Return the source digest of a row, its source, and whether this user on this machine recorded the source.

    Raises:
        InputError: `row` is None or has no source digest, or the store does not hold the source.
    """
    from raysweep.orchestrator.store.documents import read_source

    digest = None if row is None else row["source_digest"]
    if digest is None:
        fail("no attempt of this cell has ended with its code recorded")
    records = read_source(store.storage, digest, store.skip)
    if records is None:
        fail(f"the store has no source of this cell's code, {digest}: rows of earlier versions of raysweep have none")
    return digest, *records


def environment_of_row(store: Store, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded environment of a row.

    If the row has none, as in earlier versions of raysweep, the result has the single key `imported`: the versions of
    the packages that the cell imported.
    """
    from raysweep.orchestrator.run.environment import KEY
    from raysweep.orchestrator.store.documents import ENVIRONMENTS, read

    packages = json.loads(row["packages"] or "{}")
    records = read(store.storage, ENVIRONMENTS, digest, json.loads, store.skip) if (digest := packages.get(KEY)) else []
    return dict(records[0][0]) if records else {"imported": packages}


def show_code(
    store: Store, key: Mapping[str, Any], row: Mapping[str, Any] | None, *, whole: bool, as_json: bool
) -> None:
    """Print the source recorded with a cell's row. With `whole`, first print the command and the environment.

    Args:
        store: the store.
        key: the cell, as `one_cell` returns it.
        row: the cell's row, as `last_row` returns it.
        whole: whether to print the command and the environment, too.
        as_json: whether to print a JSON document instead of text.

    Raises:
        InputError: `row` is None or has no source digest, or the store does not hold the source.
    """
    _, source, _ = source_of_row(store, row)
    if row is None:
        return
    files = {file.path: file.text() for file in (*source.files, *source.inputs)}
    command, environment = _command(store, row["epoch"]), environment_of_row(store, row)
    label, again = _debug_command(key["cell_id"], row, source, at_store(store.storage.location))
    if as_json:
        more = {"command": command, "this_cell": again, "environment": environment} if whole else {}
        print_json({"cell_id": key["cell_id"], **more, "workload": source.workload, "source": files})
        return
    if whole:
        say(f"# command: {command}\n# {label}{again or ''}")
        say(f"# code: {source.workload} version {source.version}, source {row['source_digest']}")
        if row["git_commit"]:
            say(f"# commit: {row['git_commit']}{' with changes' if row['git_dirty'] else ''}")
        for name, value in environment.items():
            if isinstance(value, dict):
                say(f"# {name}:")
                sign = " @ " if name == "from" else "=="
                say("\n".join(f"{package}{sign}{version}" for package, version in value.items()))
            else:
                say(f"# {name}: {', '.join(value) or 'none' if isinstance(value, list) else value}")
    for path, text in files.items():
        say(f"# file: {path}\n{text}")


def _debug_command(cell_id: str, row: Mapping[str, Any], source: Source, at: str) -> tuple[str, str | None]:
    """Return the command that runs only this cell again, preceded by a label to print: (label, command).

    The command is None if a notebook defines the workload's function.
    """
    from raysweep.orchestrator.sweep.loading.main_module import MAIN

    command = f"raysweep debug {cell_id[:8]}"
    if source.module != MAIN:
        return "only this cell, with this code: ", f"{command} --as-recorded{at}"
    if str(row["source_path"]).endswith(".py"):
        return "only this cell, with the program as it is now: ", f"{command}{at}"
    return "only this cell: call the function in its notebook; the code follows", None


def _command(store: Store, epoch: int) -> str:
    from raysweep.orchestrator.store.lease import read_note

    try:
        return str(read_note(store.storage, epoch).fields.get("command", "unknown"))
    except StoreDamaged as error:
        store.skip(f"_epochs/{epoch:08d}.json", error)
        return "unknown"


def cells_differ(store: Store, keys: Sequence[Mapping[str, Any]], *, as_json: bool) -> bool:
    """Print how two cells differ in settings, metrics, environment and code; return whether they differ."""
    from raysweep.orchestrator.code.meaning import differences

    rows = [last_row(store, key["cell_id"]) for key in keys]
    records = [source_of_row(store, row) for row in rows]
    settings = [{**{n: key[n] for n in _SETTINGS}, **json.loads(key["config"])} for key in keys]
    metrics = [{m["name"]: m["value"] for m in (row or {}).get("metrics") or []} for row in rows]
    environments = [_flat(environment_of_row(store, row or {})) for row in rows]
    sections = {"settings": _unequal(*settings), "metrics": _unequal(*metrics), "environment": _unequal(*environments)}
    same_code = records[0][0] == records[1][0]
    code = [] if same_code else differences(records[0][1], records[1][1])
    if as_json:
        print_json({**sections, "same_source": same_code, "code": [d._asdict() for d in code]})
        return any(sections.values()) or bool(code)
    for title, items in sections.items():
        for name, (one, other) in items.items():
            say(f"{title}: {name}: {one} | {other}")
    if not same_code:
        say("code: other files, the same meaning" if not code else "code:")
    for difference in code:
        say(f"  {difference.file}: {difference.what}{used_by(difference)}")
        for line in text_diff(difference):
            say(f"    {line}")
    differ = any(sections.values()) or bool(code)
    if not differ and same_code:
        say("the cells are the same")
    return differ


_SETTINGS = ("experiment", "workload", "workload_version", "method", "k", "seed")


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*one, *other])
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten an environment to one level: each installed package becomes an entry. Other dicts are left out."""
    flat: dict[str, Any] = {}
    for name, value in environment.items():
        flat.update(value if isinstance(value, dict) and name == "installed" else {})
        if not isinstance(value, dict):
            flat[name] = value
    return flat
