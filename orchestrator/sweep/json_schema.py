"""JSON schema of sweep files, with which editors complete and check them.

The schema is draft 7, which editors' TOML extensions support. Names and descriptions of keys come from `keys`. The
schema checks each key on its own. Problems between keys, such as a key that is both in `[config]` and varied, are
only reported by `sweep.spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raysweep.orchestrator.sweep.grammar.keys import (
    BLOCK,
    LINE,
    NATURAL,
    POSITIVE,
    RESOURCES,
    SCALAR,
    TOP,
    VALUE_NAMES,
    VALUES,
    Schema,
    properties,
)
from raysweep.orchestrator.sweep.grammar.outputs import MAX_FILES, MAX_MIB, NAN
from raysweep.orchestrator.sweep.programs.program import ARGS
from raysweep.orchestrator.sweep.programs.program_spec import CONFIG_FILES, MAX_COMMAND, PROGRAM_KEYS, TAKES

if TYPE_CHECKING:
    from raysweep.orchestrator.sweep.loading.workload import Workload

_VALUE: Schema = {"anyOf": [SCALAR, {"type": "array", "items": SCALAR}, {"$ref": "#/$defs/nested"}]}
"""Schema of a value in `[config]`."""
_DEFINITIONS: Schema = {
    "nested": {"type": "object", "minProperties": 1, "additionalProperties": _VALUE},
    "values": {
        "type": "object", "minProperties": 1, "additionalProperties": False, "properties": properties(VALUES, {}),
    },
    "varied": {
        "type": "object", "minProperties": 1, "properties": dict.fromkeys(VALUE_NAMES, False),
        "additionalProperties": {"$ref": "#/$defs/setting"},
    },
}  # fmt: skip
"""Shared definitions of the schema.

