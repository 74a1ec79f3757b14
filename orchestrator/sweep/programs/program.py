"""A program: a command line that computes a cell, with placeholders for the cell's key and settings.

This module reads and writes no files. `program_spec` reads a program from a sweep file, `program_files` finds its
files, and `run.program` runs it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from raysweep.orchestrator.sweep.identity import canonical_json
from raysweep.workloads.registry import unknown_name

SCHEME = 1
"""Part of every program's version. It is incremented when the same definition begins to yield another command."""

OWN = ("method", "k", "seed", "cell_id", "folder", "checkpoint", "args")
"""Placeholders that are not settings."""

NEEDS = "needs."
"""Prefix of placeholders for the folders of needed cells: `{needs.train}`."""

ARGS = ("argparse", "hydra")
"""Formats in which `{args}` passes the settings to a program."""

MARK = "$ "
"""Prefix of the workload name of every program. No function's name begins with it."""

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PLAIN = re.compile(r"[\w@%+=:,./{}-]+")
_HYDRA_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*")
_HYDRA_WORDS = ("true", "false", "null", "inf", "nan")
_MAX_NAME = 200


class Pattern(NamedTuple):
    """A regular expression on lines of output. Its group `value`, or else its only group, is the metric's value.

    Args:
        name: the metric's name.
        pattern: the expression. If it has a group `step`, this is the step of the value.
        take: which of all matches is the metric: last, min or max.
    """

    name: str
    pattern: str
    take: str


@dataclass(frozen=True)
class MetricSources:
    """The places from which a program's metrics are read; never part of a cell's id.

    Args:
        json_lines: whether to read lines of stdout that are JSON objects.
        files: paths of metrics files in the cell's folder, with placeholders.
        step: the column of metrics files that counts steps.
        patterns: regular expressions on lines of output.
        tensorboard: the folder of TensorBoard event files in the cell's folder.
        declared: whether the sweep file names the sources. If so, a cell without any metric fails.
    """

    json_lines: bool = True
    files: tuple[str, ...] = ()
    step: str = "step"
    patterns: tuple[Pattern, ...] = ()
    tensorboard: str | None = None
    declared: bool = False


