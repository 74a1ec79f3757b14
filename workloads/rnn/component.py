"""Components: registry entries built from a cell's settings, each owning some of them.

Rules, architectures, optimisers and streams have settings of their own (`decay` belongs to the rule `traces`, `leak` to
the architecture `tanh_rnn`). In a workload's `Config` such a field defaults to `None`; `resolve` replaces `None` by the
chosen component's default and refuses a value that the chosen component does not use. So two cells that compute the
same have the same settings, and a setting without effect is an error.
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
    """One named choice of a kind.

    Args:
        build: factory; takes the component's settings by keyword.
        defaults: the `Config` fields it owns, each with the value that replaces `None`.
    """

    build: Callable[..., T]
    defaults: Mapping[str, Scalar] = field(default_factory=dict)

    def settings(self, config: Any) -> dict[str, Any]:
        """Its settings from a settled config."""
        return {name: getattr(config, name) for name in self.defaults}


AnyRegistry = Registry[Any]  # entries are `Component`s; dict is invariant, so there is no common base type


def owners(registry: AnyRegistry) -> dict[str, tuple[str, ...]]:
    """Owners of each setting of a registry: `{"decay": ("traces",)}`."""
    entries: dict[str, tuple[str, ...]] = {}
    for name, component in registry.items():
        for setting in component.defaults:
            entries[setting] = (*entries.get(setting, ()), name)
    return entries


def resolve(
    label: str, chosen: str, registry: AnyRegistry, owned: Mapping[str, tuple[str, ...]], config: Any
) -> tuple[dict[str, Scalar], list[str]]:
    """Settings of the chosen entry with defaults filled in, and problems: settings it does not use.

    Args:
        label: the choice's name in messages ("method", "stream").
        chosen: a name in the registry.
        registry: the kind's entries.
        owned: `owners(registry)`, computed once (this runs for each of a million cells).
        config: a validated config.
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