`nested` is a table of settings in `[config]`. `values` is a table that describes the values of one setting of a
block. `varied` is a table of settings in a block.
"""
_RESOURCES: Schema = {
    "type": "object", "additionalProperties": False, "properties": properties(RESOURCES, {}),
}  # fmt: skip
_PREDICATE: Schema = {"type": "string", "minLength": 1, "maxLength": 1000}
_QUESTION: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "metric"],
    "oneOf": [{"required": ["a", "b"]}, {"required": ["best_of"]}],
    "properties": {
        "name": {**_PREDICATE, "description": "Its name, unique in the file."},
        "metric": {**_PREDICATE, "description": "The metric that the workload returns."},
        "a": {**_PREDICATE, "description": "SQL predicate that selects the one setting: \"method = 'sgd'\"."},
        "b": {**_PREDICATE, "description": "SQL predicate that selects the other setting."},
        "best_of": {**_PREDICATE, "description": "SQL predicate that selects several settings."},
        "margin": {**POSITIVE, "description": "Differences smaller than this count as equal."},
        "better": {"enum": ["lower", "higher"], "default": "lower", "description": "The better direction."},
        "pair": {"enum": ["seed"], "default": "seed", "description": "What cells of both sides are paired by."},
    },
}

_TEXTS: Schema = {"anyOf": [LINE, {"type": "array", "items": LINE}]}
_PATTERN: Schema = {"type": "string", "minLength": 1, "description": "With one group, or groups `value` and `step`."}
_METRICS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "file": {**_TEXTS, "description": "Metrics files in the cell's folder: .json, .jsonl, .ndjson, .csv or .tsv."},
        "step": {**LINE, "description": "The column of metrics files that counts steps; default: step."},
        "patterns": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    _PATTERN,
                    {
                        "type": "object", "additionalProperties": False, "required": ["pattern"],
                        "properties": {"pattern": _PATTERN, "take": {"type": "string", "enum": list(TAKES)}},
                    },
                ]
            },
            "description": "Metric -> regular expression, searched in each line of output.",
        },
        "tensorboard": {**LINE, "description": "Folder of TensorBoard event files in the cell's folder; \".\" is it."},
        "json_lines": {"type": "boolean", "description": "Also read JSON objects on standard output."},
    },
}  # fmt: skip
_PROGRAM: Schema = {
    "command": {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_COMMAND},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ],
    },
    "script": {**LINE},
    "shell": {"type": "boolean"},
    "args": {"type": "string", "enum": list(ARGS)},
    "env": {
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {"type": "string"},
    },
    "config_file": {
        "type": "string", "pattern": f"({'|'.join(CONFIG_FILES).replace('.', '[.]')})$",
    },
    "metrics": {
        "anyOf": [LINE, _METRICS],
    },
    "files": {**_TEXTS},
    "links": {**_TEXTS},
}  # fmt: skip
_PATTERNS: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
_ARTIFACTS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "include": {**_PATTERNS, "description": "Patterns of the files that are kept; default: all."},
        "exclude": {**_PATTERNS, "description": "Patterns of files that are not kept."},
        "max_mib": {"type": "number", "minimum": 0, "maximum": MAX_MIB, "description": "MiB per attempt."},
        "max_files": {"type": "integer", "minimum": 0, "maximum": MAX_FILES, "description": "Files per attempt."},
    },
}


def schema(workload: Workload | None = None) -> Schema:
    """Build the schema of sweep files. With a workload, it also checks the workload's config keys and methods."""
    config, definitions = _config(workload)
    long: Schema = {
        **_PROGRAM,
        "config": {"type": "object", **config},
        "resources": _RESOURCES,
        "artifacts": _ARTIFACTS,
        "nan": {"enum": list(NAN)},
        "grid": {"type": "array", "minItems": 1, "items": _block(workload, config)},
        "question": {"type": "array", "items": _QUESTION},
    }
    programs = () if workload else ("command", "script")
    whats = [
        {"required": ["workload"], "properties": dict.fromkeys(PROGRAM_KEYS, False)},
        *({"required": [key], "properties": {"workload": False}} for key in programs),
    ]
    blocks = {"items": {"anyOf": [{"required": ["workload"]}, {"required": ["command"]}]}}
    in_blocks = [
        {"required": ["grid"], "properties": {"workload": False, "command": False, "script": False, "grid": blocks}},
        {
            "required": ["workload", "grid"],
            "properties": {"command": False, "script": False, "grid": {"contains": {"required": ["command"]}}},
        },
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A raysweep sweep" + (f" of {workload.name}" if workload else ""),
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["base"]}, {"required": ["seeds"], "anyOf": [{"oneOf": whats}, *in_blocks]}],
        "properties": properties(TOP, long),
        "$defs": {**_DEFINITIONS, "setting": _setting(SCALAR), **definitions},
    }


def _block(workload: Workload | None, config: Mapping[str, Any]) -> Schema:
    methods = None if workload is None else workload.methods
    method: Schema = LINE if methods is None else {"type": "string", "enum": sorted(methods)}
    keys = {name: _setting(value) for name, value in config.get("properties", {}).items()}
    own = {"method": {"anyOf": _one_or_many(method)}, "k": {"anyOf": _one_or_many(NATURAL)}, "resources": _RESOURCES}
    return {
        "type": "object",
        "properties": {**keys, **properties(BLOCK, own), "seed": False, "seeds": False},
        "required": [] if methods is None else ["method"],
        "additionalProperties": False if keys else {"$ref": "#/$defs/setting"},
    }


def _one_or_many(value: Schema) -> list[Schema]:
    return [value, {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}]


def _setting(value: Schema) -> Schema:
    """Build the schema of a setting in a block: a value, a list of values, or a table that describes values."""
    notes = {key: text for key, text in value.items() if key in {"description", "default"}}
    tables = [{"$ref": "#/$defs/values"}, {"$ref": "#/$defs/varied"}]
    return {**notes, "anyOf": [*_one_or_many(value), *tables]}


def _config(workload: Workload | None) -> tuple[Schema, Schema]:
    """Build the schema of `[config]`, and the definitions that this schema refers to."""
    if workload is None or workload.config_model is None:
        return {"additionalProperties": _VALUE}, {}
    model: Schema = workload.config_model.model_json_schema()
    config: Schema = {key: value for key, value in model.items() if key in {"properties", "additionalProperties"}}
    return config, model.get("$defs", {})
