"""A client of the job server on a Ray cluster's head. It submits a launch as a job and follows the job's log."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raysweep.orchestrator.errors import ClusterUnavailable, InputError
from raysweep.orchestrator.run.threads import environment
from raysweep.orchestrator.waits import CallThread, TookTooLong

CONNECT_S = 10.0
ANSWER_S = 60.0  # for an answer to a question
SUBMIT_S = 600.0  # to take a job with its files
POLL_S = 2.0  # between two reads of a job's log
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray prefers these to the address that it is passed


@dataclass(frozen=True)
class Job:
    """A Ray job to submit.

    Args:
        folder: the folder to upload; the command runs in it.
        command: the shell command to run on the head.
        environment: environment variables, besides the head's own.
    """

    folder: Path
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)


class Jobs:
    """A client of a Ray cluster's job server.

    Args:
        address: http://HEAD:8265 or https://HEAD:8265.

    Raises:
        InputError: the address is invalid, nothing answers there, or Ray's job client is not installed.
        ClusterUnavailable: the server refuses the connection.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        _check(self.address)
        if "RAY_AUTH_MODE" not in os.environ and _has_token():
            os.environ["RAY_AUTH_MODE"] = "token"  # Ray does not use a token by itself if it gets an address
        if importlib.util.find_spec("aiohttp") is None:  # Ray's own error has many lines
            raise InputError("--submit needs Ray's job client, which is not installed: pip install 'raysweep[cluster]'")
        import ray.exceptions
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray").setLevel(logging.ERROR)
        self._refused: type[Exception] = ray.exceptions.AuthenticationError
        self._calls = CallThread("raysweep-jobs")  # the client's requests have no timeout
        with environment(dict.fromkeys(_OVERRIDES)):
            self._client: Any = self._call("joining the job server", ANSWER_S, JobSubmissionClient, self.address)
        logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.ERROR)

    def submit(self, job: Job) -> str:
        """Upload and start a job, and return its id.

        Raises:
            ClusterUnavailable: the server refuses the job.
        """
        number = f"raysweep-{secrets.token_hex(6)}"
        runtime = {"working_dir": str(job.folder), "env_vars": dict(job.environment)}
        options = {"entrypoint": job.command, "submission_id": number, "runtime_env": runtime}
        self._call("sending the job", SUBMIT_S, self._client.submit_job, **options)
        return number

    def follow(self, number: str, show: Callable[[str], None]) -> int:
        """Show a job's log as it grows until the job ends, and return the exit code of the job's command.

        Raises:
            ClusterUnavailable: the server no longer answers.
        """
        length = 0
        while True:
            # The status is read before the log, which is then complete at the end.
            status = self._call("reading the job's status", ANSWER_S, self._client.get_job_status, number)
            log = str(self._call("reading the job's log", ANSWER_S, self._client.get_job_logs, number) or "")
            whole = len(log) if status.is_terminal() else log.rfind("\n") + 1
            if whole > length:
                show(log[length:whole].rstrip("\n"))
                length = whole
            if status.is_terminal():
                break
            time.sleep(POLL_S)
        code = self._call("reading the job's end", ANSWER_S, self._client.get_job_info, number).driver_exit_code
        return {"SUCCEEDED": 0, "STOPPED": 130}.get(status.value, code or 1)

    def _call(self, what: str, seconds: float, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call Ray's client for at most `seconds` seconds. Its many exceptions become `ClusterUnavailable`.

        `what` describes the call in messages, such as "sending the job".
        """
        try:
            return self._calls.call(what, seconds, functools.partial(function, *args, **options))
        except TookTooLong as error:
            raise ClusterUnavailable(f"the job server at {self.address} does not answer: {error}") from None
        except self._refused:
            raise ClusterUnavailable(
                f"{self.address} requires a token: set RAY_AUTH_MODE=token, and put the cluster's token into "
                "RAY_AUTH_TOKEN or ~/.ray/auth_token"
            ) from None
        except (RuntimeError, ConnectionError, OSError, ValueError) as error:
            line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ClusterUnavailable(f"the job server at {self.address}: {line[:500]}") from None


def _check(address: str) -> None:
    parts = urlsplit(address)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port is None:
        raise InputError(f"--submit {address!r}: expected http://HEAD:8265, the address of the head's dashboard")
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as error:
        raise InputError(
            f"--submit {address}: nothing answers there ({error}); start the head with its dashboard, or forward its "
            "port (`ray dashboard cluster.yaml`)"
        ) from None


def _has_token() -> bool:
    return any(os.environ.get(name) for name in _TOKENS) or (Path.home() / ".ray" / "auth_token").is_file()
