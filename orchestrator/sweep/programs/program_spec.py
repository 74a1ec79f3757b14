"""Reading and checking of the keys of a sweep file that describe a program. Problems are collected, not raised."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from raysweep.orchestrator.sweep.programs.program import ARGS, MetricSources, Pattern, Program, in_quotes, placeholders
from raysweep.orchestrator.text import encodable, short_repr
from raysweep.workloads.registry import unknown_name

PROGRAM_KEYS = ("command", "script", "shell", "args", "env", "config_file", "metrics", "files", "links")
"""Keys of a sweep file that are valid only for a program."""

METRICS_KEYS = ("file", "step", "patterns", "tensorboard", "json_lines")
METRICS_FILES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
CONFIG_FILES = (".json", ".toml", ".yaml", ".yml")
TAKES = ("last", "min", "max")
MAX_COMMAND = 100_000  # characters
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", "<", "<<", ">", ">>", "2>", "2>&1", "&>"})


def read_program(raw: Mapping[str, Any], problems: list[str]) -> Program | None:
    """Read the program of a sweep file; None if the file has neither `command` nor `script`."""
    present = [key for key in ("command", "script", "workload") if key in raw]
    if not {"command", "script"} & set(present):
        for key in PROGRAM_KEYS:
            if key in raw:
                problems.append(
                    f'{key}: belongs to a program; add command = "python train.py {{args}}", or remove {key}'
                )
        return None
    if len(present) > 1:
        problems.append(f"{present[-1]}: a sweep has one of command, script and workload; remove {present[-1]}")
    shell = raw.get("shell", False)
    if not isinstance(shell, bool):
        problems.append(f"shell: {short_repr(shell)} is not true or false")
        shell = False
    command = _command(raw["command"], shell, problems) if "command" in raw else _script(raw["script"], shell, problems)
    args = raw.get("args")
    if args is not None and args not in ARGS:
        problems.append(f"args: {unknown_name('form', args, ARGS)}")
        args = None
    if args is not None and command and "args" not in {name for word in command for name in placeholders(word)}:
        problems.append("args: the command has no {args}; write {args} where the settings belong, or remove args")
    return Program(
        command=command,
        shell=shell,
        args=args,
        env=_env(raw.get("env", {}), problems),
        config_file=_config_file(raw.get("config_file"), problems),
        metrics=_metrics(raw["metrics"], problems) if "metrics" in raw else MetricSources(),
        file_patterns=_paths(raw.get("files", []), "files", problems),
        links=tuple(
            (path.strip("/") if not path.startswith("/") else PurePosixPath(path).name, path)
            for path in _paths(raw.get("links", []), "links", problems, absolute=True)
        ),
    )


def _command(value: Any, shell: bool, problems: list[str]) -> tuple[str, ...]:
    words = value if isinstance(value, list) else [value]
    if not words or not all(isinstance(word, str) and _is_text(word) for word in words) or not "".join(words).strip():
        problems.append(
            f"command: {short_repr(value)} is neither a text nor a list of texts; "
            'write for example command = "python train.py --lr {lr}"'
        )
        return ()
    if shell and isinstance(value, list):
        problems.append("command: with shell = true the command is one text, not a list")
        return ()
    if shell:
        inside = in_quotes(value) if not _braces(value, "command", problems) else []
        for name in inside:
            problems.append(
                f"command: {{{name}}} stands inside quotes, where its value cannot be quoted; write it outside them"
            )
        return (value,)
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            problems.append(f"command: cannot be split into words: {error}; close the quote, or write a list of words")
            return ()
        for word in words:
            if word in _SHELL_WORDS:
                problems.append(
                    f"command: {word!r} is for a shell, and the command runs without one; add shell = true, or write a "
                    "list of words"
                )
    if sum(_braces(word, "command", problems) for word in words):  # `any` would stop at the first
        return ()
    for word in words:
        if "{args}" in word and word != "{args}":
            problems.append(f"command: {word!r}: {{args}} becomes several words; write it as a word of its own")
    return tuple(words)


def _script(value: Any, shell: bool, problems: list[str]) -> tuple[str, ...]:
    if not isinstance(value, str) or not value.strip() or not _is_text(value) or "{" in value:
        problems.append(
            f'script: {short_repr(value)} is not the path of a script; write for example script = "train.py"'
        )
        return ()
    if shell:
        problems.append("shell: belongs to command; remove it")
    if value.endswith(".py"):
        return ("python", value, "{args}")
    return (value if "/" in value else f"./{value}", "{args}")


def _braces(text: str, where: str, problems: list[str]) -> bool:
    """Return whether a template has a brace without a partner. If so, a problem is added to `problems`."""
    try:
        placeholders(text)
    except ValueError as error:
        problems.append(f"{where}: {short_repr(text)} has {error}")
        return True
    return False


def _env(value: Any, problems: list[str]) -> dict[str, str]:
    if not isinstance(value, dict):
        problems.append(f'env: {short_repr(value)} is not a table of NAME = "text"')
        return {}
    env = {}
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            problems.append(f"env: {short_repr(name)} is not the name of an environment variable")
        elif not isinstance(text, str) or not _is_text(text):
            problems.append(f'env.{name}: {short_repr(text)} is not text; write {name} = "..."')
        elif not _braces(text, f"env.{name}", problems):
            if "args" in placeholders(text):
                problems.append(f"env.{name}: {{args}} belongs in the command")
            else:
                env[name] = text
    return env


def _config_file(value: Any, problems: list[str]) -> str | None:
    if value is None:
        return None
    if not _is_inside(value) or PurePosixPath(value).suffix not in CONFIG_FILES:
        problems.append(
            f"config_file: {short_repr(value)} is not a path in the cell's folder with one of the endings "
            f"{', '.join(CONFIG_FILES)}"
        )
        return None
    return str(value)


def _metrics(value: Any, problems: list[str]) -> MetricSources:
    if isinstance(value, str):
        value = {"file": value}
    if not isinstance(value, dict) or not value:
        problems.append(f'metrics: {short_repr(value)} is neither a file such as "metrics.json" nor a table')
        return MetricSources()
    problems.extend(
        f"metrics: {unknown_name('key', key, METRICS_KEYS)}; regular expressions belong in [metrics.patterns]"
        for key in value
        if key not in METRICS_KEYS
    )
    files = value.get("file", [])
    files = files if isinstance(files, list) else [files]
    for file in files:
        if not _is_inside(file) or PurePosixPath(file).suffix not in METRICS_FILES:
            problems.append(
                f"metrics.file: {short_repr(file)} is not a path in the cell's folder that ends in "
                f"{', '.join(METRICS_FILES)}"
            )
        elif not _braces(file, "metrics.file", problems) and "args" in placeholders(file):
            problems.append("metrics.file: {args} belongs in the command")
    tensorboard = value.get("tensorboard")
    if tensorboard is not None and not _is_inside(tensorboard):
        problems.append(
            f'metrics.tensorboard: {short_repr(tensorboard)} is not a folder in the cell\'s folder; "." is it'
        )
    step, json_lines = value.get("step", "step"), value.get("json_lines", False)
    if not isinstance(step, str) or not step:
        problems.append(f"metrics.step: {short_repr(step)} is not the name of a column")
    if not isinstance(json_lines, bool):
        problems.append(f"metrics.json_lines: {short_repr(json_lines)} is not true or false")
    return MetricSources(
        json_lines=json_lines is True,
        files=tuple(file for file in files if isinstance(file, str)),
        step=str(step),
        patterns=_patterns(value.get("patterns", {}), problems),
        tensorboard=tensorboard if isinstance(tensorboard, str) else None,
        declared=True,
    )


def _patterns(value: Any, problems: list[str]) -> tuple[Pattern, ...]:
    if not isinstance(value, dict):
        problems.append("metrics.patterns: is not a table of name = 'regular expression'")
        return ()
    patterns = []
    for name, entry in value.items():
        where = f"metrics.patterns.{name}"
        if isinstance(entry, str):
            entry = {"pattern": entry}
        if not isinstance(entry, dict) or not isinstance(entry.get("pattern"), str):
            problems.append(f"{where}: {short_repr(entry)} is neither text nor {{ pattern = '...', take = \"min\" }}")
            continue
        take = entry.get("take", "last")
        if take not in TAKES:
            problems.append(f"{where}.take: {unknown_name('choice', take, TAKES)}")
        problems.extend(
            f"{where}: {unknown_name('key', key, ('pattern', 'take'))}" for key in entry.keys() - {"pattern", "take"}
        )
        try:
            compiled = re.compile(entry["pattern"])
        except re.error as error:
            problems.append(f"{where}: {short_repr(entry['pattern'])} is not a regular expression: {error}")
            continue
        if "value" not in compiled.groupindex and compiled.groups != 1:
            problems.append(
                f"{where}: {short_repr(entry['pattern'])} has {compiled.groups} groups; put the number into one (...), "
                "or name its group (?P<value>...)"
            )
        patterns.append(Pattern(name, entry["pattern"], str(take)))
    return tuple(patterns)


def _paths(value: Any, where: str, problems: list[str], absolute: bool = False) -> tuple[str, ...]:
    paths = value if isinstance(value, list) else [value]
    for path in paths:
        if not (_is_inside(path) or (absolute and isinstance(path, str) and path.startswith("/") and _is_text(path))):
            problems.append(
                f"{where}: {short_repr(path)} is not a path inside the project's folder"
                + ("" if absolute else '; name a file or folder elsewhere by its absolute path in links = ["..."]')
            )
    return tuple(path for path in paths if isinstance(path, str))


def _is_inside(path: Any) -> bool:
    """Tell whether this is a relative path without `..`."""
    return (
        isinstance(path, str)
        and _is_text(path)
        and path != ""
        and not path.startswith(("/", "~"))
        and ".." not in PurePosixPath(path).parts
    )


def _is_text(text: str) -> bool:
    return encodable(text) and len(text) <= MAX_COMMAND
