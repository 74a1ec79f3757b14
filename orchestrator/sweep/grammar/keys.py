"""The keys of a sweep file, with their descriptions and limits.

The parser uses the names and limits. `json_schema` uses the schemas and descriptions. `table` builds the rows of
`docs/sweeps.md`. For the keys of programs, questions and artifacts, this module has only the descriptions. Their
schemas are in `json_schema`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

Schema = dict[str, Any]

MAX_TIMEOUT_S = 1e9
MAX_RETRIES = 1_000_000
MAXIMA = {"timeout_s": MAX_TIMEOUT_S, "retries": MAX_RETRIES, "cpus": 1e6, "gpus": 1e6, "memory_gib": 1e9}
MAX_POINTS = 100_000
"""Maximum number of values of a `linspace` or `logspace`, and of combinations that a block draws with `sample`."""

NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
"""Pattern of the name of an accelerator, a custom resource or a block."""

LINE: Schema = {"type": "string", "minLength": 1, "maxLength": 300, "pattern": "^[^\\x00-\\x1f]*$"}
NATURAL: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_PART_OR_WHOLE: Schema = {"anyOf": [{"type": "number", "maximum": 1}, {"type": "integer"}]}
"""JSON schema of a number of CPUs or GPUs: a fraction of one, or a whole number."""
_LINES: Schema = {"anyOf": [LINE, {"type": "array", "items": LINE, "minItems": 1}]}
_SPACE: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
_BOUNDS: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_GROUP: Schema = {"type": "array", "items": LINE, "minItems": 2}
_FILES: Schema = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1, "maxLength": 1000}}
_LIST: Schema = {"type": "array", "minItems": 1}


class Key(NamedTuple):
    """One key of a sweep file.

    Args:
        name: the key.
        doc: its meaning, in Markdown, for the docs and editors.
        schema: its JSON schema; None if `json_schema` defines it, because it depends on the workload or is long.
    """

    name: str
    doc: str
    schema: Schema | None = None


TOP = (
    Key(
        "base",
        "another sweep file, relative to this one, whose keys this file takes over and may override",
        {**LINE, "pattern": "[.]toml$"},
    ),
    Key(
        "name",
        "the sweep's name; default: the file's. Sweeps are told apart by name and path, so two files may share a name",
        {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
    ),
    Key("title", "one line of description", {**LINE, "minLength": 0}),
    Key(
        "experiment",
        "a key column and part of every cell id; default: the name. Sweeps with the same experiment share equal cells",
        LINE,
    ),
    Key("workload", "`module:function`, or a bundled name", LINE),
    Key("command", "a program instead of a workload: a command line with placeholders ([programs](programs.md))"),
    Key("script", 'a program: short for `command = "python SCRIPT {args}"`'),
    Key("args", "the form of the settings for which `{args}` stands ([the command](programs.md#the-command))"),
    Key("shell", "`true`: `/bin/sh` runs the command"),
    Key("env", "environment variables of the program, with placeholders"),
    Key("config_file", "a file that is written with the settings, in the cell's folder"),
    Key("files", "files that the program reads; they are shipped ([the files](programs.md#the-files))"),
    Key("links", "files and folders that every machine has, linked into the cell's folder"),
    Key("metrics", "where a program's metrics are read ([the metrics](programs.md#the-metrics))"),
    Key(
        "seeds",
        'a list of integers, or a range `"0..19"` with both ends',
        {
            "anyOf": [
                {"type": "array", "items": NATURAL, "minItems": 1, "uniqueItems": True},
                {"type": "string", "pattern": "^\\s*\\d{1,18}\\s*\\.\\.\\s*\\d{1,18}\\s*$"},
            ]
        },
    ),
    Key("config", "settings of all cells; each key is either here or in `[[grid]]` blocks"),
    Key("grid", "`[[grid]]` blocks of cells ([below](#blocks)); without any, one cell for each seed"),
    Key("resources", "what each cell runs with ([below](#resources)); never part of a cell's id"),
    Key(
        "artifacts",
        "which [files of a cell's folder](workloads.md#files) are kept: `include`, `exclude` (patterns), `max_mib`, "
        "`max_files`; never part of a cell's id",
    ),
    Key(
        "inputs",
        "the [files that cells read](code.md#files-that-cells-read), relative to the sweep file's folder: a change of "
        "one makes done cells changed; `{ files = [...], identity = true }` makes new cells",
        {
            "anyOf": [
                _FILES,
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["files"],
                    "properties": {"files": _FILES, "identity": {"type": "boolean"}},
                },
            ]
        },
    ),
    Key(
        "nan",
        '`"keep"` records metrics that are NaN or infinite; `"fail"` (default) fails the cell. Never part of its id',
    ),
    Key(
        "question",
        "`[[question]]`: a question that `raysweep questions` answers, and for which `launch --until decided` runs "
        "seeds; never part of a cell's id "
        "([questions](questions.md#declaring-questions))",
    ),
)
"""Keys at the top of a file."""

BLOCK = (
    Key("method", 'the key column `method`, or a list; default: `"default"`'),
    Key("k", "the key column `k`, an integer or a list; may be left out"),
    Key(
        "zip",
        "names of lists that are taken in step instead of being multiplied, or a list of such groups",
        {"anyOf": [_GROUP, {"type": "array", "items": _GROUP, "minItems": 1}]},
    ),
    Key("where", "an SQL predicate, or several: only cells that match all of them", _LINES),
    Key("exclude", "an SQL predicate, or several: no cells that match any of them", _LINES),
    Key(
        "sample",
        "draw this many settings, instead of all combinations; `{ count = 20, seed = 1 }` draws others",
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_POINTS},
                {
                    "type": "object", "additionalProperties": False, "required": ["count"],
                    "properties": {"count": {"type": "integer", "minimum": 1, "maximum": MAX_POINTS}, "seed": NATURAL},
                },
            ]
        },
    ),
    Key("resources", "overrides `[resources]` for the block's cells"),
    Key("workload", "the function of this block's cells, instead of the sweep's", LINE),
    Key("command", "the program of this block's cells, instead of the sweep's", {"type": ["string", "array"]}),
    Key("block", "a name of the block, for `needs`", {"type": "string", "pattern": NAME}),
    Key(
        "needs", "the name of another block, or a list: each cell gets the files of its cells with equal settings",
        _LINES,
    ),
)  # fmt: skip
"""Keys of a `[[grid]]` block that are not settings."""

VALUES = (
    Key("values", "the values to try", _LIST),
    Key("linspace", "`[first, last, count]`: numbers at equal distances, both ends included", _SPACE),
    Key("logspace", "`[first, last, count]`: numbers at equal ratios, both ends included", _SPACE),
    Key("uniform", "`[low, high]`: a number drawn uniformly; needs `sample`", _BOUNDS),
    Key("loguniform", "`[low, high]`: a number whose logarithm is drawn uniformly; needs `sample`", _BOUNDS),
    Key(
        "integers",
        "`[low, high]`: an integer drawn uniformly, both ends included; needs `sample`",
        {**_BOUNDS, "items": {"type": "integer"}},
    ),
    Key("choice", "a list from which one value is drawn; needs `sample`", _LIST),
    Key("when", "an SQL predicate: the setting is left out of cells that do not match it", LINE),
)
"""Keys of a table that describes the values of a setting in a block: `lr = { logspace = [1e-4, 1e-1, 4] }`."""

RESOURCES = (
    Key(
        "cpus", "CPUs of a cell, 1 by default; its thread pools get as many threads",
        {**_PART_OR_WHOLE, "exclusiveMinimum": 0, "maximum": MAXIMA["cpus"]},
    ),
    Key("gpus", "GPUs of a cell; 0.5 shares one", {**_PART_OR_WHOLE, "minimum": 0, "maximum": MAXIMA["gpus"]}),
    Key("memory_gib", "memory of a cell, in GiB", {**POSITIVE, "maximum": MAXIMA["memory_gib"]}),
    Key("timeout_s", "seconds that a cell may run", {**POSITIVE, "maximum": MAX_TIMEOUT_S}),
    Key(
        "accelerator", "the type of the cell's GPUs by Ray's name, such as `\"H100\"`; needs `gpus`",
        {"type": "string", "pattern": NAME},
    ),
    Key(
        "custom", "amounts of the cluster's custom resources: `{ license = 1 }`",
        {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": POSITIVE},
    ),
    Key("retries", "retries after a cell's own error, 1 by default", {**NATURAL, "maximum": MAX_RETRIES}),
)  # fmt: skip
"""Keys of `[resources]` and of a block's `resources`."""

