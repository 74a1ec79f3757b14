"""Stage 1, reading: a TOML file becomes a `Sweep`. Knows nothing of workloads' configs, stores or Ray.

Problems are collected, not raised. `cells.expand` adds those that the workload finds, and then raises all problems of a
file at once.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.find import find
from raysweep.orchestrator.sweep.inputs import Inputs, read_inputs
from raysweep.orchestrator.sweep.near_misses import ONLY_SEEDS, like_a_range, toml_hint
from raysweep.orchestrator.sweep.outputs import DEFAULT, Outputs, read_outputs
from raysweep.orchestrator.sweep.program import Program
from raysweep.orchestrator.sweep.program_spec import PROGRAM_KEYS, read_program
from raysweep.orchestrator.sweep.question import Question, read_questions
from raysweep.orchestrator.text import encodable, short_repr
from raysweep.workloads.registry import unknown_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RANGE = re.compile(r"\s*(\d{1,18})\s*\.\.\s*(\d{1,18})\s*", re.ASCII)
_LIKE_A_RANGE = re.compile(r"\s*(\d{1,18})\s*(?:-|:|–|\.{2,}|…|to)\s*(\d{1,18})\s*", re.ASCII)  # of seeds
_KEYS = (
    "name", "title", "experiment", "workload", "seeds", "config", "grid", "resources", "artifacts", "nan",
    "inputs", "question", *PROGRAM_KEYS,
)  # fmt: skip
_TABLES = ("config", "resources")
RESOURCES = ("cpus", "gpus", "memory_gib", "timeout_s", "retries")
BELONGS = "belongs under [resources], or in a block's resources"
_SEED = re.compile(r"\d{1,19}", re.ASCII)
_MAX_SEED = 2**63 - 1
_MAX_RANGE = 100_000_000
ANY_METHOD = "default"
"""The method of a program's cells if the sweep names none."""
MAX_TIMEOUT_S = 1e9
MAX_RETRIES = 1_000_000
_MAX = {"timeout_s": MAX_TIMEOUT_S, "retries": MAX_RETRIES, "cpus": 1e6, "gpus": 1e6, "memory_gib": 1e9}

Scalar = bool | int | float | str
Value = Scalar | list[Any]


