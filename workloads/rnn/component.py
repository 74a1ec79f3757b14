"""Components: rules, architectures, optimisers and streams, each with settings of its own.

For example, `decay` belongs to the rule `traces`, and `leak` to the architecture `tanh_rnn`. In a workload's `Config`
such a field defaults to `None`. `resolve` replaces `None` by the chosen component's default, and refuses a value that
the chosen component does not use. So two cells that compute the same have the same settings, and a setting without
effect is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from raysweep.workloads.registry import Registry

Scalar = bool | int | float | str
T = TypeVar("T")


@dataclass(frozen=True)
class Component(Generic[T]):
    """A component by name: an entry of a registry of rules, architectures, optimisers or streams.

    Args:
        build: factory; takes the component's settings by keyword.
        defaults: the `Config` fields that belong to the component, each with the value that replaces `None`.
    """

    build: Callable[..., T]
    defaults: Mapping[str, Scalar] = field(default_factory=dict)

    def settings(self, config: Any) -> dict[str, Any]:
        """Return the component's settings from a complete config, as `settle` returns it."""
        return {name: getattr(config, name) for name in self.defaults}


AnyRegistry = Registry[Any]  # entries are `Component`s; dict is invariant, so there is no common base type


def owners(registry: AnyRegistry) -> dict[str, tuple[str, ...]]:
    """Map each setting to the entries of a registry that own it: `{"decay": ("traces",)}`."""
    entries: dict[str, tuple[str, ...]] = {}
    for name, component in registry.items():
        for setting in component.defaults:
            entries[setting] = (*entries.get(setting, ()), name)
    return entries


def resolve(
    label: str, chosen: str, registry: AnyRegistry, owned: Mapping[str, tuple[str, ...]], config: Any
) -> tuple[dict[str, Scalar], list[str]]:
    """Fill in the defaults of the chosen component, and find settings that it does not use.

    Args:
        label: the choice's name in messages ("method", "stream").
        chosen: the component's name in the registry.
        registry: all components of this kind.
        owned: `owners(registry)`, computed once, since this runs for each of a million cells.
        config: the config, whose fields are valid one by one.

    Returns:
        The settings by name, and the problems, one line each.
    """
    defaults = registry[chosen].defaults
    values: dict[str, Scalar] = {}
    problems: list[str] = []
    for name, names in owned.items():
        value = getattr(config, name)
        if name in defaults:
            values[name] = defaults[name] if value is None else value
        elif value is not None:
            problems.append(f"{name} has no effect on {label} {chosen!r}; it belongs to: {', '.join(names)}")
    return values, problems
