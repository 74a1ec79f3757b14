"""A cache of compiled kernels on disk, keyed by a digest of their sources.

numba's own cache is keyed by the path of the sources. A Ray worker imports this package from a new folder at every
launch, so it would compile each time. This cache has one folder for each version of the sources, in the user's cache
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
    """Digest of all files that hold compiled functions: all of them, as a kernel inlines functions of other files."""
    digest = hashlib.sha256(numba.__version__.encode())
    for name in COMPILED:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


DIGEST = sources_digest()


def cache_folder() -> Path:
    """The folder of this version's kernels."""
    base = os.environ.get("RAYSWEEP_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "raysweep" / "kernels" / DIGEST


class BySource(_CacheLocator):
    """Tells numba where to cache this package's functions; for others it goes on to its own locators."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        """The folder of the cached files."""
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        """The digest of the sources; a cached kernel with another one is out of date."""
        return DIGEST

    def get_disambiguator(self) -> str:
        """The line, which tells apart functions of the same name."""
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> BySource | None:
        """A locator if the function is in this package and the cache folder can be written, else None."""
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
    """`numba.njit`, cached on disk; sums may be reordered, NaN and infinity behave as usual."""
    flags = {"reassoc", "contract", "nsz"}
    options: dict[str, Any] = {"fastmath": flags, "nogil": True, "error_model": "numpy"}
    try:
        kernel: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no cache folder can be written: each process compiles for itself
        kernel = numba.njit(**options)(function)
    return cast("F", kernel)
