"""The Ray executor, which runs chunks as Ray tasks: on a Ray of its own (embedded) by default, or on a running cluster.

It undoes these defaults of Ray. A bare `ray.init()` attaches to any cluster that an old file names, so an embedded Ray
is started by `address="local"`. Workers run at nice 15 and listen on every interface. A worker imports any module in
the driver's current folder or in a `working_dir`. Ray's own retries would hide attempts.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raysweep.orchestrator.errors import ClusterUnavailable, InputError
from raysweep.orchestrator.executors.executor import Waiting
from raysweep.orchestrator.executors.ray.autoscaler import FIRST_REPORT_S, Scaling
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
    slots_of,
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
"""With these on head, nodes and driver, Ray declares a frozen node dead after 12 s instead of 67 s."""

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every listener on loopback
    "RAY_worker_niceness": "0",  # else cells starve on a shared machine
    "RAY_task_events_report_interval_ms": "0",  # else the head's memory grows with every task
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_FORWARDED = (VARIABLE, *SETTINGS)  # variables that a cluster's workers would not inherit
_OBJECT_STORE = 256 * 2**20  # results are small, and this is taken from the cells' memory
_RESOURCES_FOR_S = 5.0
CONNECT_S = 10.0
START_S = 120.0
"""Seconds within which an embedded Ray's first worker must send a heartbeat."""


