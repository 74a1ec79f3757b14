"""Compiled kernels on disk, found again by what they were compiled from, not by where that lay.

A Ray worker imports this package from a folder that is new at every launch, so numba's own cache, which goes by
the folder, would compile again each time. Ours is one folder a version of the sources, below the user's cache
folder (`RAYSWEEP_CACHE`, else `XDG_CACHE_HOME`, else `~/.cache`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import CacheImpl, _CacheLocator

F = TypeVar("F", bound=Callable[..., Any])
HERE = Path(__file__).resolve().parent


COMPILED = ("carry.py", "compile_cache.py", "elementwise.py", "kernel.py", "replay.py", "update.py")


def sources_digest() -> str:
    """Of all files that hold compiled functions: a kernel inlines the others."""
    digest = hashlib.sha256(numba.__version__.encode())
    for name in COMPILED:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


DIGEST = sources_digest()


def cache_folder() -> Path:
    """Where this version's kernels lie."""
    base = os.environ.get("RAYSWEEP_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "raysweep" / "kernels" / DIGEST


class BySource(_CacheLocator):
    """Takes this package's functions only; numba asks its other locators for the rest."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        """The folder."""
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        """What a stored kernel must have been compiled from."""
        return DIGEST

    def get_disambiguator(self) -> str:
        """Tells functions of one name apart."""
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> BySource | None:
        """Ours, if the function is and the folder can be written."""
        if Path(file).resolve().parent != HERE:
            return None
        locator = cls(function)
        try:
            locator.ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            return None  # a read-only home
        return locator


CacheImpl._locator_classes.insert(0, BySource)  # type: ignore[arg-type]


def compiled(function: F) -> F:
    """`numba.njit`, cached on disk; sums may be reordered, NaN and infinity keep their meaning."""
    flags = {"reassoc", "contract", "nsz"}
    made: dict[str, Any] = {"fastmath": flags, "nogil": True, "error_model": "numpy"}
    try:
        kernel: Any = numba.njit(cache=True, **made)(function)
    except RuntimeError:  # no folder anywhere that can be written: compiled in each process, nothing worse
        kernel = numba.njit(**made)(function)
    return cast("F", kernel)
