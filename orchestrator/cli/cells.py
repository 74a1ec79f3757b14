"""The commands on single cells and on failures: `show`, `failures`, `debug`."""

from __future__ import annotations

import atexit
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.orchestrator.cli.data import use_data
from raysweep.orchestrator.cli.options import DataDir, Json, SkipDamaged, StoreOption, TrustStore, Where
from raysweep.orchestrator.cli.terminal.output import fail, finite, print_answer, say, to_json, warn, warn_of_missing
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import at_store, count_cells, join_first

if TYPE_CHECKING:
    from raysweep.orchestrator.run.context import RunContext
    from raysweep.orchestrator.store.checkpoints import CheckpointLocation
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.sweeps import RecordedSweep
    from raysweep.orchestrator.sweep.cells import CellTable
    from raysweep.orchestrator.sweep.loading.workload import Workload

MAX_SEEDS, MAX_IDS, MAX_FILES = 5, 5, 8
"""Maximum numbers of items to print.

`MAX_SEEDS`: seeds of a group of failures. `MAX_IDS`: ids that match an ambiguous CELL_ID. `MAX_FILES`: artifacts of a
cell, or arrays of an attempt.
"""
PROGRESS_S = 5.0
"""Minimum seconds between two printed lines about a cell's progress."""

CellId = Annotated[str, typer.Argument(metavar="CELL_ID", help="A cell id, or the first characters of one.")]


def show(
    cell: CellId,
    store: StoreOption = "results",
    source: Annotated[bool, typer.Option("--source", help="Print the code that made its row, file by file.")] = False,
    reproduce: Annotated[
        bool, typer.Option("--reproduce", help="Print the command, the environment and the code that made its row.")
    ] = False,
    skip_damaged: SkipDamaged = False,
    as_json: Json = False,
) -> None:
    """Show one cell: config, metrics, attempts, traceback.

    raysweep show 3f5b

    raysweep show 3f5b --source
    """
    import polars as pl

    from raysweep.orchestrator.cli.code import last_row, show_code
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.grammar.settings import flattened
    from raysweep.orchestrator.sweep.identity import cell_name

    opened = Store(store, skip_damaged=skip_damaged).require()
    key = one_cell(opened.known(), cell)
    if source or reproduce:
        show_code(opened, key, last_row(opened, key["cell_id"]), whole=reproduce, as_json=as_json)
        return
    is_cell = pl.col("cell_id") == key["cell_id"]
    done = opened.collect(lambda: opened.cells.filter(is_cell)).to_dicts()
    attempts = opened.collect(lambda: opened.attempts.filter(is_cell).sort("attempt")).to_dicts()
    last = done[0] if done else attempts[-1] if attempts else None
    owner = opened.owner()
    is_running = owner is not None and key["cell_id"] in owner.running
    document = {
        "name": cell_name(key["experiment"], key["method"], key["k"], key["seed"], key["cell_id"]),
        "cell_id": key["cell_id"], "sweep": key["sweep"], "experiment": key["experiment"],
        "method": key["method"], "k": key["k"], "seed": key["seed"],
        "workload": f"{key['workload']} version {key['workload_version']}",
        "status": "running" if is_running else last["status"] if last else "pending",
        "config": json.loads(key["config"]),
        "metrics": {m["name"]: m["value"] for m in last["metrics"]} if last else {},
    }  # fmt: skip
    document["metrics"] |= dict(
        opened.collect(
            lambda: opened.scan("texts").filter(is_cell & (pl.col("attempt") == (last or {}).get("attempt")))
        ).select("name", "value").iter_rows()
    )  # fmt: skip
    warn_of_missing(opened)
    if as_json:
        for of in (document, *attempts):
            of["metrics"] = _without_nan(of["metrics"])
        print_answer(to_json({**document, "attempts": attempts}), opened)
        return
    for name, value in document.items():
        if isinstance(value, dict):
            _say_items(name, flattened(value))
        elif name != "k" or value is not None:
            say(f"{name}: {value}")
    say(f"attempts: {len(attempts)}")
    logged = _logged(opened, key["cell_id"])
    for attempt in attempts:
        _say_attempt(attempt)
        if attempt["status"] != "done" and attempt["attempt"] in logged:
            say(f"     logged last: {logged[attempt['attempt']]}")
    files = opened.artifacts().filter(is_cell)
    if files.height:
        get = f"raysweep artifacts get {key['cell_id'][:8]} --to DIR{at_store(store)}"
        say(f"artifacts: {join_first(files['path'], MAX_FILES)} ({get})")