class CommandLine(NamedTuple):
    """The command line of a program for one cell, with all placeholders filled in.

    Args:
        argv: the words of the command line.
        env: environment variables to add.
        config: text of the configuration file, if the program has one.
        metrics: paths of the metrics files.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    config: str | None
    metrics: tuple[str, ...]

    def __str__(self) -> str:
        """Return the command line as a user would type it into a shell."""
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.env.items()), shlex.join(self.argv)])


@dataclass(frozen=True)
class Program:
    """A command line with placeholders, and the other keys of a sweep file that describe a program.

    Args:
        command: the words of the command; a single shell command if `shell` is true.
        shell: whether `/bin/sh -c` runs the command.
        args: the format in which `{args}` passes the settings (see `ARGS`).
        env: environment variables, with placeholders.
        config_file: the file in the cell's folder to which the settings are written.
        metrics: the places from which the metrics are read.
        file_patterns: the sweep's key `files`.
        links: files and folders that are too large to ship: path in the cell's folder, and path on every machine.
        files: the program's files, relative to its folder; empty until `program_files` has found them.
    """

    command: tuple[str, ...]
    shell: bool = False
    args: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    config_file: str | None = None
    metrics: MetricSources = MetricSources()
    file_patterns: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The workload's name: the command line with its placeholders; "" without a valid command."""
        if not self.command:
            return ""
        words = ["sh", "-c", shlex.quote(self.command[0])] if self.shell else [_quoted(word) for word in self.command]
        text = " ".join([*(f"{name}={_quoted(value)}" for name, value in self.env.items()), *words])
        text = " ".join(text.split())
        return MARK + (text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…")

    @property
    def version(self) -> str:
        """A digest of the parts of the definition that determine the command line and the configuration file."""
        definition: dict[str, Any] = {"scheme": SCHEME, "command": list(self.command)}
        definition |= {"shell": True} if self.shell else {}
        definition |= {"args": self.args} if self.args else {}
        definition |= {"env": dict(self.env)} if self.env else {}
        definition |= {"config_file": self.config_file} if self.config_file else {}
        return hashlib.sha256(canonical_json(definition).encode()).hexdigest()[:12]

    @property
    def placeholders(self) -> frozenset[str]:
        """The names in braces in the command and in environment variables."""
        return frozenset(name for text in (*self.command, *self.env.values()) for name in placeholders(text))

    @property
    def needed(self) -> list[str]:
        """The names of the blocks in the placeholders `{needs.BLOCK}`."""
        return sorted(name.removeprefix(NEEDS) for name in self.placeholders if name.startswith(NEEDS))

    def problems(self, k: int | None, config: Mapping[str, Any], shared: Collection[str] = ()) -> list[str]:
        """Return the problems of the command at one point of the grid, one line each.

        A problem is a placeholder without a value, a setting that the command does not use, or a setting with the
        name of a placeholder in `OWN`.

        Args:
            k: the point's k; None if it has none.
            config: the point's settings.
            shared: names of settings that the command need not use, because the folders `{needs.BLOCK}` already
                differ with them: a cell and the cells that it needs have the same values of these settings.
        """
        used, lines = self.placeholders, []
        known = [*OWN, *config]
        used = frozenset(name for name in used if not name.startswith(NEEDS))
        wanted = used | {name for text in self.metrics.files for name in placeholders(text)}
        for name in sorted(wanted - set(known)):
            near = unknown_name("placeholder", name, [*OWN[:-1], *config])
            lines.append(f"{near}; a setting's placeholder needs the setting in [config] or [[grid]]")
        for name in sorted(set(config) & set(OWN)):
            lines.append(f"config key {name!r} is the name of a placeholder; rename the setting")
        if k is None and "k" in wanted:
            lines.append("the command has the placeholder {k}, but there is no k here; add k to the [[grid]] block")
        if not self._takes_the_rest:
            unused = [
                *(name for name in config if name not in used),
                *(["k"] if k is not None and "k" not in used else []),
            ]
            lines += [
                f"config key {name!r} is not used by the command; write {{{name}}} in it where the value belongs, "
                "or remove the key"
                for name in unused
                if name not in shared
            ]
        return lines

    def problems_of_needs(self, needs: Collection[str]) -> list[str]:
        """Describe each placeholder `{needs.BLOCK}` of the command whose block is not in `needs`."""
        return [
            f'the command has the placeholder {{{NEEDS}{name}}}; the block must say needs = "{name}"'
            for name in self.needed
            if name not in needs
        ]

    def problems_of_sweep(self, methods: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Return an error message for several methods, and one for several seeds, if the command does not use them.

        A command with `{needs.BLOCK}` uses the seed, since the folder depends on it.
        """
        lines = []
        if len(set(methods)) > 1 and "method" not in self.placeholders:
            lines.append("method: there are several, but the command is the same for all; write {method} in it")
        if len(seeds) > 1 and "seed" not in self.placeholders and not self.needed and not self._takes_the_rest:
            lines.append(
                "seeds: there are several, but the command is the same for all; write {seed} in it, or at the top of "
                'the file in a variable: env = { SEED = "{seed}" }'
            )
        return lines

    @property
    def _takes_the_rest(self) -> bool:
        return self.config_file is not None or "args" in self.placeholders

    def render(self, values: Mapping[str, Any], config: Mapping[str, Any]) -> CommandLine:
        """Return the command line of one cell.

        Args:
            values: the values of the placeholders in `OWN`, except `args`, and of `{needs.BLOCK}`. k may be None.
            config: the cell's settings.
        """
        key = {name: values[name] for name in ("k", "seed") if values[name] is not None}
        rest = {name: value for name, value in {**config, **key}.items() if name not in self.placeholders}
        args = _ARGUMENTS[self.args or ARGS[0]](rest)
        full = {**config, **values, "args": args}
        if self.shell:
            words = ["/bin/sh", "-c", _filled(self.command[0], full, _in_shell)]
        else:
            words = [word for template in self.command for word in _words(template, full)]
        return CommandLine(
            tuple(words),
            {name: _filled(text, full, text_of) for name, text in self.env.items()},
            None if self.config_file is None else config_text(self.config_file, {**config, **key}),
            tuple(_filled(text, full, text_of) for text in self.metrics.files),
        )


def is_program(workload: str) -> bool:
    """Tell whether a workload's name is that of a program."""
    return workload.startswith(MARK)


def placeholders(template: str) -> list[str]:
    """Return the names in braces, in order.

    Raises:
        ValueError: an opening or closing brace has no partner.
    """
    names = []
    for match in _BRACES.finditer(template):
        if match[0] in "{}":
            raise ValueError(f"a single {match[0]!r}; write {match[0] * 2} for a brace")
        if match[1] is not None:
            names.append(match[1])
    return names


def text_of(value: Any) -> str:
    """Format a value as text: booleans as true and false, lists joined by commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(text_of, value)) if isinstance(value, list) else str(value)


def in_quotes(template: str) -> list[str]:
    """Return the placeholders of a shell command that are inside quotes, where their values could not be quoted."""
    quote, at, inside = "", 0, []
    while at < len(template):
        char = template[at]
        match = _BRACES.match(template, at)
        if match and match[1] is not None and quote:
            inside.append(match[1])
        if match:
            at = match.end()
            continue
        if char == "\\" and quote != "'":
            at += 1
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        at += 1
    return inside


def config_text(name: str, settings: Mapping[str, Any]) -> str:
    """Format settings as the text of a configuration file.

    The file's extension selects JSON, TOML or YAML. A key with dots becomes a key in nested tables.
    """
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        table = tree
        for part in path:
            table = table.setdefault(part, {})
        table[last] = value
    if name.endswith(".toml"):
        return "".join(f"{line}\n" for line in _toml(tree))
    if name.endswith(".json"):
        return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def _toml(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        name = prefix + _toml_text(key)
        if isinstance(value, dict):
            yield from _toml(value, f"{name}.")
        else:
            items = value if isinstance(value, list) else [value]
            texts = [_toml_text(item) if isinstance(item, str) else text_of(item) for item in items]
            yield f"{name} = [{', '.join(texts)}]" if isinstance(value, list) else f"{name} = {texts[0]}"


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _argparse(settings: Mapping[str, Any]) -> list[str]:
    """Format settings as flags `--key=value`.

    True becomes `--key`, and a list becomes `--key a b`. False and an empty list are left out.
    """
    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, bool):
            words += [f"--{key}"] if value else []
        elif isinstance(value, list):
            words += [f"--{key}", *map(text_of, value)] if value else []
        else:
            words.append(f"--{key}={text_of(value)}")
    return words


def _hydra(settings: Mapping[str, Any]) -> list[str]:
    """Format settings as Hydra's overrides `key=value`. Text is quoted if Hydra would read it as something else."""
    return [f"{key}={_hydra_value(value)}" for key, value in settings.items()]


def _hydra_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_hydra_value, value))}]"
    if isinstance(value, str) and (not _HYDRA_PLAIN.fullmatch(value) or value.lower() in _HYDRA_WORDS):
        doubled = re.sub(r"(\\+)(?='|$)", r"\1\1", value)  # Hydra reads a backslash as an escape only before a quote
        escaped = doubled.replace("'", "\\'")
        return f"'{escaped}'"
    return text_of(value)


_ARGUMENTS = {"argparse": _argparse, "hydra": _hydra}


def _words(template: str, values: Mapping[str, Any]) -> list[str]:
    """Fill in the placeholders of one word of a command, and return the words that it becomes.

    A word that is only a placeholder of a list becomes one word per item.
    """
    names = placeholders(template)
    if names and template == f"{{{names[0]}}}" and isinstance(values[names[0]], list):
        return [text_of(item) for item in values[names[0]]]
    return [_filled(template, values, text_of)]


def _filled(template: str, values: Mapping[str, Any], text: Any) -> str:
    return _BRACES.sub(lambda m: text(values[m[1]]) if m[1] is not None else m[0][0], template)


def _in_shell(value: Any) -> str:
    return " ".join(shlex.quote(text_of(item)) for item in (value if isinstance(value, list) else [value]))


def _quoted(word: str) -> str:
    return word if _PLAIN.fullmatch(word) else shlex.quote(word)
