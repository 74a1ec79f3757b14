"""What a workload can be asked for, for people: its methods and settings, their defaults and what is valid."""

from __future__ import annotations

import inspect
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from raysweep.workloads import WORKLOADS

if TYPE_CHECKING:
    from raysweep.orchestrator.sweep.workload import Workload


class Setting(NamedTuple):
    """A key of `[config]`, of `[[grid]]` or for `--set`."""

    name: str
    default: str  # as TOML; empty: none, or as the method has it
    valid: str
    about: str


def settings(workload: Workload) -> list[Setting]:
    """By the workload's `Config`, in its order; none where it declares none and takes any key."""
    if workload.config_model is None:
        return []
    made: dict[str, Any] = workload.config_model.model_json_schema()
    required = made.get("required", [])
    return [
        Setting(
            name,
            "required" if name in required else _value(about.get("default")),
            _valid(about),
            about.get("description", ""),
        )
        for name, about in made.get("properties", {}).items()
    ]


def title(workload: Workload) -> str:
    """The first paragraph's first sentence of its module's docstring; empty where it has none."""
    text = inspect.getdoc(sys.modules[workload.module]) or ""
    return " ".join(text.partition("\n\n")[0].split())


def ours() -> list[str]:
    """The names of raysweep's own."""
    return sorted(WORKLOADS)


def _value(default: object) -> str:
    return "" if default is None else json.dumps(default, ensure_ascii=False)


def _valid(about: dict[str, Any]) -> str:
    """What a value may be, in words."""
    kinds = [kind for kind in about.get("anyOf", [about]) if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(map(_kind, kinds)))


def _kind(about: dict[str, Any]) -> str:
    if "enum" in about:
        return ", ".join(map(_value, about["enum"]))
    kind = _NAMES.get(about.get("type", ""), about.get("type", "any"))
    bounds = [
        f"{words} {about[key]:g}"
        for key, words in (
            ("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below"),
        )
        if key in about
    ]  # fmt: skip
    return " ".join([kind, *bounds])


_NAMES = {"string": "text", "boolean": "true, false", "array": "list"}
