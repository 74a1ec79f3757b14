"""Stage 1, reading: a TOML file becomes a `Sweep`. This stage uses no workload configs, no store and no Ray.

Problems are collected, not raised. `cells.expand` adds the problems that the workload reports, and then raises all
problems of a file at once. The parts of a file are read by `block`, `axes`, `seeds`, `resources`, `program_spec`,
`inputs`, `outputs` and `question`; `keys` lists its keys, and `base` merges files.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.find import find
from raysweep.orchestrator.sweep.grammar.axes import Value
from raysweep.orchestrator.sweep.grammar.base import parsed, with_bases
from raysweep.orchestrator.sweep.grammar.block import Block, read_block
from raysweep.orchestrator.sweep.grammar.inputs import Inputs, read_inputs
from raysweep.orchestrator.sweep.grammar.keys import BLOCK_NAMES, RESOURCE_NAMES, TOP_NAMES
from raysweep.orchestrator.sweep.grammar.needs import problems_of
from raysweep.orchestrator.sweep.grammar.outputs import DEFAULT, Outputs, read_outputs
from raysweep.orchestrator.sweep.grammar.question import Question, read_questions
from raysweep.orchestrator.sweep.grammar.resources import BELONGS, Resources, read_resources
from raysweep.orchestrator.sweep.grammar.seeds import read_seeds, typed_seeds
from raysweep.orchestrator.sweep.grammar.settings import (
    check_key,
    check_value,
    is_line,
    nested,
    read_names,
    read_table,
    table_conflicts,
)
from raysweep.orchestrator.sweep.programs.program import Program
from raysweep.orchestrator.sweep.programs.program_spec import PROGRAM_KEYS, read_program
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Sweep:
    """A sweep, as its file and the command line define it."""

    name: str
    title: str
    experiment: str
    workload: str  # the name of a function or of a program
    seeds: Sequence[int]
    config: Mapping[str, Value]  # settings by name; a dot in a name is a nested table
    blocks: tuple[Block, ...]
    path: str  # "" if it was not read from a file
    text: str  # with that of its bases
    search: tuple[str, ...] = ()  # folders searched for a user's module before the Python path
    overrides: Mapping[str, Value] = field(default_factory=dict)
    outputs: Outputs = DEFAULT
    questions: tuple[Question, ...] = ()
    problems: tuple[str, ...] = ()
    program: Program | None = None
    quoted: frozenset[str] = frozenset()  # names with a dot that the file writes in quotes: they are no tables
    inputs: Inputs | None = None

    @classmethod
    def load(cls, name: str | Path) -> Sweep:
        """Read one sweep, from the path of a `.toml` file or the name of a bundled sweep.

        Raises:
            InputError: there is no such sweep, or several match.
        """
        paths = find(str(name))
        if len(paths) != 1:
            raise InputError(
                f"sweep {str(name)!r} matches {len(paths)} sweeps; name one: {', '.join(str(p) for p in paths)}"
            )
        return cls.from_text(paths[0].read_text(encoding="utf-8"), paths[0])

    @classmethod
    def from_text(cls, text: str, path: Path | None = None) -> Sweep:
        """Read a sweep from TOML text; `path` is the file that contains it, if any."""
        return _read(text, path)

    def with_seeds(self, seeds: str | Sequence[int]) -> Sweep:
        """Return the same sweep with other seeds: `"0..19"`, `"1,2,5"` or a list of ints."""
        return replace(self, seeds=typed_seeds(seeds))

    def with_settings(self, settings: Mapping[str, Value]) -> Sweep:
        """Return the same sweep with other config values.

        A value is set in the grid blocks that have its key. If there are none, it is set in `[config]`.

        Raises:
            InputError: a key is not a config key, or is both a setting and a table of settings.
        """
        config, blocks = dict(self.config), self.blocks
        for key, value in settings.items():
            if key in {"method", "k", "seed", "seeds", "experiment", "workload"}:
                raise InputError(
                    f"--set {key}: not a config key; set {key} in the sweep file, or select cells by --where or --seeds"
                )
            if any(key in block.axes for block in blocks):
                blocks = tuple(block.fixed(key, value) if key in block.axes else block for block in blocks)
            else:
                config[key] = value
        every = {*config, *(name for block in blocks for name in block.axes)} - self.quoted
        for key in table_conflicts(every):
            for name in settings:
                if name == key or name.startswith(f"{key}."):
                    raise InputError(f"--set {name}: {key} {_BOTH}")
        return replace(self, config=config, blocks=blocks, overrides={**self.overrides, **settings})

    def with_resources(self, **changes: Any) -> Sweep:
        """Return the same sweep with resources (`timeout_s`, `retries`, ...) set in every block."""
        new = {key: value for key, value in changes.items() if value is not None}
        problems: list[str] = []
        read_resources(new, Resources(), "given resources", problems)
        if problems:
            raise InputError(problems)
        return replace(self, blocks=tuple(replace(b, resources=replace(b.resources, **new)) for b in self.blocks))

    def config_of(self, settings: Mapping[str, Any], block: Block) -> dict[str, Any]:
        """Return the config of these settings of a block: with nested tables for a function, flat for a program."""
        program = block.program if block.workload else self.program
        return dict(settings) if program is not None else nested(settings, self.quoted)

    def parts(self) -> list[Sweep]:
        """Split the sweep into one sweep per workload, each with the blocks that run this workload."""
        if not any(block.workload for block in self.blocks):
            return [self]
        blocks: dict[tuple[str, str], list[Block]] = {}
        programs: dict[tuple[str, str], Program | None] = {}
        for block in self.blocks:
            name, program = (block.workload, block.program) if block.workload else (self.workload, self.program)
            key = (name, "" if program is None else program.version)
            programs[key] = program
            blocks.setdefault(key, []).append(block)
        return [replace(self, workload=k[0], program=programs[k], blocks=tuple(of)) for k, of in blocks.items()]

    @property
    def workloads(self) -> list[str]:
        """The names of the sweep's workloads, including those of single blocks."""
        return [part.workload for part in self.parts()]

    @property
    def text_digest(self) -> str:
        """The digest of the text of the file, merged with its bases, as 16 hex characters."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def changed(sweeps: Sequence[Sweep], settings: Mapping[str, Any], seeds: str | None) -> list[Sweep]:
    """Return the sweeps with the settings of `--set`, and with the seeds of `--seeds` unless they are None."""
    if settings:
        sweeps = [sweep.with_settings(settings) for sweep in sweeps]
    return list(sweeps) if seeds is None else [sweep.with_seeds(seeds) for sweep in sweeps]


def load_all(names: Sequence[str]) -> list[Sweep]:
    """Read all sweeps that the SWEEP arguments name, in the order of the arguments. Each file is read once."""
    paths: dict[Path, None] = {}
    for name in names:
        paths.update(dict.fromkeys(p.resolve() for p in find(name)))
    sweeps, problems = [], []
    for path in paths:
        try:
            sweeps.append(_read(path.read_text(encoding="utf-8"), path))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path}: cannot be read: {_unreadable(error)}")
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return sweeps


def setting(text: str) -> tuple[str, Value]:
    """Parse one `--set key=value`. The value is TOML, or a string if it is not valid TOML."""
    key, equals, raw = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError(f"--set {short_repr(text)} is not of the form key=value; write for example --set rate=0.1")
    value: Any
    try:
        value = tomllib.loads(f"value = {raw}")["value"] if "\n" not in raw else raw
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    except (ValueError, RecursionError):
        raise InputError(f"--set {key}: the value has too many digits or is nested too deeply") from None
    problems: list[str] = []
    check_key(key, "--set", problems)
    if isinstance(value, dict):
        problems.append(
            f"--set {key}: is a table; set its settings one by one: --set {key}.{next(iter(value), 'lr')}=..."
        )
    else:
        check_value(value, f"--set {key}", problems)
    if problems:
        raise InputError(problems)
    return key, value


def _unreadable(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start:,} is not UTF-8; save the file as text in UTF-8"
    return str(error.strerror or error)


def _read(text: str, path: Path | None) -> Sweep:
    where = str(path) if path else "sweep"
    problems: list[str] = []
    text = with_bases(text, path)
    raw = parsed(text, where)
    problems.extend(_misplaced(key) for key in raw if key not in TOP_NAMES)
    name = _text(raw, "name", problems, default=path.stem if path else "sweep")
    if name and not _NAME.fullmatch(name):
        problems.append(f"name: {short_repr(name)} is invalid; write a letter or digit, then up to 99 of A-Za-z0-9._-")
    experiment = _text(raw, "experiment", problems) if "experiment" in raw else name
    grid = raw.get("grid", [{}])
    given = grid if isinstance(grid, list) else []
    own = [_own_workload(block, raw, f"grid[{i}]", problems) for i, block in enumerate(given)]
    has_own_programs = any(program is not None for _, program in own)
    if has_own_programs and not {"command", "script"} & raw.keys():  # the other keys are for the blocks' programs
        raw = {key: value for key, value in raw.items() if key not in PROGRAM_KEYS}
    program = read_program(raw, problems)
    if program is not None:
        workload = program.name
    elif "workload" not in raw and own and all(name for name, _ in own):
        workload, program = own[0]
    else:
        workload = _text(raw, "workload", problems)
    seeds = read_seeds(raw["seeds"], "seeds", problems) if "seeds" in raw else ()
    if "seeds" not in raw:
        problems.append('seeds: missing; give a list of integers or a range such as "0..19"')
    quoted: dict[str, bool] = {}
    config = read_names(read_table(raw.get("config", {}), "config", problems), "config", quoted, problems)
    for key, value in config.items():
        check_value(value, f"config.{key}", problems)
    resources = read_resources(raw.get("resources", {}), Resources(), "resources", problems)
    if isinstance(grid, dict):
        problems.append("grid: [grid] is one table, not a list of blocks; write [[grid]], in double brackets")
        grid = [grid]
    elif not isinstance(grid, list) or not grid:
        problems.append("grid: empty; add at least one [[grid]] block, or remove the key")
        grid = []
    blocks = tuple(read_block(b, resources, f"grid[{i}]", quoted, problems) for i, b in enumerate(grid))
    blocks = tuple(replace(b, workload=w, program=p) for b, (w, p) in zip(blocks, own, strict=True)) if own else blocks
    problems += problems_of(blocks)
    for key in sorted(set(config) & {key for block in blocks for key in block.axes}):
        problems.append(f"config.{key}: is also a key of a [[grid]] block; remove it from one of the two")
    for i, block in enumerate(blocks):
        in_file = program is not None and program.config_file is not None
        names = [name for name in (*config, *block.axes) if in_file or not quoted.get(name)]
        problems.extend(f"grid[{i}]: {key} {_BOTH}" for key in table_conflicts(names))
    outputs = read_outputs(raw, problems)
    inputs = read_inputs(raw, problems)
    questions = read_questions(raw.get("question", []), problems)
    search = (str(path.resolve().parent), str(Path.cwd())) if path else (str(Path.cwd()),)
    return Sweep(
        name=name,
        title=_text(raw, "title", problems, default=""),
        experiment=experiment,
        workload=workload,
        seeds=seeds,
        config=config,
        blocks=blocks,
        path=str(path.resolve()) if path else "",
        text=text,
        search=tuple(dict.fromkeys(search)),
        outputs=outputs,
        questions=questions,
        problems=tuple(f"{where}: {problem}" for problem in problems),
        program=program,
        quoted=frozenset(name for name, is_quoted in quoted.items() if is_quoted),
        inputs=inputs,
    )


def _own_workload(block: Any, raw: Mapping[str, Any], where: str, problems: list[str]) -> tuple[str, Program | None]:
    """Remove the block's own function or command from its table, and return its name and its program.

    Returns:
        (name, program); program is None for a function. ("", None) if the block runs the sweep's workload.
    """
    if not isinstance(block, dict):
        return "", None
    mine: list[str] = []
    given = {key: block.pop(key) for key in ("workload", "command") if key in block}
    program, name = None, ""
    if len(given) == 2:
        mine.append("command: a block has one of workload and command; remove command")
    elif "workload" in given:
        name = _text(given, "workload", mine)
    elif "command" in given:
        left_out = {"command", "script", *(() if "{args}" in str(given["command"]) else ("args",))}
        keys = {key: value for key, value in raw.items() if key in PROGRAM_KEYS and key not in left_out}
        program = read_program({**keys, **given}, mine)
        name = "" if program is None else program.name
    problems += [f"{where}.{line}" for line in mine]
    return name, program


def _misplaced(key: str) -> str:
    """Format the message about an invalid key at the top level of a sweep file."""
    if key in RESOURCE_NAMES:
        return f"{key}: is not valid at the top of the file; it {BELONGS}"
    if key in BLOCK_NAMES:
        return f"{key}: is not valid at the top of the file; it belongs in a [[grid]] block"
    near = unknown_name("key", key, TOP_NAMES)
    return near if "did you mean" in near else f"{near}; a setting of the workload belongs under [config] or [[grid]]"


_BOTH = "is both a setting and a table of settings"
_OR_COMMAND = {"workload": ', or command = "python train.py ..." to run a program'}


def _text(raw: Mapping[str, Any], key: str, problems: list[str], default: str | None = None) -> str:
    value = raw.get(key, default)
    if value is None:
        problems.append(f'{key}: missing; add {key} = "..." at the top of the file{_OR_COMMAND.get(key, "")}')
        return ""
    if not is_line(value):
        quoted = f'; write {key} = "{short_repr(value)}"' if isinstance(value, int | float) else ""
        problems.append(f"{key}: {short_repr(value)} is not one line of text of at most 300 characters{quoted}")
        return default or ""
    if not value and key != "title":
        problems.append(f"{key}: is empty; give a line of text")
    return str(value)
