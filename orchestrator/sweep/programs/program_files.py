"""The files of a program, and their digest. The files are the script, its local imports, and the sweep's `files`.

They are found without running any code: from words of the command that name a file of the project, from the
module after `python -m`, from import statements, and from the patterns of `files`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from raysweep.orchestrator.code import source as recorded
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.identity import canonical_json
from raysweep.orchestrator.sweep.loading.source import content, imported, reached, source_files
from raysweep.orchestrator.sweep.loading.workload import Workload, load_workload
from raysweep.orchestrator.sweep.programs.program import Program, placeholders
from raysweep.orchestrator.sweep.spec import Sweep

MAX_FILES, MAX_BYTES = 10_000, 256 * 2**20
"""Maximum number and total bytes of a program's files, which are shipped to every worker. `links` has no limits."""

PYTHON = ("python", "python3")
"""First words of a command that are replaced by the worker's Python interpreter."""


def workload_of(sweep: Sweep) -> Workload:
    """Return the workload of a sweep: its program, or the function that it names.

    Raises:
        InputError: a file of the program is missing, or the function's module cannot be imported.
    """
    if sweep.program is None:
        workload = load_workload(sweep.workload, sweep.search)
    else:
        workload = load_program(sweep.program, sweep.search)
    return workload if sweep.inputs is None else workload.with_inputs(sweep.inputs, sweep.search[0])


def load_program(program: Program, search: Sequence[str]) -> Workload:
    """Find a program's files, and return the program as a workload.

    Args:
        program: the program.
        search: folders in which its files are searched. All are taken from the first folder that has any of them.

    Raises:
        InputError: a file is missing, or the files are too many or too large to ship.
    """
    problems: list[str] = []
    folder = next((place for place in search if any(_named(program, Path(place)))), None)
    if folder is None and (missing := _script(program)) is not None:
        problems.append(f"no file {missing!r} in {' or in '.join(dict.fromkeys(search))}")
    if folder is None and (program.file_patterns or program.links) and search:
        folder = search[0]
    files: list[str] = []
    links: list[tuple[str, str]] = []
    if folder is not None:
        root = Path(folder)
        files = sorted({*_named(program, root), *_matching(program.file_patterns, root, problems)})
        links = [(name, str(root / path)) for name, path in program.links]
        problems += [f"links: there is no {path}" for _, path in links if not os.path.exists(path)]
        size = sum((root / name).stat().st_size for name in files)
        if len(files) > MAX_FILES or size > MAX_BYTES:
            problems.append(
                f"files: {len(files):,} files of {size / 2**20:,.0f} MiB, more than {MAX_FILES:,} files or "
                f"{MAX_BYTES / 2**20:.0f} MiB; name folders that every worker can reach in links = [...] instead"
            )
    if problems:
        raise InputError(problems)
    on_worker = worker_side(replace(program, files=tuple(files), links=tuple(links)), folder if files else None)
    return replace(on_worker, settle=partial(_settle, program), lacks=partial(_lacks, program, folder))


def worker_side(program: Program, folder: str | None) -> Workload:
    """Return a program as a workload, with the parts that a worker needs. `folder` contains the program's files."""
    return Workload(
        name=program.name,
        module="",
        run=_not_a_function,
        version=program.version,
        config_model=None,
        methods=None,
        settle=None,
        cost=None,
        lacks=None,
        source_path=program.name if folder is None else str(Path(folder, _main(program))),
        source_digest=program_digest(program, folder),
        folder=folder,
        program=program,
    )


def _not_a_function(cell: Any, context: Any) -> Mapping[str, float]:
    raise TypeError("this workload is a program; `run.program.run_program` runs it")


def program_digest(program: Program, folder: str | None) -> str:
    """Return a digest of the names and contents of the program's files, and of the sweep's key `metrics`.

    The rules for reading metrics count as code, because a cell's recorded metrics depend on them. If they change,
    cells become "changed".
    """
    files = {name: content(Path(folder or "", name)) for name in program.files}
    return recorded.program_digest(recorded.digest_of(files) if files else program.version, metrics_of(program))


def metrics_of(program: Program) -> str:
    """Return the program's rules for reading metrics, as JSON; "" if the sweep declares none."""
    return canonical_json(asdict(program.metrics)) if program.metrics.declared else ""


