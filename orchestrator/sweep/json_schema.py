"""JSON schema of sweep files, with which editors complete and check them.

It is draft 7, which editors' TOML extensions support. It checks each key on its own; only `sweep.spec` also compares
keys, and finds for example a config key that is both in `[config]` and varied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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


def schema(workload: Workload | None = None) -> Schema:
    """Schema of all sweep files, or of one workload's, which includes the workload's config keys and methods."""
    config, definitions = _config(workload)
    description = "Shared settings; a key is either here or in [[grid]] blocks, not in both."
    result: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A raysweep sweep" + (f" of {workload.name}" if workload else ""),
        "type": "object",
        "additionalProperties": False,
        "required": ["workload", "seeds", "grid"],
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
            "seeds": {
                "description": "A list, or a range \"0..19\" with both ends.",
                "anyOf": [
                    {"type": "array", "items": _NATURAL, "minItems": 1, "uniqueItems": True},
                    {"type": "string", "pattern": "^\\s*\\d{1,18}\\s*\\.\\.\\s*\\d{1,18}\\s*$"},
                ],
            },
            "config": {"type": "object", "description": description, **config},
            "resources": _RESOURCES,
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
        "required": ["method"],
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
    """Schema of a value, or of a list of values to vary."""
    notes = {key: text for key, text in value.items() if key in {"description", "default"}}
    return {**notes, "anyOf": [value, {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}]}


def _config(workload: Workload | None) -> tuple[Schema, Schema]:
    """The schema of `[config]`, and the definitions that it refers to."""
    if workload is None or workload.config_model is None:
        return {"additionalProperties": _VALUE}, {}
    model: Schema = workload.config_model.model_json_schema()
    config: Schema = {key: value for key, value in model.items() if key in {"properties", "additionalProperties"}}
    return config, model.get("$defs", {})
