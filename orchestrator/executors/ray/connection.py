"""The connection of one launch to Ray, and the thread that runs all calls to Ray. The launch starts or joins Ray.

The connection guards against these properties of Ray:

- A bare `ray.init()` attaches to any cluster that a stale file names. Therefore an embedded Ray is started by
  `address="local"`.
- Ray's workers run at nice 15 and listen on every interface. Every user can write to the folder of Ray's session.
- A worker imports any file in the driver's current folder, or in a `working_dir`.
- A call may never return, and a signal does not interrupt it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from raysweep.orchestrator.errors import ClusterUnavailable, InputError
from raysweep.orchestrator.executors.cleanup import STAGE
from raysweep.orchestrator.executors.packaging import launch_folder
from raysweep.orchestrator.executors.ray.token import keep_private
from raysweep.orchestrator.run.threads import VARIABLES, environment
from raysweep.orchestrator.store.storage.storage import SETTINGS
from raysweep.orchestrator.waits import CallThread, TookTooLong, before_exit
from raysweep.workloads.datasets.dataset import VARIABLE

KEEPALIVE = {
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "2000",
}
"""Environment variables with which Ray declares a frozen node dead after 12 s instead of 67 s.

They have to be set for the head, the nodes and the driver.
"""

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every listener on loopback
    "RAY_worker_niceness": "0",  # else cells starve on a shared machine
    "RAY_task_events_report_interval_ms": "0",  # else the head's memory grows with every task
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_FORWARDED = (VARIABLE, *SETTINGS)  # variables that a cluster's workers would not inherit
_OBJECT_STORE = 256 * 2**20  # results are small, and this is taken from the cells' memory
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_UNNEEDED = ("start_monitor", "start_log_monitor", "start_api_server")
CONNECT_S = 10.0
INIT_S = 120.0
"""Seconds within which an embedded Ray must start, in at most two tries."""
JOIN_S = 120.0
"""Seconds within which this process must have joined a cluster and uploaded the code for its workers."""
LAST_S, CLOSE_S = 2.0, 6.0
"""Seconds for Ray's last call to return, and for Ray to shut down. An embedded Ray that takes longer is killed."""
SAFE = "completed cells are committed, `raysweep resume` runs the rest"

_Returned = TypeVar("_Returned")


@contextlib.contextmanager
def _needed_alone() -> Iterator[None]:
    """Keep `ray.init` from starting processes that an embedded Ray does not need.

    These are the autoscaler, the log monitor and the dashboard's server. They take more than half of the CPU time of a
    start, and `ray.init` has no options for them.
    """
    from ray._private.node import Node

    def skip(self: Any, **options: Any) -> None:
        self._webui_url = ""

    methods = {name: getattr(Node, name) for name in _UNNEEDED if hasattr(Node, name)}  # other versions start them
    for name in methods:
        setattr(Node, name, skip)
    try:
        yield
    finally:
        for name, method in methods.items():
            setattr(Node, name, method)