@dataclass(frozen=True)
class Resources:
    """The resources that a cell runs with. They are never part of a cell's id."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float | None = None
    timeout_s: float | None = None
    retries: int = 1  # after the cell's own errors


@dataclass(frozen=True)
class Block:
    """One `[[grid]]` block. Its cells are all combinations of the values on its axes."""

    methods: tuple[str, ...]
    ks: tuple[int | None, ...]
    axes: Mapping[str, tuple[Value, ...]]
    resources: Resources


@dataclass(frozen=True)
class Sweep:
    """A sweep, as its file and the command line define it."""

    name: str
    title: str
    experiment: str
    workload: str  # the name of a function or of a program
    seeds: Sequence[int]
    config: Mapping[str, Value]
    blocks: tuple[Block, ...]
    path: str  # "" if it was not read from a file
    text: str
    search: tuple[str, ...] = ()  # folders searched for a user's module before the Python path
    overrides: Mapping[str, Value] = field(default_factory=dict)
    outputs: Outputs = DEFAULT
    questions: tuple[Question, ...] = ()
    problems: tuple[str, ...] = ()
    program: Program | None = None
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
        problems: list[str] = []
        if isinstance(seeds, str) and ".." not in seeds and not _LIKE_A_RANGE.fullmatch(seeds):
            parts = [part.strip() for part in seeds.split(",")]
            seeds = [int(p) if _SEED.fullmatch(p) else p for p in parts]  # type: ignore[misc]
        read = _seeds(seeds, "--seeds", problems)
        if problems:
            raise InputError(problems)
        return replace(self, seeds=read)

    def with_settings(self, settings: Mapping[str, Value]) -> Sweep:
        """Return the same sweep with config values set: in grid blocks that vary the key, otherwise in `[config]`."""
        config, blocks = dict(self.config), self.blocks
        for key, value in settings.items():
            if key in {"method", "k", "seed", "seeds", "experiment", "workload"}:
                raise InputError(
                    f"--set {key}: not a config key; set {key} in the sweep file, or select cells by --where or --seeds"
                )
            if any(key in block.axes for block in blocks):
                blocks = tuple(replace(b, axes={**b.axes, key: (value,)}) if key in b.axes else b for b in blocks)
            else:
                config[key] = value
        return replace(self, config=config, blocks=blocks, overrides={**self.overrides, **settings})

    def with_resources(self, **changes: Any) -> Sweep:
        """Return the same sweep with resources (`timeout_s`, `retries`, ...) set in every block."""
        new = {key: value for key, value in changes.items() if value is not None}
        problems: list[str] = []
        _resources(new, Resources(), "given resources", problems)
        if problems:
            raise InputError(problems)
        return replace(self, blocks=tuple(replace(b, resources=replace(b.resources, **new)) for b in self.blocks))

    @property
    def text_digest(self) -> str:
        """Digest of the file's text: 16 hex characters."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def changed(sweeps: Sequence[Sweep], settings: Mapping[str, Any], seeds: str | None) -> list[Sweep]:
    """Apply the settings of `--set`, and the seeds of `--seeds` if given, to sweeps."""
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
    _config_key(key, "--set", problems)
    _config_value(value, f"--set {key}", problems)
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
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML: {error}{toml_hint(text, error)}") from None
    except ValueError:
        raise InputError(f"{where}: a number has thousands of digits; integers of a sweep have 64 bits") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply to be a sweep") from None

    problems.extend(_misplaced(key) for key in raw if key not in _KEYS)
    name = _text(raw, "name", problems, default=path.stem if path else "sweep")
    if name and not _NAME.fullmatch(name):
        problems.append(f"name: {short_repr(name)} is invalid; write a letter or digit, then up to 99 of A-Za-z0-9._-")
    experiment = _text(raw, "experiment", problems) if "experiment" in raw else name
    program = read_program(raw, problems)
    workload = _text(raw, "workload", problems) if program is None else program.name
    seeds = _seeds(raw["seeds"], "seeds", problems) if "seeds" in raw else ()
    if "seeds" not in raw:
        problems.append('seeds: missing; give a list of integers or a range such as "0..19"')
    config = _table(raw.get("config", {}), "config", problems)
    for key, value in config.items():
        _config_key(key, "config", problems)
        _config_value(value, f"config.{key}", problems)
    resources = _resources(raw.get("resources", {}), Resources(), "resources", problems)
    grid = raw.get("grid", [] if program is None else [{}])
    if isinstance(grid, dict):
        problems.append("grid: [grid] is one table, not a list of blocks; write [[grid]], in double brackets")
        grid = [grid]
    elif not isinstance(grid, list) or not grid:
        problems.append("grid: empty; add at least one [[grid]] block with a method")
        grid = []
    method = None if program is None else ANY_METHOD
    blocks = tuple(_block(b, resources, f"grid[{i}]", problems, method) for i, b in enumerate(grid))
    for key in sorted(set(config) & {key for block in blocks for key in block.axes}):
        problems.append(f"config.{key}: is also a key of a [[grid]] block; remove it from one of the two")
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
        inputs=inputs,
    )


def _misplaced(key: str) -> str:
    """Format the message about an invalid key at the top level of a sweep file."""
    if key in RESOURCES:
        return f"{key}: is not valid at the top of the file; it {BELONGS}"
    if key in ("method", "k"):
        return f"{key}: is not valid at the top of the file; it belongs in a [[grid]] block"
    near = unknown_name("key", key, _KEYS)
    return near if "did you mean" in near else f"{near}; a setting of the workload belongs under [config] or [[grid]]"


_OR_COMMAND = {"workload": ', or command = "python train.py ..." to run a program'}