def sharing(workload: Workload, shared: Collection[str]) -> Workload:
    """Return a program's workload, changed so that its command need not use the settings in `shared`."""
    program = workload.program
    return workload if program is None else replace(workload, settle=partial(_settle, program, shared=shared))


def _settle(
    program: Program, method: str, k: int | None, config: Any, *, shared: Collection[str] = ()
) -> tuple[int | None, Any]:
    if problems := program.problems(k, config, shared):
        raise ValueError("\n".join(problems))
    return k, config


def _lacks(program: Program, folder: str | None, config: Any) -> str | None:
    """Return an error message if this machine does not have the program; otherwise None."""
    first = "/bin/sh" if program.shell else program.command[0]
    if placeholders(first) or first in PYTHON or (folder is not None and Path(folder, first).is_file()):
        return None
    if shutil.which(first, path=program_path()) is None:
        return f"there is no program {first!r} on the path; install it, or correct the first word of the command"
    return None


def program_path() -> str:
    """Return the PATH for programs. Its first folder is that of this Python interpreter."""
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])


def _static(program: Program) -> Iterator[str]:
    """Yield the parts of the command that may name files: words without placeholders, and text after `=`."""
    words = program.command[0].split() if program.shell else program.command
    for word in words:
        for part in dict.fromkeys((word, word.partition("=")[2])):
            try:
                if part and "\0" not in part and not placeholders(part):
                    yield part
            except ValueError:  # a brace of the shell's
                continue


def _script(program: Program) -> str | None:
    """Return the Python script that the command runs, or the program if it is a relative path; otherwise None."""
    words = program.command
    if program.shell or not words:
        return None
    if words[0] in PYTHON:
        options = [i for i, word in enumerate(words[1:], 1) if not word.startswith("-")]
        if options and not {"-m", "-c"} & set(words[1 : options[0]]):
            word = words[options[0]]
            return None if placeholders(word) or os.path.isabs(word) else word
        return None
    return words[0] if "/" in words[0] and not os.path.isabs(words[0]) and not placeholders(words[0]) else None


def _named(program: Program, root: Path) -> Iterator[str]:
    """Yield the files in `root` that the command names, and the local imports of its Python files."""
    for part in _static(program):
        path = PurePosixPath(os.path.normpath(part))
        if path.is_absolute() or ".." in path.parts or not os.path.isfile(root / path):
            continue
        yield str(path)
        if path.suffix == ".py":
            yield from _imports(root, path)
    words = program.command
    if not program.shell and "-m" in words[:-1]:
        yield from _module(root, words[words.index("-m") + 1])


def _imports(root: Path, script: PurePosixPath) -> Iterator[str]:
    """Yield the local imports of a script. They are searched in the script's folder, where Python looks first, too."""
    beside = root / script.parent
    for name in sorted(imported(content(root / script), ())):
        for file in reached(name, beside):
            yield str(script.parent / file.as_posix())


def _module(root: Path, module: str) -> Iterator[str]:
    """Yield the files of the module that `python -m` runs, if it is in `root`."""
    base = root.joinpath(*module.split("."))
    for path in (base / "__main__.py", base.with_suffix(".py")):
        if module and path.is_file():
            name = f"{module}.__main__" if path.name == "__main__.py" else module
            yield from (file.relative_to(root).as_posix() for _, file in source_files(name, str(path), str(root)))
            return


def _matching(patterns: Iterable[str], root: Path, problems: list[str]) -> Iterator[str]:
    for pattern in patterns:
        path = root / pattern
        paths = path.rglob("*") if path.is_dir() else root.glob(os.path.normpath(pattern))
        names = [p.relative_to(root).as_posix() for p in paths if p.is_file() and "__pycache__" not in p.parts]
        if not names:
            problems.append(f"files: {pattern!r} matches no file in {root}")
        yield from names


def scripts(program: Program, root: Path) -> list[str]:
    """Return the Python files that the command names, in the order of the command."""
    paths = (os.path.normpath(part) for part in _static(program) if part.endswith(".py"))
    return [path for path in dict.fromkeys(paths) if path in program.files and (root / path).is_file()]


def python_files(program: Program, root: Path) -> list[str]:
    """Return the Python files that the command names, and those that they import."""
    return [name for name in _named(program, root) if name.endswith(".py")] if program.files else []


def _main(program: Program) -> str:
    """Return the file to record as the program's source path: the script, or else the first file."""
    script = _script(program)
    normal = os.path.normpath(script) if script is not None else None
    return normal if normal in program.files else program.files[0]