class RayExecutor:
    """Runs chunks as tasks on Ray.

    Args:
        address: "auto" or HOST:PORT of a running cluster; None starts an embedded Ray on this machine.
        modules: folder of users' modules, whose Python files workers import -> further files of that folder to ship.
        gpus: number of GPUs of the embedded Ray; None: Ray detects them.

    Raises:
        ClusterUnavailable: Ray did not start, or nothing answers at the address.
    """

    def __init__(
        self,
        address: str | None = None,
        modules: Mapping[str, Sequence[Path]] = MappingProxyType({}),
        gpus: int | None = None,
    ) -> None:
        for name, value in (_ENVIRONMENT if address is None else KEEPALIVE).items():
            os.environ.setdefault(name, value)
        if address is not None:
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray does not enable it for an address
            # In a Ray job, workers import the files that this launch stages, not those of the job.
            os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
        import ray

        self._ray: Any = ray
        # Ray prints notices of workers' deaths to the driver's stdout whatever its settings; here they are attempts.
        ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
        self._launch = uuid.uuid4().hex[:12]
        self._folder = str(Path.cwd())
        self._in_flight: dict[int, InFlight] = {}
        self._slots: dict[Demand, tuple[float, int]] = {}  # when computed, how many
        self._waiting_since: dict[Demand, float] = {}
        self._waits: tuple[float, list[Waiting]] = (-LOOK_S, [])
        self._beats: list[Beat] = []
        self._headless = self._closed = False
        self._remote_by_options: dict[Any, Any] = {}
        self._embedded = address is None
        self._any_worker = False  # whether any worker has sent a heartbeat
        self._first_submit: float | None = None
        for line in end_leftovers():
            logging.getLogger("raysweep").warning(line)
        self._launch_folder = LaunchFolder(self._launch)
        stage = self._launch_folder.path / "stage"
        try:
            stage_code(stage, modules)
        except OSError as error:  # shutil's error on several files holds a list of (from, to, why)
            self._launch_folder.remove()
            reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
            raise ClusterUnavailable(f"the code for workers could not be copied to {stage}: {reason}") from None
        logging.getLogger("ray").setLevel(logging.ERROR)
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            with quiet("ray._private.authentication.authentication_token_setup"):  # its start-up notices
                if address is not None:
                    variables = dict.fromkeys(VARIABLES, "1") | {
                        name: os.environ[name] for name in _FORWARDED if name in os.environ
                    }
                    ray.init(address, runtime_env={"working_dir": str(stage), "env_vars": variables}, **common)
                    shutil.rmtree(stage)  # the folder has been uploaded
                else:
                    # No runtime environment: with one, Ray starts its workers twice: 1.4 s. Workers inherit the
                    # variables, and import from the current folder, which stays until the launch ends.
                    common |= {"num_gpus": gpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
                    with contextlib.chdir(stage), environment(dict.fromkeys(VARIABLES, "1")):
                        try:
                            ray.init("local", **common)
                        except Exception:  # a busy or suspended machine: Ray gives up after a fixed time
                            ray.shutdown()
                            ray.init("local", **common)
        except Exception as error:  # Ray also raises bare exceptions
            self._launch_folder.remove()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if address is not None:
                raise ClusterUnavailable(f"Ray at {address} could not be reached: {reason}") from error
            raise ClusterUnavailable(
                f"Ray could not be started on this machine, in two tries: {reason} If it is busy or was suspended, run "
                "the command again; `--inline` runs without Ray"
            ) from error
        self._remote = ray.remote(max_retries=0)(work)
        if self._embedded:
            node: Any = ray._private.worker.global_worker.node
            self._launch_folder.note(Path(node.get_session_dir_path()).name)
        self._health = HealthMonitor(ray, self._launch, drains=not self._embedded)
        self._scaling = None if self._embedded else Scaling(ray, self._health.store, self._health.answers)

    def slots(self, cpus: float, gpus: float, memory_gib: float | None) -> int:
        """Return how many chunks of this demand to submit at once, on running nodes and on those to be started."""
        demand = Demand(cpus, gpus, memory_gib)
        at, slots = self._slots.get(demand, (-_RESOURCES_FOR_S, 0))
        if time.monotonic() - at > _RESOURCES_FOR_S:
            slots = sum(slots_of(offers, demand) for offers in self._nodes_for(demand).values())
            scaling = self.autoscaler()
            slots += scaling.wanted(demand, slots) if scaling else 0
            self._slots[demand] = (time.monotonic(), slots)
        return slots

    def fits(self, cpus: float, gpus: float, memory_gib: float | None) -> str | None:
        """Return the reason why no present or future node can run a cell of this demand; None if one can."""
        demand = Demand(cpus, gpus, memory_gib)
        nodes = self.nodes()
        if any(slots_of(node, demand) for node in nodes):
            return None
        scaling = self.autoscaler(wait=True)
        if scaling and scaling.may_run(demand):
            return None
        reason = f"the largest node offers {largest(nodes)}"
        return f"{reason}; no node type has more: {listed(scaling) or 'it starts none'}" if scaling else reason

    def nodes(self) -> list[dict[str, float]]:
        """Return the resources of each living node."""
        return list(self._health.nodes().values())

    def autoscaler(self, wait: bool = False) -> Autoscaler | None:
        """Return the cluster's autoscaler, or None. `wait` lets an autoscaler that has just started report first."""
        if self._scaling is None:
            return None
        scaling = self._scaling.find()
        if scaling is None and wait:
            time.sleep(FIRST_REPORT_S)
            scaling = self._scaling.find()
        return scaling

    def _avoided(self, demand: Demand) -> set[str]:
        """Return the nodes that a cell should not run on: unresponsive ones, and GPU nodes if the cell needs no GPU."""
        scaling = self.autoscaler()
        others = scaling is not None and scaling.without_gpus(demand)
        return nodes_to_avoid(self._health.nodes(), self._health.unresponsive, demand, others)

    def _nodes_for(self, demand: Demand) -> dict[str, dict[str, float]]:
        avoided = self._avoided(demand)
        return {node: offers for node, offers in self._health.nodes().items() if node not in avoided}

    def submit(self, chunk: Chunk) -> None:
        """Submit the chunk as a Ray task."""
        options: dict[str, Any] = {"num_cpus": chunk.cpus, "num_gpus": chunk.gpus}
        if chunk.memory_gib is not None:
            options["memory"] = int(chunk.memory_gib * 2**30)
        if chunk.cpus >= 2:
            options["runtime_env"] = {"env_vars": dict.fromkeys(VARIABLES, str(int(chunk.cpus)))}
            if self._embedded:
                # Ray pastes this path into a shell command unquoted, and reports no error if a space breaks it.
                options["runtime_env"]["py_executable"] = shlex.quote(sys.executable)
        demand = Demand(chunk.cpus, chunk.gpus, chunk.memory_gib)
        scaling = self.autoscaler()
        labels = selector(self._avoided(demand), scaling.keep_off_gpus(demand) if scaling else {})
        if labels:
            options["label_selector"] = labels
        key = tuple(sorted((k, str(v)) for k, v in options.items()))
        if key not in self._remote_by_options:  # one remote function per set of options
            self._remote_by_options[key] = self._remote.options(**options)
        self._first_submit = self._first_submit or time.monotonic()
        ref = self._remote_by_options[key].remote(chunk, self._launch, self._folder)
        self._in_flight[chunk.number] = InFlight(chunk.number, ref, time.monotonic(), demand)

    def poll(self, timeout: float) -> list[Event]:
        """Return the events of chunks that completed, were lost or never began."""
        numbers = {chunk.ref: chunk.number for chunk in self._in_flight.values()}
        refs = list(numbers)
        if not refs:
            return []
        try:
            events = self._check_health()
        except ClusterUnavailable:
            self._headless = True
            raise
        if events:
            return events
        ready, rest = self._ray.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)
        if ready and rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        self._any_worker = self._any_worker or bool(ready)
        self._require_workers()
        return [self._event(self._in_flight.pop(numbers[ref])) for ref in ready]

    def _check_health(self) -> list[Event]:
        news = self._health.check(self._in_flight)
        self._beats += news.beats
        self._any_worker = self._any_worker or bool(news.beats)
        events: list[Event] = [ChunkLost(number, "lost", reason) for number, reason in news.lost.items()]
        events += [ChunkReturned(number) for number in news.returned]
        for event in events:
            self.kill(event.number)  # type: ignore[union-attr]
        return events

    def _require_workers(self) -> None:
        """Raise ClusterUnavailable if the workers of an embedded Ray do not start. Only this launch uses that Ray."""
        if self._any_worker or not self._embedded or self._first_submit is None:
            return
        if time.monotonic() - self._first_submit > START_S:
            raise ClusterUnavailable(
                f"Ray runs, but none of its workers has started within {START_S:g} s; see its logs in "
                f"{self._ray._private.worker.global_worker.node.get_logs_dir_path()} (python-core-worker*, raylet.out)"
            )

    def _event(self, chunk: InFlight) -> Event:
        errors, number = self._ray.exceptions, chunk.number
        try:
            return ChunkDone(self._ray.get(chunk.ref))
        except errors.OutOfMemoryError as error:
            if killed_beside_another(str(error), chunk.pid):
                return ChunkLost(number, "lost", "ended by Ray because another process used up the machine's memory")
            message = (
                "its machine ran out of memory; the cell is retried once with more. Request what it needs in "
                f"[resources]: memory_gib = ... ({_line(error)})"
            )
            return ChunkLost(number, "out_of_memory", message)
        except errors.WorkerCrashedError:
            return self._crashed(number)
        except errors.RayTaskError as error:  # our own code failed on the worker, for example in an import
            return ChunkLost(number, "failed", _line(error), traceback=str(error)[-16_384:])
        except errors.RayError as error:
            return ChunkLost(number, "lost", f"{type(error).__name__}: {_line(error)}")

    def _crashed(self, number: int) -> ChunkLost:
        """Return the event of a worker's death, with the worker's last stack if it ran on this machine."""
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
            message = "did not react to its timeout; its worker was ended"
            return ChunkLost(number, "timed_out", message, position, stack)
        return ChunkLost(number, "crashed", message, None, stack or None)

    def beats(self) -> Iterable[Beat]:
        """Return the latest heartbeat of each worker that sent one since the last call."""
        beats, self._beats = self._beats, []
        return beats

    def waiting(self) -> list[Waiting]:
        """List the chunks that no living node can run, by demand. An autoscaler would have to start a node for them."""
        if self._scaling is None or not self._in_flight:
            return []
        now = time.monotonic()
        if now - self._waits[0] < LOOK_S:
            return self._waits[1]
        demands = {chunk.demand for chunk in self._in_flight.values()}
        unmet = {d for d in demands if not any(slots_of(offers, d) for offers in self._nodes_for(d).values())}
        self._waiting_since = {demand: self._waiting_since.get(demand, now) for demand in unmet}
        news = self._scaling.news() if unmet else ""
        waits = [
            Waiting(
                frozenset(number for number, chunk in self._in_flight.items() if chunk.demand == demand),
                f"a node with {needs(demand)}" + (f" ({news})" if news else ""),
                now - since,
            )
            for demand, since in self._waiting_since.items()
        ]
        self._waits = (now, waits)
        return waits

    def memory_gib(self) -> float | None:
        """Return the memory in GiB that Ray schedules on the largest node."""
        most = max((node.get("memory", 0.0) for node in self.nodes()), default=0.0)
        return most / 2**30 or None

    def kill(self, number: int) -> None:
        """End a chunk's worker by force, and forget the chunk."""
        chunk = self._in_flight.pop(number, None)
        if chunk is not None:
            self._ray.cancel(chunk.ref, force=True)

    def interrupt(self) -> None:
        """Do nothing: cells run in other processes, and the driver cancels them."""

    def close(self) -> None:
        """End running chunks and disconnect. An embedded Ray then ends, too."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._headless and self._health.answers():  # without a head these calls would hang
                for number in list(self._in_flight):
                    self.kill(number)
                self._health.forget()
            self._ray.shutdown()
        finally:
            self._launch_folder.remove()


def check_address(address: str) -> None:
    """Raise an error if nothing listens at the address. Ray itself would try for minutes and ignore Ctrl-C.

    Raises:
        InputError: `auto` finds no cluster, the address is invalid, or nothing answers.
    """
    if address == "auto":
        from ray._private.services import find_gcs_addresses

        addresses = [os.environ["RAY_ADDRESS"]] if os.environ.get("RAY_ADDRESS") else sorted(find_gcs_addresses())  # type: ignore[no-untyped-call]
        if not addresses:
            raise InputError("--address auto: no Ray cluster runs on this machine, and RAY_ADDRESS is not set")
        address = addresses[0]
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address!r}: expected auto or HOST:PORT of the head (Ray's default port is 6379)")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise InputError(f"--address {address}: nothing answers there ({error})") from None


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[-1][:500] if text else type(error).__name__


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Hide notices and warnings of these loggers inside the block. Exceptions are still raised."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
