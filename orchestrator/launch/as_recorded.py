"""Loading of a workload from the source in the store, since the user's files may have changed or be gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raysweep.orchestrator.code.source import Source
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.artifacts import save
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.loading.imports import Code
from raysweep.orchestrator.sweep.loading.main_module import MAIN
from raysweep.orchestrator.sweep.loading.source import BUNDLED_PACKAGE
from raysweep.orchestrator.sweep.loading.workload import Workload, load_workload, workload_of_code
from raysweep.orchestrator.sweep.programs.program_files import worker_side


def recorded_workload(source: Source, digest: str, entry: RecordedSweep, folder: Path) -> Workload:
    """Unpack a recorded source, and load its workload.

    Args:
        source: the source.
        digest: the source's digest.
        entry: a recorded sweep that uses the workload.
        folder: a new private folder, to which the source is unpacked.

    Raises:
        InputError: a file was not recorded or has an unsafe path, the workload was defined in a notebook, or its
            module cannot be imported.
    """
    if source.module == MAIN:
        raise InputError(
            f"workload {source.workload!r} was defined in a notebook or a program that ran; `raysweep show --source` "
            "prints its text"
        )
    for file in (*source.files, *source.inputs):
        if file.content is None:
            raise InputError(f"the content of {file.path} was not recorded, as it is too large")
        save(file.content, folder, file.path)
    if not source.module:
        workload = _program(source, entry, folder)
    elif source.module.startswith(f"{BUNDLED_PACKAGE}."):
        contents = {file.name: file.content or b"" for file in source.files}
        paths = {str(folder / file.path): file.content or b"" for file in source.files}
        modules = {file.module: str(folder / file.path) for file in source.files}
        workload = workload_of_code(
            source.workload, source.module, source.roots[0], Code(contents, paths, None, modules=modules)
        )
    else:
        workload = load_workload(source.workload, (str(folder),))
    return replace(workload, source_digest=digest, version=source.version)


def _program(source: Source, entry: RecordedSweep, folder: Path) -> Workload:
    sweep = entry.sweep()
    programs = [part.program for part in sweep.parts() if part.program is not None]
    program = next((program for program in programs if program.name == source.workload), None)
    if program is None:
        raise InputError(f"the recorded sweep {sweep.name!r} does not run {source.workload!r}")
    root = next(iter(entry.metadata["search"]), "")
    links = tuple((name, str(Path(root) / path)) for name, path in program.links)
    unpacked = replace(program, files=tuple(file.path for file in source.files), links=links)
    return worker_side(unpacked, str(folder) if source.files else None)
