"""Registry entries that are built from a cell's settings, and who owns which setting.

A rule, an architecture, an optimiser and a stream each have settings of their own (`decay` belongs to the
rule `traces`, `leak` to the architecture `tanh_rnn`). In a workload's `Config` such a field is `None` unless
given; settling a cell fills it from the chosen entry's `defaults` and refuses it where the chosen entry has
none. So two cells that compute the same have the same settings, and a setting without effect is an error, not
a surprise.
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
        build: makes it from its own settings, given by keyword.
        defaults: the `Config` fields that are its own, each with the value that `None` stands for.
    """

    build: Callable[..., T]
    defaults: Mapping[str, Scalar] = field(default_factory=dict)

    def settings(self, config: Any) -> dict[str, Any]:
        """Its own settings out of a settled config."""
        return {name: getattr(config, name) for name in self.defaults}


AnyRegistry = Registry[Any]  # of some `Component`; dict is invariant, so no common base would fit


def owners(registry: AnyRegistry) -> dict[str, tuple[str, ...]]:
    """Which entries own each setting of a registry: `{"decay": ("traces",)}`."""
    found: dict[str, tuple[str, ...]] = {}
    for name, component in registry.items():
        for setting in component.defaults:
            found[setting] = (*found.get(setting, ()), name)
    return found


def resolve(
    label: str, chosen: str, registry: AnyRegistry, owned: Mapping[str, tuple[str, ...]], config: Any
) -> tuple[dict[str, Scalar], list[str]]:
    """The settings that the chosen entry uses, and the given ones that it does not.

    Args:
        label: what the user calls the choice ("method", "stream").
        chosen: a name in the registry.
        registry: the kind's entries.
        owned: `owners(registry)`, computed once (this runs for each of a million cells).
        config: a validated config.

    Returns:
        The chosen entry's settings with defaults filled in, and one line for each problem.
    """
    defaults = registry[chosen].defaults
    values: dict[str, Scalar] = {}
    problems: list[str] = []
    for name, names in owned.items():
        given = getattr(config, name)
        if name in defaults:
            values[name] = defaults[name] if given is None else given
        elif given is not None:
            problems.append(f"{name} has no effect on {label} {chosen!r}; it belongs to: {', '.join(names)}")
    return values, problems