TABLES = {"keys": TOP, "blocks": BLOCK, "values": VALUES, "resources": RESOURCES}
"""Name of a table in `docs/sweeps.md` -> its keys."""

TOP_NAMES = tuple(key.name for key in TOP)
BLOCK_NAMES = tuple(key.name for key in BLOCK)
VALUE_NAMES = tuple(key.name for key in VALUES)
RESOURCE_NAMES = tuple(key.name for key in RESOURCES)


def properties(keys: tuple[Key, ...], more: Schema) -> Schema:
    """Build the JSON schemas of keys, with their descriptions.

    Args:
        keys: the keys.
        more: name -> schema, for keys without a schema of their own.
    """
    schemas = {key.name: more[key.name] if key.schema is None else key.schema for key in keys}
    return {key.name: {**schemas[key.name], "description": plain(key.doc)} for key in keys}


def plain(markdown: str) -> str:
    """Return Markdown text as a sentence without links, for editors."""
    text = re.sub(r" ?\(?\[([^]]*)\]\([^)]*\)\)?", lambda m: "" if m[0].endswith("))") else f" {m[1]}", markdown)
    return f"{text[:1].upper()}{text[1:]}."


def table(keys: tuple[Key, ...]) -> str:
    """Build the Markdown table of these keys."""
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key.name}` | {key.doc} |" for key in keys)])
