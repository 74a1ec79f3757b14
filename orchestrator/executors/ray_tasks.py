"""Runs chunks as Ray tasks: on an embedded Ray by default, or on a running cluster.

Facts that bind (each would have hurt): a bare `ray.init()` attaches to any cluster a stale file names, so
the embedded one is asked for by `address="local"`; workers run at nice 15 and listen on every interface
unless told otherwise; without a `working_dir` a worker imports whatever lies in the current folder; Ray's
own retries would hide attempts, so there are none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.chunk import Beat, Chunk, ChunkDone, ChunkLost, Event
from orchestrator.errors import ClusterUnavailable
from orchestrator.executors.ray_worker import beat_key, fault_path, work

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every listener on loopback
    "RAY_worker_niceness": "0",  # else cells starve on a shared machine
    "RAY_task_events_report_interval_ms": "0",  # else the head grows with every task
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_OBJECT_STORE = 256 * 2**20  # results are small; a big one would be taken from the cells' memory
_RESOURCES_FOR_S = 5.0
_SKIP = {
    "results",
    "data",
    "build",
    "dist",
    "node_modules",
    "orchestrator",
    "workloads",
    "analysis",
    "__pycache__",
}


class RayExecutor:
    """A Ray cluster.

    Args:
        address: None for an embedded Ray on this machine; "auto" or HOST:PORT for a running cluster.
        ship: folders whose Python files workers need (where users' modules were found).
        gpus: GPUs of the embedded Ray; None lets Ray look.

    Raises:
        ClusterUnavailable: Ray did not start, or nothing answers at the address.
    """

    in_process = False

    def __init__(self, address: str | None = None, ship: Sequence[str] = (), gpus: int | None = None) -> None:
        if address is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
        else:
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # never enabled by itself for an address
        import ray

        self._ray: Any = ray
        self._launch = uuid.uuid4().hex[:12]
        self._folder = str(Path.cwd())
        self._refs: dict[Any, int] = {}
        self._slots: dict[tuple[float, float, float | None], tuple[float, int]] = {}
        self._heard: dict[bytes, bytes] = {}
        self._heard_at = 0.0
        self._submitted: dict[Any, Any] = {}
        stage = _stage(ship)
        try:
            environment: dict[str, Any] = {"working_dir": str(stage), "env_vars": dict.fromkeys(_THREADS, "1")}
            if address is None:
                # Ray pastes this path into a shell command as it is, and never says that a space broke it.
                environment["py_executable"] = shlex.quote(sys.executable)
            local: dict[str, Any] = {"num_gpus": gpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
            logging.getLogger("ray").setLevel(logging.ERROR)
            with _quiet():
                ray.init(
                    address=address or "local",
                    runtime_env=environment,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **(local if address is None else {}),
                )
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            where = f"Ray at {address}" if address else "an embedded Ray"
            raise ClusterUnavailable(f"{where} could not be reached: {str(error).splitlines()[0]}") from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)  # uploaded by now
        self._remote = ray.remote(max_retries=0)(work)

    def slots(self, cpus: float, gpus: float, memory_gib: float | None) -> int:
        """Chunks of this size that the nodes, all free, run at once."""
        key = (cpus, gpus, memory_gib)
        at, slots = self._slots.get(key, (-_RESOURCES_FOR_S, 0))
        if time.monotonic() - at > _RESOURCES_FOR_S:
            slots = sum(_times(node, cpus, gpus, memory_gib) for node in self._nodes())
            self._slots[key] = (time.monotonic(), slots)
        return slots

    def fits(self, cpus: float, gpus: float, memory_gib: float | None) -> str | None:
        """Why no node can run a cell of this size; None where one can."""
        nodes = self._nodes()
        if any(_times(node, cpus, gpus, memory_gib) for node in nodes):
            return None
        most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in ("CPU", "GPU", "memory")}
        return (
            f"the largest node offers {most['CPU']:g} CPUs, {most['GPU']:g} GPUs and {most['memory'] / 2**30:.1f} GiB"
        )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def submit(self, chunk: Chunk) -> None:
        """Start a task."""
        options: dict[str, Any] = {"num_cpus": chunk.cpus, "num_gpus": chunk.gpus}
        if chunk.memory_gib is not None:
            options["memory"] = int(chunk.memory_gib * 2**30)
        if chunk.cpus >= 2:
            options["runtime_env"] = {"env_vars": dict.fromkeys(_THREADS, str(int(chunk.cpus)))}
        key = tuple(sorted((k, str(v)) for k, v in options.items()))
        if key not in self._submitted:  # a remote function with its options, made once a size
            self._submitted[key] = self._remote.options(**options)
        self._refs[self._submitted[key].remote(chunk, self._launch, self._folder)] = chunk.number

    def poll(self, timeout: float) -> list[Event]:
        """Chunks that came home or were lost."""
        refs = list(self._refs)
        if not refs:
            return []
        ready, rest = self._ray.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)
        if ready and rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        return [self._event(ref, self._refs.pop(ref)) for ref in ready]

    def _event(self, ref: Any, number: int) -> Event:
        errors = self._ray.exceptions
        try:
            return ChunkDone(self._ray.get(ref))
        except errors.OutOfMemoryError as error:
            message = f"{_line(error)} (ask for memory in [resources]: memory_gib = ...)"
            return ChunkLost(number, "out_of_memory", message)
        except errors.WorkerCrashedError:
            return self._crashed(number)
        except errors.RayTaskError as error:  # our own code failed on the worker: it can't import, say
            return ChunkLost(number, "failed", _line(error), traceback=str(error)[-16_384:])
        except errors.RayError as error:
            return ChunkLost(number, "lost", f"{type(error).__name__}: {_line(error)}")

    def _crashed(self, number: int) -> ChunkLost:
        """What the dying worker left behind, where it ran on this machine."""
        path = fault_path(self._launch, number)
        message = "its worker process died (killed, a crash in native code, or os._exit)"
        if not path.is_file():
            return ChunkLost(number, "crashed", message)
        first, _, stack = path.read_text(encoding="utf-8", errors="replace").partition("\n")
        path.unlink(missing_ok=True)
        position = int(first) if first.isdigit() else None
        if not stack and position is None:
            return ChunkLost(number, "crashed", message, traceback=first or None)
        if stack.startswith("Timeout"):
            message = "ran past its timeout without reacting; its worker was ended"
            return ChunkLost(number, "timed_out", message, position, stack)
        return ChunkLost(number, "crashed", message, None, stack or None)

    def beats(self) -> Iterable[Beat]:
        """What workers wrote since the last call; asked at most once a second."""
        from ray.experimental import internal_kv

        if time.monotonic() - self._heard_at < 1.0:
            return []
        self._heard_at = time.monotonic()
        heard = []
        for key in internal_kv._internal_kv_list(beat_key(self._launch, "")):
            value = internal_kv._internal_kv_get(key)
            if value is not None and self._heard.get(key) != value:
                self._heard[key] = value
                heard.append(Beat(**json.loads(value)))
        return heard

    def kill(self, number: int) -> None:
        """End a chunk's worker; its ref is forgotten."""
        for ref, flying in list(self._refs.items()):
            if flying == number:
                del self._refs[ref]
                self._ray.cancel(ref, force=True)

    def close(self) -> None:
        """End running chunks and leave the cluster (which ends an embedded one)."""
        for ref in list(self._refs):
            self._ray.cancel(ref, force=True)
        self._refs.clear()
        self._ray.shutdown()


def _times(node: dict[str, float], cpus: float, gpus: float, memory_gib: float | None) -> int:
    times = [node.get("CPU", 0.0) / cpus]
    if gpus:
        times.append(node.get("GPU", 0.0) / gpus)
    if memory_gib:
        times.append(node.get("memory", 0.0) / (memory_gib * 2**30))
    return int(min(times) + 1e-9)


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[-1][:500] if text else type(error).__name__


def _stage(ship: Sequence[str]) -> Path:
    """A folder with what workers import: our two packages and the users' Python files."""
    import orchestrator
    import workloads

    stage = Path(tempfile.mkdtemp(prefix="raysweep-ship-"))
    for package in (orchestrator, workloads):
        source = Path(package.__path__[0])
        shutil.copytree(source, stage / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ship:
        for path in sorted(Path(folder).iterdir()):
            if path.name.startswith(".") or path.name in _SKIP:
                continue
            if path.suffix == ".py" and path.is_file():
                shutil.copy2(path, stage / path.name)
            elif (path / "__init__.py").is_file():
                shutil.copytree(path, stage / path.name, ignore=_only_python, dirs_exist_ok=True)
    return stage


def _only_python(folder: str, names: list[str]) -> set[str]:
    kept = {
        n for n in names if n.endswith(".py") or ((Path(folder) / n).is_dir() and n not in {"__pycache__", "results"})
    }
    return set(names) - {n for n in kept if not n.startswith(".")}


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """Keep Ray's start-up notices off the user's terminal; errors still come as exceptions."""
    logger = logging.getLogger("ray._private.authentication.authentication_token_setup")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