def _without_nan(metrics: Any) -> Any:
    """Replace NaN and infinite values of metrics by their names, since JSON cannot hold them.

    `metrics` is a dict, or a list of dicts with the key `value`.
    """
    if isinstance(metrics, dict):
        return {name: finite(value) if isinstance(value, float) else value for name, value in metrics.items()}
    return metrics and [{**metric, "value": finite(metric["value"])} for metric in metrics]


def _say_items(title: str, items: Mapping[str, object]) -> None:
    say(f"{title}:" + ("" if items else " none"))
    for name, value in items.items():
        say(f"  {name} = {value}")


def _logged(store: Store, cell_id: str) -> dict[int, str]:
    """Format the last value of each array that an attempt of the cell logged: `loss 0.31, accuracy 0.9`.

    The result maps the number of an attempt to this text. It names at most `MAX_FILES` arrays.
    """
    import polars as pl

    last = pl.coalesce(pl.col("values_f64").list.last(), pl.col("values").list.last().cast(pl.Float64))
    rows = store.collect(
        lambda: (
            store.arrays.filter(pl.col("cell_id") == cell_id)
            .sort("step")
            .group_by("attempt", "name", maintain_order=True)
            .agg(value=last.last())
        )
    )
    texts: dict[int, list[str]] = {}
    for attempt, name, value in rows.drop_nulls().iter_rows():
        texts.setdefault(attempt, []).append(f"{name} {value:.6g}")
    return {attempt: join_first(values, MAX_FILES) for attempt, values in texts.items()}


def _say_attempt(attempt: Mapping[str, Any]) -> None:
    parts = [f"  {attempt['attempt']}: {attempt['status']}", f"{attempt['started_at']:%Y-%m-%d %H:%M:%S} UTC"]
    where = f" on {attempt['host']} (pid {attempt['pid']})" if attempt["host"] else ""
    if attempt["seconds"] is not None:
        parts.append(f"{attempt['seconds']:.3g} s")
    text = ", ".join(parts) + where
    if attempt["git_commit"]:
        text += f", commit {attempt['git_commit'][:10]}{' with changes' if attempt['git_dirty'] else ''}"
    say(text)
    if attempt["error_type"]:
        say(f"     {attempt['error_type']}: {attempt['error_message']}")
    if attempt["traceback"]:
        say("     " + attempt["traceback"].rstrip().replace("\n", "\n     "))
    if attempt["log_tail"]:
        say("     output: " + attempt["log_tail"].rstrip().replace("\n", "\n             "))


def one_cell(known: CellTable, cell: str) -> dict[str, Any]:
    """Find the cell whose id begins with `cell`, and return its id, its seed and the columns of its variant.

    The columns of a variant include its workload, method, k and config. If `cell` contains `#`, only the text after
    the last one counts.

    Raises:
        InputError: no cell id in the store begins with `cell`, or several do.
    """
    import polars as pl

    prefix = cell.rpartition("#")[2].lower()
    rows = known.keep(known.cells.filter(pl.col("cell_id").str.starts_with(prefix))["cell_id"]).wide()
    if not prefix or rows.is_empty():
        fail(f'cell {cell!r}: no such cell in the store; `raysweep query "SELECT cell_id FROM cells"` lists the ids')
    if rows.height > 1:
        ids = join_first(rows["cell_id"], MAX_IDS)
        fail(f"cell {cell!r}: {rows.height} cell ids begin with it: {ids}; give more characters")
    return rows.row(0, named=True)


