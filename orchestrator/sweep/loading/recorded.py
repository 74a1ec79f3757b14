"""Builds the recorded source of a workload from the files that this process has read."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from raysweep.orchestrator.code.source import Source, SourceFile, module_name, source_file
from raysweep.orchestrator.sweep.loading.main_module import MAIN
from raysweep.orchestrator.sweep.loading.source import BUNDLED_PACKAGE, OURS, content
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.sweep.programs.program_files import metrics_of, python_files, scripts


def source_of(workload: Workload) -> Source:
    """Return the source of a workload, with its files as they were read for the source digest."""
    if workload.program is not None:
        return _of_program(workload)
    function = workload.run.__name__ if ":" not in workload.name else workload.name.partition(":")[2]
    paths = dict(zip(workload.code.contents, workload.code.files, strict=False))
    files = []
    for name, text in workload.code.contents.items():
        path = _path(workload, name, paths.get(name))
        module = f"{MAIN}.{name}" if name.startswith(f"{MAIN}:") else module_name(path)
        files.append(source_file(name, path, text, module))
    return Source(
        workload.name, workload.version, workload.module, (function, "Config"), tuple(files),
        inputs=inputs_of(workload),
    )  # fmt: skip


def inputs_of(workload: Workload) -> tuple[SourceFile, ...]:
    """Return the files that the sweep names in `inputs`; large files have no content."""
    return tuple(SourceFile(path, path, "", *file) for path, file in sorted(workload.inputs.items()))


def _path(workload: Workload, name: str, file: str | None) -> str:
    """Return the relative path to which a file is unpacked, so that Python can import its module from there."""
    if workload.module.startswith(f"{BUNDLED_PACKAGE}."):
        return f"{OURS}/{name}"
    if name.startswith(f"{MAIN}:"):
        return f"{MAIN}/{name.partition(':')[2]}.py"
    if workload.folder is not None and file is not None:
        relative = Path(os.path.relpath(file, workload.folder))
        return relative.as_posix() if ".." not in relative.parts else name
    top = workload.module.partition(".")[0]
    return name if name == f"{top}.py" else f"{top}/{name}"


def _of_program(workload: Workload) -> Source:
    program = workload.program
    assert program is not None  # noqa: S101 - for the type checker
    root = Path(workload.folder or "")
    mains = scripts(program, root)
    code = set(python_files(program, root))
    base = PurePosixPath(mains[0]).parent if len(mains) == 1 else PurePosixPath()
    modules = {}
    for name in code & set(program.files):
        path = PurePosixPath(name)
        modules[name] = module_name(str(path.relative_to(base) if path.is_relative_to(base) else path))
    files = [source_file(name, name, content(root / name), modules.get(name, "")) for name in program.files]
    return Source(
        workload.name, workload.version, "", (), tuple(files), tuple(filter(None, map(modules.get, mains))),
        metrics_of(program), inputs_of(workload),
    )  # fmt: skip
