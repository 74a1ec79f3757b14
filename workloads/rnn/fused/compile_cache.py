"""A cache on disk of the functions that numba has compiled, keyed by a digest of their source files.

numba's own cache is keyed by the path of the source files. A Ray worker imports this package from a new folder at every
launch, so it would compile each time. This cache has one folder for each version of the source files. It lies in the
user's cache folder: `RAYSWEEP_CACHE`, otherwise `XDG_CACHE_HOME`, otherwise `~/.cache`.

Processes that need the same functions at the same time compile them once: one holds a lock, the others wait and load.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import filelock
import numba
from numba.core.caching import CacheImpl, _CacheLocator

F = TypeVar("F", bound=Callable[..., Any])
HERE = Path(__file__).resolve().parent
COMPILED = ("carry.py", "compile_cache.py", "elementwise.py", "kernel.py", "replay.py", "update.py")


MAX_WAIT_S = 300.0
"""Seconds to wait for another process that compiles. After that this process compiles, too: the other may have hung."""


def sources_digest() -> str:
    """Compute one digest of numba's version and of all files with compiled functions, which inline one another."""
    digest = hashlib.sha256(numba.__version__.encode())
    for name in COMPILED:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


DIGEST = sources_digest()


def cache_folder() -> Path:
    """Return the cache folder for this version of the source files, in the user's cache folder."""
    base = os.environ.get("RAYSWEEP_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "raysweep" / "kernels" / DIGEST


class BySource(_CacheLocator):
    """Tells numba where to cache this package's functions. For other functions numba uses its own locators."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        """Return the folder of the cached files."""
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        """Return the digest of the source files. A cached function with another digest is out of date."""
        return DIGEST

    def get_disambiguator(self) -> str:
        """Return the function's first line number, to distinguish functions of the same name in one file."""
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> BySource | None:
        """Return a locator if the function is in this package and the cache folder is writable; otherwise None."""
        if Path(file).resolve().parent != HERE:
            return None
        locator = cls(function)
        try:
            locator.ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            return None  # a read-only home
        return locator


CacheImpl._locator_classes.insert(0, BySource)  # type: ignore[arg-type]


@functools.cache
def _lock(folder: Path) -> filelock.FileLock:
    """Return this process's lock on a cache folder. The thread that holds it may take it again."""
    return filelock.FileLock(folder / "lock", timeout=MAX_WAIT_S)


def _compile_once(kernel: Any, compile_or_load: Callable[[Any], Any], signature: Any) -> Any:
    """Load a function for argument types, or compile it while no other process compiles.

    Args:
        kernel: numba's dispatcher of the function.
        compile_or_load: its method `compile`, which looks in the cache first.
        signature: numba's types of the arguments.
    """
    cache = kernel._cache
    key = cache._index_key(signature, kernel.targetctx.codegen())
    if key in cache._cache_file._load_index():
        return compile_or_load(signature)
    lock = _lock(Path(cache.cache_path))
    try:
        lock.acquire()
    except (filelock.Timeout, OSError, NotImplementedError):  # the latter two: a file system without locks
        return compile_or_load(signature)
    try:
        return compile_or_load(signature)
    finally:
        lock.release()


def compiled(function: F) -> F:
    """Compile a function by `numba.njit`, cached on disk. Sums may be reordered; NaN and infinity behave as usual."""
    return _compiled(function, {})


def compiled_part(function: F) -> F:
    """Do as `compiled` for a function that only compiled functions call.

    It takes less time, as the wrapper for Python is left out: a call from Python ends the process.
    """
    return _compiled(function, {"no_cpython_wrapper": True})


def _compiled(function: F, more: dict[str, Any]) -> F:
    flags = {"reassoc", "contract", "nsz"}
    options: dict[str, Any] = {"fastmath": flags, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    try:
        kernel: Any = numba.njit(cache=True, **options, **more)(function)
    except RuntimeError:  # no cache folder can be written: each process compiles for itself
        kernel = numba.njit(**options, **more)(function)
    else:
        kernel.compile = functools.partial(_compile_once, kernel, kernel.compile)
    return cast("F", kernel)
