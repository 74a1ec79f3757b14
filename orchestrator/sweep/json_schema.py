"""JSON schema of sweep files, with which editors complete and check them.

It is draft 7, which editors' TOML extensions support. It checks each key on its own. Only `sweep.spec` compares keys:
for example, it refuses a config key that is both in `[config]` and varied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raysweep.orchestrator.sweep.outputs import MAX_FILES, MAX_MIB, NAN
from raysweep.orchestrator.sweep.program import ARGS
from raysweep.orchestrator.sweep.program_spec import CONFIG_FILES, MAX_COMMAND, PROGRAM_KEYS, TAKES
from raysweep.orchestrator.sweep.spec import MAX_RETRIES, MAX_TIMEOUT_S

if TYPE_CHECKING:
    from raysweep.orchestrator.sweep.workload import Workload

Schema = dict[str, Any]

_LINE: Schema = {"type": "string", "minLength": 1, "maxLength": 300, "pattern": "^[^\\x00-\\x1f]*$"}
_NATURAL: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_VALUE: Schema = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}
_PART_OR_WHOLE: Schema = {"anyOf": [{"type": "number", "maximum": 1}, {"type": "integer"}]}
"""Number of CPUs or GPUs: a fraction of one, or a whole number."""
_POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
_RESOURCES: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "cpus": {
            **_PART_OR_WHOLE, "exclusiveMinimum": 0, "maximum": 1e6,
            "description": "CPUs of a cell; its thread pools get as many threads.",
        },
        "gpus": {**_PART_OR_WHOLE, "minimum": 0, "maximum": 1e6, "description": "GPUs of a cell; 0.5 shares one."},
        "memory_gib": {**_POSITIVE, "maximum": 1e9, "description": "Memory of a cell, GiB."},
        "timeout_s": {**_POSITIVE, "maximum": MAX_TIMEOUT_S, "description": "Seconds a cell may run."},
        "retries": {**_NATURAL, "maximum": MAX_RETRIES, "description": "Retries after a cell's own error."},
    },
    "description": "Resources that a cell runs with; never part of its id.",
}  # fmt: skip
_FILES: Schema = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1, "maxLength": 1000}}
_INPUTS: Schema = {
    "anyOf": [
        _FILES,
        {
            "type": "object", "additionalProperties": False, "required": ["files"],
            "properties": {
                "files": _FILES,
                "identity": {"type": "boolean", "description": "Whether other content makes new cells."},
            },
        },
    ],
    "description": "Files that cells read, relative to the sweep file's folder. A change makes done cells changed.",
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
        "margin": {**_POSITIVE, "description": "Differences smaller than this count as equal."},
        "better": {"enum": ["lower", "higher"], "default": "lower", "description": "The better direction."},
        "pair": {"enum": ["seed"], "default": "seed", "description": "What cells of both sides are paired by."},
    },
}

_TEXTS: Schema = {"anyOf": [_LINE, {"type": "array", "items": _LINE}]}
_PATTERN: Schema = {"type": "string", "minLength": 1, "description": "With one group, or groups `value` and `step`."}
_METRICS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "file": {**_TEXTS, "description": "Metrics files in the cell's folder: .json, .jsonl, .ndjson, .csv or .tsv."},
        "step": {**_LINE, "description": "The column of metrics files that counts steps; default: step."},
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
        "tensorboard": {**_LINE, "description": "Folder of TensorBoard event files in the cell's folder; \".\" is it."},
        "json_lines": {"type": "boolean", "description": "Also read JSON objects on standard output."},
    },
}  # fmt: skip
_PROGRAM: Schema = {
    "command": {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_COMMAND},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ],
        "description": "A program instead of a workload: a command line with {placeholders} of settings and {seed}.",
    },
    "script": {**_LINE, "description": "A script, for `command = \"python SCRIPT {args}\"`."},
    "shell": {"type": "boolean", "description": "Run the command by /bin/sh, with quoted values."},
    "args": {"type": "string", "enum": list(ARGS), "description": "The form of the settings for which {args} stands."},
    "env": {
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {"type": "string"},
        "description": "Environment variables, with placeholders.",
    },
    "config_file": {
        "type": "string", "pattern": f"({'|'.join(CONFIG_FILES).replace('.', '[.]')})$",
        "description": "A file in the cell's folder that is written with the settings.",
    },
    "metrics": {
        "anyOf": [_LINE, _METRICS],
        "description": "Where metrics are read; default: JSON objects on standard output.",
    },
    "files": {**_TEXTS, "description": "Files and folders that are shipped, and part of the source digest."},
    "links": {**_TEXTS, "description": "Files and folders that every machine has, linked into the cell's folder."},
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
    "description": "Files of a cell's folder that the store keeps; never part of its id.",
}


def schema(workload: Workload | None = None) -> Schema:
    """Build the schema of all sweep files, or of one workload's, with its config keys and methods."""
    config, definitions = _config(workload)
    description = "Shared settings; a key is either here or in [[grid]] blocks, not in both."
    programs = () if workload else ("command", "script")
    result: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A raysweep sweep" + (f" of {workload.name}" if workload else ""),
        "type": "object",
        "additionalProperties": False,
        "required": ["seeds"],
        "oneOf": [
            {
                "required": ["workload", "grid"],
                "properties": {"grid": {"items": {"required": ["method"]}}, **dict.fromkeys(PROGRAM_KEYS, False)},
            },
            *({"required": [key], "properties": {"workload": False}} for key in programs),
        ],
        "properties": {
            "name": {
                "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
                "description": "Default: the file's name.",
            },
            "title": {**_LINE, "minLength": 0, "description": "One line, for people."},
            "experiment": {**_LINE, "description": "The key column `experiment`; default: the name."},
            "workload": {
                **_LINE, "description": "A bundled workload, or \"package.module:function\" of yours."
            },
            **_PROGRAM,
            "seeds": {
                "description": "A list, or a range \"0..19\" with both ends.",
                "anyOf": [
                    {"type": "array", "items": _NATURAL, "minItems": 1, "uniqueItems": True},
                    {"type": "string", "pattern": "^\\s*\\d{1,18}\\s*\\.\\.\\s*\\d{1,18}\\s*$"},
                ],
            },
            "config": {"type": "object", "description": description, **config},
            "resources": _RESOURCES,
            "artifacts": _ARTIFACTS,
            "inputs": _INPUTS,
            "nan": {"enum": list(NAN), "description": "Whether a metric that is NaN or infinite fails the cell."},
            "grid": {
                "type": "array", "minItems": 1, "items": _block(workload, config),
                "description": "Each block is the product of its lists.",
            },
            "question": {
                "type": "array", "items": _QUESTION,
                "description": "Questions that `raysweep questions` answers; never part of a cell's id.",
            },
        },
    }  # fmt: skip
    if definitions:
        result["$defs"] = definitions
    return result