def failures(
    store: StoreOption = "results", where: Where = None, skip_damaged: SkipDamaged = False, as_json: Json = False
) -> None:
    """Group failed cells by their last error, and name the settings they share.

    Errors of one group agree in type and place, and have similar messages. A setting is not named if all cells of the
    store have it. Cells that are done now, or that failed under an earlier version of the workload, are only counted.
    A done cell whose later attempt failed counts as failed.
    """
    import polars as pl

    from raysweep.orchestrator.launch.drift import SUPERSEDED, request_state
    from raysweep.orchestrator.launch.request import select
    from raysweep.orchestrator.schedule.failure_groups import grouped
    from raysweep.orchestrator.status import POLICIES
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.sweeps import known_cells

    opened = Store(store, skip_damaged=skip_damaged).require()
    recorded = opened.sweeps()
    charged = [status for status, policy in POLICIES.items() if policy.budget]
    columns = [
        "cell_id", "attempt", "workload", "method", "k", "config", "seed", "status", "error_type", "error_message",
        "traceback",
    ]  # fmt: skip
    last = opened.collect(
        lambda: (
            opened.attempts.filter(pl.col("status").is_in(charged))
            .select(columns)
            .sort("attempt")
            .unique("cell_id", keep="last")
        )
    )
    if where is not None:
        selected, warnings = select(known_cells(recorded), opened, where)
        warn(warnings)
        last = last.filter(pl.col("cell_id").is_in(selected.cells["cell_id"].implode()))
    done_by = opened.collect(lambda: opened.cells.select("cell_id", done_attempt="attempt"))
    again = last.join(done_by, on="cell_id").filter(pl.col("attempt") > pl.col("done_attempt"))["cell_id"]
    now = last.select("cell_id").join(opened.summary().select("cell_id", "status"), on="cell_id")
    now = now.join(request_state(recorded), on="cell_id", how="left")
    done = now.filter((pl.col("status") == "done") & ~pl.col("cell_id").is_in(again.implode()))["cell_id"]
    older = now.filter((pl.col("status") != "done") & (pl.col("request_state") == SUPERSEDED))["cell_id"]
    bad = last.filter(~pl.col("cell_id").is_in([*done, *older]))
    variants = [table.variants.select("method", "k", "config") for table in (entry.table for entry in recorded)]
    groups = grouped(bad, pl.concat([bad.select("method", "k", "config"), *variants])).drop("attempts")
    warn_of_missing(opened)
    if as_json:
        print_answer(to_json(groups.to_dicts()), opened)
        return
    for group in groups.iter_rows(named=True):
        seeds = f"{'seed' if len(group['seeds']) == 1 else 'seeds'} {join_first(group['seeds'], MAX_SEEDS)}"
        shared = f"{group['shared']}, " if group["shared"] else ""
        say(f"{count_cells(group['cells'])} {group['status']}, {shared}{seeds}:")
        say(f"    {group['failure']}")
        say(f"    example: raysweep show {group['example'][:8]}{at_store(store)}")
    if groups.is_empty():
        say("no cell has failed" if last.is_empty() else "no failed cells now")
    if len(again):
        say(f"{count_cells(len(again))} failed when run again; the results of the attempt before stay")
    if len(done):
        say(f"{count_cells(len(done))} failed earlier and {'is' if len(done) == 1 else 'are'} done now")
    if len(older):
        say(f"{count_cells(len(older))} failed under an earlier version of the workload; they are not run again")