def _text(raw: Mapping[str, Any], key: str, problems: list[str], default: str | None = None) -> str:
    value = raw.get(key, default)
    if value is None:
        problems.append(f'{key}: missing; add {key} = "..." at the top of the file{_OR_COMMAND.get(key, "")}')
        return ""
    if not _is_line(value):
        quoted = f'; write {key} = "{short_repr(value)}"' if isinstance(value, int | float) else ""
        problems.append(f"{key}: {short_repr(value)} is not one line of text of at most 300 characters{quoted}")
        return default or ""
    if not value and key != "title":
        problems.append(f"{key}: is empty; give a line of text")
    return str(value)


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 300 and encodable(value) and not any(ord(c) < 32 for c in value)


def _config_key(key: str, where: str, problems: list[str]) -> None:
    if not key or not _is_line(key):
        problems.append(f"{where}: key {short_repr(key)} is not one line of text of 1 to 300 characters")


def _table(value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    write = f"; write [{where}], in single brackets" if isinstance(value, list) and where in _TABLES else ""
    problems.append(f"{where}: {short_repr(value)} is not a table of key = value lines{write}")
    return {}


def _seeds(value: Any, where: str, problems: list[str]) -> Sequence[int]:
    if isinstance(value, str):
        match = _RANGE.fullmatch(value)
        if _SEED.fullmatch(value.strip()):
            count = int(value)
            several = f', "0..{count - 1}" for {count:,} seeds' if 1 < count <= _MAX_RANGE else ""
            problems.append(f"{where}: {short_repr(value)} is not a range; write [{count}] for one seed{several}")
            return ()
        if not match or int(match[1]) > int(match[2]):
            low, high = sorted(map(int, like.groups())) if (like := _LIKE_A_RANGE.fullmatch(value)) else (0, 19)
            write = f'did you mean "{low}..{high}"?' if like else f'write "{low}..{high}"'
            if value.strip().startswith("["):
                write = "write the list without quotes, or a range"
            problems.append(f"{where}: {short_repr(value)} is not a range; {write} (both ends included)")
            return ()
        first, last = int(match[1]), int(match[2])
        if last - first >= _MAX_RANGE:
            problems.append(f"{where}: {value!r} has {last - first + 1:,} seeds; at most {_MAX_RANGE:,} are possible")
            return ()
        return range(first, last + 1)
    if not isinstance(value, Sequence) or not value:
        write = f"; write [{value}] for one seed" if type(value) is int and 0 <= value <= _MAX_SEED else ""
        problems.append(
            f'{where}: {short_repr(value)} is neither a list of integers nor a range such as "0..19"{write}'
        )
        return ()
    bad = [s for s in value if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s <= _MAX_SEED]
    if bad:
        alone = "; a range is no part of a list" if like_a_range(bad[0]) else ""
        problems.append(f"{where}: {short_repr(bad[0])} is not an integer from 0 to 2^63 - 1{alone}")
        return ()
    repeated = sorted(s for s, count in Counter(value).items() if count > 1)
    if repeated:
        problems.append(f"{where}: {repeated[0]} appears twice; remove one of them")
    return tuple(dict.fromkeys(value))


def _config_value(value: Any, where: str, problems: list[str]) -> None:
    if isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, list):
                problems.append(f"{where}[{i}]: is a list inside a list; use single values or flat lists")
            else:
                _config_value(item, f"{where}[{i}]", problems)
    elif isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{where}: {value} is not finite; leave the key out, or use a finite number")
    elif isinstance(value, str) and not encodable(value):
        problems.append(f"{where}: {short_repr(value)} contains NUL or invalid Unicode")
    elif not isinstance(value, bool | int | float | str):
        kind = "a table" if isinstance(value, dict) else type(value).__name__
        problems.append(f"{where}: {kind} is not a config value; use text, numbers, booleans or lists of them")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        problems.append(f"{where}: {short_repr(value)} does not fit in 64 bits")


