"""Runs chunks as Ray tasks: on an embedded Ray by default, or on a running cluster.

Facts that bind (each would have hurt): a bare `ray.init()` attaches to any cluster a stale file names, so
the embedded one is asked for by `address="local"`; workers run at nice 15 and listen on every interface
unless told otherwise; a worker imports whatever lies in the driver's current folder, or in a `working_dir`;
Ray's own retries would hide attempts, so there are none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raysweep.orchestrator.errors import ClusterUnavailable, InputError
from raysweep.orchestrator.executors.executor import Waiting
from raysweep.orchestrator.executors.ray.autoscaler import SPEAKS_S, Scaling
from raysweep.orchestrator.executors.ray.cleanup import LaunchFolder, end_leftovers
from raysweep.orchestrator.executors.ray.liveness import LOOK_S, HealthMonitor, InFlight, killed_beside_another
from raysweep.orchestrator.executors.ray.packaging import stage_code
from raysweep.orchestrator.executors.ray.worker import fault_path, work
from raysweep.orchestrator.executors.resources import (
    Autoscaler,
    Demand,
    largest,
    listed,
    needs,
    nodes_to_avoid,
    selector,
    times,
)
from raysweep.orchestrator.run.messages import Beat, Chunk, ChunkDone, ChunkLost, ChunkReturned, Event
from raysweep.orchestrator.run.threads import VARIABLES, environment
from raysweep.orchestrator.store.storage.storage import SETTINGS
from raysweep.workloads.datasets.dataset import VARIABLE

KEEPALIVE = {
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "2000",
}
"""A frozen node is dead after 12 s instead of 67 s, where head, nodes and driver have these."""

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every listener on loopback
    "RAY_worker_niceness": "0",  # else cells starve on a shared machine
    "RAY_task_events_report_interval_ms": "0",  # else the head grows with every task
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OURS = (VARIABLE, *SETTINGS)  # of the launch's environment: what a cluster's workers would not inherit
_OBJECT_STORE = 256 * 2**20  # results are small; a big one would be taken from the cells' memory
_RESOURCES_FOR_S = 5.0
CONNECT_S = 10.0
START_S = 120.0
"""How long an embedded Ray's first worker may take to give a sign of life."""