class Connection:
    """A Ray that one launch has started or joined. Use the module `ray` only in functions that `call` runs.

    Args:
        address: None for an embedded Ray on this machine; "auto" or HOST:PORT for a running cluster.
        modules: folder of users' modules -> path of a workload's file in it -> content. Workers import the Python
            files of these folders (see `stage_code`).
        gpus: GPUs of the embedded Ray; None: Ray detects them.

    Raises:
        ClusterUnavailable: Ray did not start, or nothing answers at the address.
    """

    def __init__(
        self, address: str | None, modules: Mapping[str, Mapping[Path, bytes | None]], gpus: int | None
    ) -> None:
        for name, value in (_ENVIRONMENT if address is None else KEEPALIVE).items():
            os.environ.setdefault(name, value)
        if address is not None:
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray does not enable it for an address
            # In a Ray job, workers import the files that this launch stages, not those of the job.
            os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
        import ray

        self.ray: Any = ray
        # Ray prints notices of workers' deaths to the driver's stdout whatever its settings; here they are attempts.
        ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
        logging.getLogger("ray").setLevel(logging.ERROR)
        self.launch = uuid.uuid4().hex[:12]
        self.folder = str(Path.cwd())
        self.keeps_logs = self._closed = False
        keep_private(create=address is None)
        self._launch_folder = launch_folder(self.launch, modules, is_here=address is None)
        self._calls = CallThread(f"raysweep-ray-{self.launch}")
        stage = self._launch_folder.path / STAGE
        try:
            if address is None:
                self._calls.call("starting Ray", INIT_S, functools.partial(self._start, stage, gpus))
            else:
                join = functools.partial(self._join, address, stage)
                self._calls.call(f"joining the cluster at {address}", JOIN_S, join)
        except BaseException as error:  # Ray also raises bare exceptions
            self._abandon()
            if not isinstance(error, Exception):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            if address is not None:
                raise ClusterUnavailable(f"Ray at {address} could not be reached: {reason}") from error
            raise ClusterUnavailable(
                f"Ray could not be started on this machine, in two tries: {reason}; if it is busy or was "
                "suspended, run the command again (`--inline` runs without Ray)"
            ) from error

    def _start(self, stage: Path, gpus: int | None) -> None:
        """Start an embedded Ray."""
        options = {"num_gpus": gpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE, **_QUIET}
        if (folder := self._launch_folder.for_ray()) is not None:
            options["_temp_dir"] = str(folder)
        # No runtime environment: with one, Ray starts its workers twice: 1.4 s. Workers inherit the variables, and
        # import from the current folder, which stays until the launch ends.
        with _hushed(), _needed_alone(), contextlib.chdir(stage), environment(dict.fromkeys(VARIABLES, "1")):
            try:
                self.ray.init("local", **options)
            except Exception:  # a busy or suspended machine: Ray gives up after a fixed time
                if self._closed:
                    raise
                self.ray.shutdown()
                self.ray.init("local", **options)
        session = Path(self.ray._private.worker.global_worker.node.get_session_dir_path())
        session.chmod(0o700)  # Ray lets everybody write to it
        self._launch_folder.note(session)

    def _join(self, address: str, stage: Path) -> None:
        """Join a running cluster, and upload the code for its workers."""
        variables = dict.fromkeys(VARIABLES, "1") | {n: os.environ[n] for n in _FORWARDED if n in os.environ}
        with _hushed():
            self.ray.init(address, runtime_env={"working_dir": str(stage), "env_vars": variables}, **_QUIET)
        shutil.rmtree(stage)

    def call(self, what: str, seconds: float, function: Callable[[], _Returned]) -> _Returned:
        """Run a function that calls Ray, and return its result.

        Args:
            what: description of the call in messages, such as "asking Ray for its nodes".
            seconds: the maximum duration of the call.
            function: the function.

        Raises:
            ClusterUnavailable: the function, or one before it, did not return in time.
        """
        try:
            return self._calls.call(what, seconds, function)
        except TookTooLong as error:
            raise ClusterUnavailable(f"{error}; {SAFE}") from None

    def close(self, first: Callable[[], None]) -> None:
        """Disconnect from Ray; an embedded Ray ends, and is killed if it does not answer. May be called twice.

        Args:
            first: called on Ray's thread before the connection ends.
        """

        def shut_down() -> None:
            first()
            self.ray.shutdown()

        if self._closed:
            return
        self._closed = True
        try:
            self._calls.call("the last answer of Ray", LAST_S, lambda: None)
            self._calls.call("ending Ray", CLOSE_S, shut_down)
        except BaseException as error:  # Ctrl-C too
            self._abandon()
            if not isinstance(error, Exception):
                raise
        else:
            self._calls.end()
            self._remove()

    def _abandon(self) -> None:
        """Stop using Ray, even if a call hangs. The processes of an embedded Ray are killed when this process ends.

        They are not killed earlier, since Ray's thread would then crash this process.
        """
        self._closed = True
        self._calls.abandon("Ray was given up")
        atexit.unregister(self.ray.shutdown)
        with contextlib.suppress(OSError):
            os.chdir(self.folder)  # Ray's thread may have changed it
        before_exit(self._launch_folder.end_processes)
        before_exit(self._remove)

    def _remove(self) -> None:
        if not self.keeps_logs:
            self._launch_folder.remove()


def check_address(address: str) -> None:
    """Raise InputError unless something listens at the address. Ray itself would try for minutes and ignore Ctrl-C.

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


def _hushed() -> AbstractContextManager[None]:
    """Hide the notices about Ray's authentication token, which Ray prints when it starts."""
    return quiet("ray._private.authentication.authentication_token_setup")


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Hide notices and warnings of these loggers inside the block; exceptions are still raised."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
