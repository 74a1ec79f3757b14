"""A check for optional modules, which a plain `pip install raysweep` does not install.

`lacks` of the bundled workloads uses it.
"""

from __future__ import annotations

from importlib.util import find_spec


def missing_module(module: str, extra: str) -> str | None:
    """Return the installation command for a module that is not installed; otherwise None. Does not import it.

    Args:
        module: the module's import name.
        extra: the extra of raysweep that installs it.
    """
    if find_spec(module) is not None:
        return None
    return f"{module} is not installed: pip install 'raysweep[{extra}]'"