def debug(
    cell: CellId,
    store: StoreOption = "results",
    pdb: Annotated[bool, typer.Option("--pdb", help="Open the debugger where the cell raises.")] = False,
    as_recorded: Annotated[
        bool, typer.Option("--as-recorded", help="Run the code that the store recorded with the cell's last attempt.")
    ] = False,
    data_dir: DataDir = None,
    trust_store: TrustStore = False,
) -> None:
    """Run one cell again in this process, and record nothing.

    The cell may be done or failed. Prints, breakpoint() and profilers work as in any script; Ctrl-C shows where the
    cell is. At the end the metrics are compared with the recorded ones. Exit 1 if the cell raises.

    raysweep debug 3f5b

    raysweep debug 3f5b --pdb
    """
    from raysweep.orchestrator.cli.code import workload_as_recorded
    from raysweep.orchestrator.launch.needed import files_in_store, needed_cells
    from raysweep.orchestrator.run.cell import call, formatted
    from raysweep.orchestrator.run.context import RunContext
    from raysweep.orchestrator.run.folder import CellFolder
    from raysweep.orchestrator.run.messages import Task
    from raysweep.orchestrator.run.needed import provide
    from raysweep.orchestrator.run.threads import threads
    from raysweep.orchestrator.store.checkpoints import Checkpoint
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.grammar.needs import edges
    from raysweep.orchestrator.sweep.identity import cell_name
    from raysweep.orchestrator.sweep.loading.workload import shadowed_module

    if pdb and (sys.stdin is None or sys.stdin.closed):
        fail("--pdb: the debugger reads its commands from standard input, which is closed; use a terminal")
    use_data(data_dir)
    opened = Store(store).require()
    key = one_cell(opened.known(), cell)
    unpacked = tempfile.TemporaryDirectory(prefix="raysweep-source-", ignore_cleanup_errors=True)
    atexit.register(unpacked.cleanup)
    if as_recorded:
        entry = _entry(opened, key["cell_id"])
        workload = workload_as_recorded(opened, key["cell_id"], entry, Path(unpacked.name), trust=trust_store)
    else:
        workload = _workload(opened, key["cell_id"], key["workload"], trust_store)
    name = cell_name(key["experiment"], key["method"], key["k"], key["seed"], key["cell_id"])
    where = "in this process" if workload.program is None else "as a process of its own"
    place = "the store's copy of its code" if as_recorded else workload.source_path
    say(f"running {name} from {place} {where}; nothing is recorded")
    if pdb and workload.program is not None:
        fail("--pdb: the cell is a program, not a function; write breakpoint() into it, and debug it without --pdb")
    if not as_recorded:
        warn(filter(None, [shadowed_module(workload, str(Path.cwd()))]))
    if workload.version != key["workload_version"]:
        warn([f"the cell has version {key['workload_version']!r} of {workload.name}; it is now {workload.version!r}"])
    task = Task(0, key["cell_id"], key["method"], key["k"], key["seed"], key["config"], 1, None)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(_checkpoints_in(Path(folder)), key["cell_id"], 1, workload.source_digest)
        files = CellFolder(Path(folder), "folder")
        context = RunContext("cuda" if key["gpus"] else "cpu", checkpoint, files, _progress_printer())
        began = time.perf_counter()
        try:
            if key["needs"] is not None:
                wanted = edges(key["needs"], key["seed"])
                held = files_in_store(opened, [edge.cell_id for edge in wanted])
                context.needs = provide(needed_cells(wanted, held), opened.storage, Path(folder) / "needs")
            with threads(key["cpus"]), workload.code.active():
                metrics = call(workload, key["experiment"], task, context, keep_nan=True, foreground=True)
        except BaseException as error:  # Ctrl-C too: it shows where a cell hangs
            trace = error.__traceback__ and error.__traceback__.tb_next  # without this function's frame
            say(formatted(error.with_traceback(trace)).rstrip())
            if pdb:
                import pdb as debugger

                debugger.post_mortem(trace)
            raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
        _say_items("metrics", {**metrics.numbers, **metrics.texts})
        _say_arrays(context)
        say(f"took {time.perf_counter() - began:.3g} s")
        say(_comparison(opened, key["cell_id"], metrics.numbers, workload.source_digest))


def _entry(store: Store, cell_id: str) -> RecordedSweep:
    """Return the recorded sweep that requested a cell, preferably one that this user recorded."""
    import polars as pl

    entries = [e for e in store.sweeps() if not e.table.cells.filter(pl.col("cell_id") == cell_id).is_empty()]
    return max(entries, key=lambda entry: entry.own)