def _block(raw: Any, shared: Resources, where: str, problems: list[str], method: str | None = None) -> Block:
    table = _table(raw, where, problems)
    if not isinstance(raw, dict):
        return Block((), (None,), {}, shared)
    raw = dict(table)
    resources = _resources(raw.pop("resources", {}), shared, f"{where}.resources", problems)
    for key in ("seed", "seeds"):
        if raw.pop(key, None) is not None:
            problems.append(f"{where}.{key}: seeds belong at the top of the file and apply to every block")
    if "methods" in raw and "method" not in raw:
        problems.append(f"{where}.methods: the key is method, also for a list; write method = [...]")
        raw["method"] = raw.pop("methods")
    methods = _axis(raw.pop("method", method), f"{where}.method", problems, own_rule=True)
    for m in methods:
        if not m or not _is_line(m):
            problems.append(f"{where}.method: {short_repr(m)} is not one line of text of 1 to 300 characters")
    ks: tuple[Any, ...] = (None,)
    if "k" in raw:
        ks = _axis(raw.pop("k"), f"{where}.k", problems, own_rule=True)
        for k in ks:
            if isinstance(k, bool) or not isinstance(k, int):
                ranges = f"; {ONLY_SEEDS}" if like_a_range(k) else ""
                problems.append(f"{where}.k: {short_repr(k)} is not an integer; give integers of 0 or more{ranges}")
            elif k < 0:
                problems.append(f"{where}.k: {short_repr(k)} is negative; give integers of 0 or more")
            elif k >= 2**63:
                problems.append(f"{where}.k: {short_repr(k)} does not fit in 64 bits; k is at most 2^63 - 1")
    for key in raw:
        _config_key(key, where, problems)
    axes = {key: _axis(value, f"{where}.{key}", problems) for key, value in raw.items()}
    return Block(
        methods=tuple(m for m in methods if isinstance(m, str)),
        ks=tuple(k for k in ks if k is None or (isinstance(k, int) and not isinstance(k, bool) and 0 <= k < 2**63)),
        axes=axes,
        resources=resources,
    )


def _axis(value: Any, where: str, problems: list[str], *, own_rule: bool = False) -> tuple[Any, ...]:
    """The distinct values of a key; the caller checks each one if the key has a rule of its own."""
    if value is None:
        problems.append(f"{where}: missing; give a value or a list of values")
        return ()
    values = value if isinstance(value, list) else [value]
    if not values:
        problems.append(f"{where}: an empty list makes no cells; add at least one value")
    for item in () if own_rule else values:
        _config_value(item, where, problems)
    distinct = [v for i, v in enumerate(values) if not any(v == u and type(v) is type(u) for u in values[:i])]
    if len(distinct) < len(values):
        repeated = next(v for i, v in enumerate(values) if v in values[:i])
        problems.append(f"{where}: {short_repr(repeated)} appears twice; remove one of them")
    return tuple(distinct)


def _resources(raw: Any, base: Resources, where: str, problems: list[str]) -> Resources:
    valid: dict[str, Any] = {}
    for key, value in _table(raw, where, problems).items():
        if key not in RESOURCES:
            problems.append(f"{where}: {unknown_name('resource', key, RESOURCES)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            problems.append(f"{where}.{key}: {short_repr(value)} is not a number")
        elif value > _MAX[key]:
            no_limit = "; without it there is no limit" if key == "timeout_s" else ""
            maximum = f"the maximum is {_MAX[key]:,.0f}"
            problems.append(f"{where}.{key}: {short_repr(value)} is too large; {maximum}{no_limit}")
        elif key == "retries" and (not isinstance(value, int) or value < 0):
            problems.append(f"{where}.retries: {short_repr(value)} is not an integer of 0 or more")
        elif key == "gpus" and value < 0:
            problems.append(f"{where}.gpus: {short_repr(value)} is negative; give 0 or more")
        elif key == "gpus" and value > 1 and value != int(value):
            problems.append(f"{where}.gpus: {short_repr(value)} is neither a fraction of one GPU nor a whole number")
        elif key in {"cpus", "memory_gib", "timeout_s"} and value <= 0:
            problems.append(f"{where}.{key}: {short_repr(value)} is not positive; give a number above 0")
        elif key == "cpus" and value > 1 and value != int(value):
            problems.append(f"{where}.cpus: {short_repr(value)} is neither a fraction of one CPU nor a whole number")
        else:
            valid[key] = value if key == "retries" else float(value)
    return replace(base, **valid)