def _block(workload: Workload | None, config: Mapping[str, Any]) -> Schema:
    method: Schema = dict(_LINE)
    if workload is not None and workload.methods is not None:
        method = {"type": "string", "enum": sorted(workload.methods)}
    keys = {name: _axis(value) for name, value in config.get("properties", {}).items()}
    return {
        "type": "object",
        "properties": {
            "method": {**_axis(method), "description": "The key column `method`; a list makes cells of each method."},
            "k": {**_axis(_NATURAL), "description": "The key column `k`; may be left out."},
            "resources": _RESOURCES,
            "seed": False,
            "seeds": False,
            **keys,
        },
        "additionalProperties": False if keys else _axis(_SCALAR),
    }


def _axis(value: Schema) -> Schema:
    """Build the schema for either a value or a list of values to vary."""
    notes = {key: text for key, text in value.items() if key in {"description", "default"}}
    return {**notes, "anyOf": [value, {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}]}


def _config(workload: Workload | None) -> tuple[Schema, Schema]:
    """Build the schema of `[config]`, and the definitions that this schema refers to."""
    if workload is None or workload.config_model is None:
        return {"additionalProperties": _VALUE}, {}
    model: Schema = workload.config_model.model_json_schema()
    config: Schema = {key: value for key, value in model.items() if key in {"properties", "additionalProperties"}}
    return config, model.get("$defs", {})