def _workload(store: Store, cell_id: str, name: str, trust: bool) -> Workload:
    """Load a cell's workload by `name`, as its present files define it.

    Its module is searched in the folders that the cell's launch recorded, then in the current folder.

    Raises:
        InputError: the workload cannot be loaded, or, unless `trust` is set, another user recorded its sweep.
    """
    from raysweep.orchestrator.launch.request import refuse_foreign
    from raysweep.orchestrator.sweep.loading.main_module import MAIN
    from raysweep.orchestrator.sweep.loading.main_program import enter
    from raysweep.orchestrator.sweep.loading.workload import load_workload
    from raysweep.orchestrator.sweep.programs.program import is_program
    from raysweep.orchestrator.sweep.programs.program_files import workload_of

    entry = _entry(store, cell_id)
    if not trust:
        refuse_foreign(store, [entry])
    search = (*entry.metadata["search"], str(Path.cwd()))
    if name.partition(":")[0] == MAIN:
        enter(_file_of_main(store, cell_id, name, search))
        return load_workload(name, search)
    try:
        if is_program(name):
            part = next((part for part in entry.sweep().parts() if part.workload == name), entry.sweep())
            return workload_of(replace(part, search=search))
        return load_workload(name, search)
    except InputError as error:
        hint = "`raysweep debug --as-recorded` runs the code that the store has of the cell"
        raise InputError([*error.problems[:-1], f"{error.problems[-1]}; {hint}"]) from None


def _file_of_main(store: Store, cell_id: str, name: str, search: Sequence[str]) -> str:
    """Return the path of the program that defines the workload's function, as recorded with the cell's last attempt.

    The store's rows of attempts are not signed, unlike its recorded sweeps. Therefore the path must lie below one of
    the folders in `search`.

    Raises:
        InputError: no such file is recorded or exists, or it is a notebook.
    """
    import polars as pl

    ran = store.attempts.filter(pl.col("cell_id") == cell_id, pl.col("source_path").is_not_null())
    paths = store.collect(lambda: ran.sort("attempt").select("source_path"))["source_path"].to_list()
    if not paths:
        fail(f"workload {name!r}: the cell has not run yet, so that the file of its program is not known")
    path = Path(paths[-1])
    if path.suffix != ".py":
        fail(
            f"workload {name!r}: is a function of a notebook, whose source is not at hand here: call it there, "
            "or move it into a module"
        )
    if not any(path.is_relative_to(folder) for folder in search) or not path.is_file():
        folders = " or ".join(dict.fromkeys(search))
        fail(f"workload {name!r}: no file {path} below {folders}; debug it in the folder of its program")
    return str(path)


def _checkpoints_in(folder: Path) -> CheckpointLocation:
    """Prepare a temporary folder for the cell's checkpoints, and return it as a location."""
    from raysweep.orchestrator.store.checkpoints import CheckpointLocation

    (folder / "_tmp").mkdir()
    (folder / "proof").write_bytes(b"")
    return CheckpointLocation(str(folder), "proof", hashlib.sha256().hexdigest())


def _comparison(store: Store, cell_id: str, metrics: Mapping[str, float], digest: str) -> str:
    """Compare a cell's new metrics with the recorded ones, and describe the differences.

    Args:
        store: the store.
        cell_id: the cell's id.
        metrics: the new metrics.
        digest: the source digest of the code that computed them.
    """
    import polars as pl

    done = store.collect(lambda: store.cells.filter(pl.col("cell_id") == cell_id).select("metrics", "source_digest"))
    if done.is_empty():
        return "no recorded result to compare with"
    recorded = {metric["name"]: metric["value"] for metric in done["metrics"][0]}
    code = "" if done["source_digest"][0] == digest else " (with other code)"
    if recorded == metrics:
        return f"the recorded metrics are the same{code}"
    others = [f"{name} = {value}" for name, value in recorded.items() if metrics.get(name) != value]
    others += [f"no {name}" for name in metrics if name not in recorded]
    same = len(recorded.items() & metrics.items())
    return f"the recorded metrics differ{code}: {', '.join(others)}; {same} are the same"


def _progress_printer() -> Callable[[float], None]:
    """Return a function that prints a cell's progress in percent, at most once every `PROGRESS_S` seconds."""
    last = time.monotonic()

    def report(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_S:
            last = time.monotonic()
            typer.echo(f"{fraction:.0%}", err=True)

    return report


def _say_arrays(context: RunContext) -> None:
    say("arrays:" + ("" if context.recorded else " none"))
    for array in context.recorded:
        last = array.step + (len(array.values) - 1) * array.stride
        steps = f", steps {array.step} to {last}" if len(array.values) else ""
        say(f"  {array.name}: {len(array.values):,} of {array.values.dtype}{steps}")