class RayExecutor:
    """A Ray cluster.

    Args:
        address: None for an embedded Ray on this machine; "auto" or HOST:PORT for a running cluster.
        ship: folders whose Python files workers need (where users' modules were found), and more files of each.
        gpus: GPUs of the embedded Ray; None lets Ray look.

    Raises:
        ClusterUnavailable: Ray did not start, or nothing answers at the address.
    """

    def __init__(
        self,
        address: str | None = None,
        ship: Mapping[str, Sequence[Path]] = MappingProxyType({}),
        gpus: int | None = None,
    ) -> None:
        for name, value in (_ENVIRONMENT if address is None else KEEPALIVE).items():
            os.environ.setdefault(name, value)
        if address is not None:
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # never enabled by itself for an address
            # In a Ray job: workers get what this launch ships, not what the job was submitted with.
            os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
        import ray

        self._ray: Any = ray
        # Ray prints its notices on workers' deaths into the driver's stdout, whatever it is told; they are rows here.
        ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
        self._launch = uuid.uuid4().hex[:12]
        self._folder = str(Path.cwd())
        self._flights: dict[int, InFlight] = {}
        self._slots: dict[Demand, tuple[float, int]] = {}
        self._waiting_since: dict[Demand, float] = {}
        self._waits: tuple[float, list[Waiting]] = (-LOOK_S, [])
        self._beats: list[Beat] = []
        self._headless = self._closed = False
        self._submitted: dict[Any, Any] = {}
        self._embedded = address is None
        self._heard_of = False  # whether any worker has given a sign of life
        self._submitted_at: float | None = None
        for line in end_leftovers():
            logging.getLogger("raysweep").warning(line)
        self._own = LaunchFolder(self._launch)
        stage = self._own.path / "ship"
        try:
            stage_code(stage, ship)
        except OSError as error:  # of several files, shutil gives a list of (from, to, why)
            self._own.remove()
            why = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
            raise ClusterUnavailable(f"what workers import could not be copied to {stage}: {why}") from None
        logging.getLogger("ray").setLevel(logging.ERROR)
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            with _quiet():
                if address is not None:
                    variables = dict.fromkeys(VARIABLES, "1") | {
                        name: os.environ[name] for name in _OURS if name in os.environ
                    }
                    ray.init(address, runtime_env={"working_dir": str(stage), "env_vars": variables}, **common)
                    shutil.rmtree(stage)  # uploaded by now
                else:
                    # No runtime environment: Ray would start its workers twice, 1.4 s. They inherit the variables
                    # and import from the current folder, which stays for as long as they do.
                    with contextlib.chdir(stage), environment(dict.fromkeys(VARIABLES, "1")):
                        ray.init(
                            "local",
                            num_gpus=gpus,
                            include_dashboard=False,
                            object_store_memory=_OBJECT_STORE,
                            **common,
                        )
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            self._own.remove()
            where = f"Ray at {address}" if address else "an embedded Ray"
            raise ClusterUnavailable(f"{where} could not be reached: {str(error).splitlines()[0]}") from error
        self._remote = ray.remote(max_retries=0)(work)
        if self._embedded:
            node: Any = ray._private.worker.global_worker.node
            self._own.note(Path(node.get_session_dir_path()).name)
        self._watch = HealthMonitor(ray, self._launch, drains=not self._embedded)
        self._scaling = None if self._embedded else Scaling(ray, self._watch.store, self._watch.answers)

    def slots(self, cpus: float, gpus: float, memory_gib: float | None) -> int:
        """Chunks of this size that the nodes, all free, run at once, and what an autoscaler is to bring beside them."""
        size = Demand(cpus, gpus, memory_gib)
        at, slots = self._slots.get(size, (-_RESOURCES_FOR_S, 0))
        if time.monotonic() - at > _RESOURCES_FOR_S:
            slots = sum(times(offers, size) for offers in self._nodes_for(size).values())
            scaling = self.autoscaler()
            slots += scaling.wanted(size, slots) if scaling else 0
            self._slots[size] = (time.monotonic(), slots)
        return slots

    def fits(self, cpus: float, gpus: float, memory_gib: float | None) -> str | None:
        """Why no node can run a cell of this size, nor one that an autoscaler may start; None where one can."""
        size = Demand(cpus, gpus, memory_gib)
        nodes = self.nodes()
        if any(times(node, size) for node in nodes):
            return None
        scaling = self.autoscaler(patient=True)
        if scaling and scaling.may_run(size):
            return None
        reason = f"the largest node offers {largest(nodes)}"
        return f"{reason}; no node type has more: {listed(scaling) or 'it starts none'}" if scaling else reason

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each node that is alive."""
        return list(self._watch.nodes().values())

    def autoscaler(self, patient: bool = False) -> Autoscaler | None:
        """What may start more nodes; None where nothing does. `patient`: one that has just begun says nothing yet."""
        if self._scaling is None:
            return None
        found = self._scaling.find()
        if found is None and patient:
            time.sleep(SPEAKS_S)
            found = self._scaling.find()
        return found

    def _avoided(self, size: Demand) -> set[str]:
        """Nodes that a cell of this size is kept off: those that do not answer, and GPUs' nodes where it needs none."""
        scaling = self.autoscaler()
        others = scaling is not None and scaling.without_gpus(size)
        return nodes_to_avoid(self._watch.nodes(), self._watch.shunned, size, others)

    def _nodes_for(self, size: Demand) -> dict[str, dict[str, float]]:
        avoided = self._avoided(size)
        return {node: offers for node, offers in self._watch.nodes().items() if node not in avoided}

    def submit(self, chunk: Chunk) -> None:
        """Start a task."""
        options: dict[str, Any] = {"num_cpus": chunk.cpus, "num_gpus": chunk.gpus}
        if chunk.memory_gib is not None:
            options["memory"] = int(chunk.memory_gib * 2**30)
        if chunk.cpus >= 2:
            options["runtime_env"] = {"env_vars": dict.fromkeys(VARIABLES, str(int(chunk.cpus)))}
            if self._embedded:
                # Ray pastes this path into a shell command as it is, and never says that a space broke it.
                options["runtime_env"]["py_executable"] = shlex.quote(sys.executable)
        size = Demand(chunk.cpus, chunk.gpus, chunk.memory_gib)
        scaling = self.autoscaler()
        labels = selector(self._avoided(size), scaling.keep_off_gpus(size) if scaling else {})
        if labels:
            options["label_selector"] = labels
        key = tuple(sorted((k, str(v)) for k, v in options.items()))
        if key not in self._submitted:  # a remote function with its options, made once a size
            self._submitted[key] = self._remote.options(**options)
        self._submitted_at = self._submitted_at or time.monotonic()
        ref = self._submitted[key].remote(chunk, self._launch, self._folder)
        self._flights[chunk.number] = InFlight(chunk.number, ref, time.monotonic(), size)

    def poll(self, timeout: float) -> list[Event]:
        """Chunks that came home or were lost."""
        numbers = {flight.ref: flight.number for flight in self._flights.values()}
        refs = list(numbers)
        if not refs:
            return []
        try:
            events = self._look()
        except ClusterUnavailable:
            self._headless = True
            raise
        if events:
            return events
        ready, rest = self._ray.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)
        if ready and rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        self._heard_of = self._heard_of or bool(ready)
        self._refuse_silence()
        return [self._event(self._flights.pop(numbers[ref])) for ref in ready]

    def _look(self) -> list[Event]:
        seen = self._watch.look(self._flights)
        self._beats += seen.beats
        self._heard_of = self._heard_of or bool(seen.beats)
        events: list[Event] = [ChunkLost(number, "lost", why) for number, why in seen.given_up.items()]
        events += [ChunkReturned(number) for number in seen.back]
        for event in events:
            self.kill(event.number)  # type: ignore[union-attr]
        return events

    def _refuse_silence(self) -> None:
        """An embedded Ray has nobody else's work to wait for: workers that do not start now never will."""
        if self._heard_of or not self._embedded or self._submitted_at is None:
            return
        if time.monotonic() - self._submitted_at > START_S:
            raise ClusterUnavailable(
                f"Ray is up, but none of its workers has started in {START_S:g} s; its logs are in "
                f"{self._ray._private.worker.global_worker.node.get_logs_dir_path()} (python-core-worker*, raylet.out)"
            )

    def _event(self, flight: InFlight) -> Event:
        errors, number = self._ray.exceptions, flight.number
        try:
            return ChunkDone(self._ray.get(flight.ref))
        except errors.OutOfMemoryError as error:
            if killed_beside_another(str(error), flight.pid):
                return ChunkLost(number, "lost", "ended by Ray, since another process used up the machine's memory")
            message = (
                "its machine ran out of memory; it is tried again with more, once. Ask for what it needs in "
                f"[resources]: memory_gib = ... ({_line(error)})"
            )
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
        """What workers wrote since the last call."""
        beats, self._beats = self._beats, []
        return beats

    def waiting(self) -> list[Waiting]:
        """Chunks that no node which is alive can run, by what they need; an autoscaler is to bring one."""
        if self._scaling is None or not self._flights:
            return []
        now = time.monotonic()
        if now - self._waits[0] < LOOK_S:
            return self._waits[1]
        sizes = {flight.size for flight in self._flights.values()}
        lacking = {s for s in sizes if not any(times(offers, s) for offers in self._nodes_for(s).values())}
        self._waiting_since = {size: self._waiting_since.get(size, now) for size in lacking}
        news = self._scaling.news() if lacking else ""
        waits = [
            Waiting(
                frozenset(number for number, flight in self._flights.items() if flight.size == size),
                f"a node with {needs(size)}" + (f" ({news})" if news else ""),
                now - since,
            )
            for size, since in self._waiting_since.items()
        ]
        self._waits = (now, waits)
        return waits

    def memory_gib(self) -> float | None:
        """What Ray lets cells ask for on the largest node."""
        most = max((node.get("memory", 0.0) for node in self.nodes()), default=0.0)
        return most / 2**30 or None

    def kill(self, number: int) -> None:
        """End a chunk's worker; its ref is forgotten."""
        flight = self._flights.pop(number, None)
        if flight is not None:
            self._ray.cancel(flight.ref, force=True)

    def interrupt(self) -> None:
        """Nothing: cells run elsewhere, and the driver cancels them."""

    def close(self) -> None:
        """End running chunks and leave the cluster (which ends an embedded one)."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._headless and self._watch.answers():  # else these would wait for it
                for number in list(self._flights):
                    self.kill(number)
                self._watch.forget()
            self._ray.shutdown()
        finally:
            self._own.remove()


def check_address(address: str) -> None:
    """Find out at once whether something listens there: Ray itself would try for minutes, deaf to Ctrl-C.

    Raises:
        InputError: no cluster is known (`auto`), or nothing answers.
    """
    if address == "auto":
        from ray._private.services import find_gcs_addresses

        found = [os.environ["RAY_ADDRESS"]] if os.environ.get("RAY_ADDRESS") else sorted(find_gcs_addresses())  # type: ignore[no-untyped-call]
        if not found:
            raise InputError("--address auto: no Ray cluster runs on this machine, and RAY_ADDRESS is not set")
        address = found[0]
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address!r}: is neither auto nor HOST:PORT (of the head; Ray's is 6379)")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise InputError(f"--address {address}: nothing answers there ({error})") from None


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[-1][:500] if text else type(error).__name__


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
