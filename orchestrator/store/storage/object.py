"""Storage on an object store: S3 and compatible servers, Google Cloud Storage, Azure Blob Storage.

A file is created by a PUT that succeeds only if its name is free. Credentials and endpoint come from the usual
environment variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...) and are never recorded. The server's error
messages are not shown, since they may repeat credentials; `diagnosis` words them anew.

A PUT without an answer may have been executed, or may be executed later. So it is repeated until an answer
comes. If the name then has an object with the same bytes, an earlier PUT of this process wrote it. If no answer
comes at all, the name is *unsure*. This process then writes nothing else under it, and uses no later name: the
next owner's seal must find the unsure name.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import obstore
import obstore.store
import pyarrow as pa

from raysweep.orchestrator.errors import StoreDamaged, StoreDenied, StoreUnreachable, StoreWriteFailed
from raysweep.orchestrator.store.storage.address import http_allowed, parse, refuse_plain_http
from raysweep.orchestrator.store.storage.diagnosis import diagnose

KINDS = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}

TIMEOUT_S = 20.0
"""Timeout of a request in seconds; a request with much data gets more."""
FIRST_S, PATIENCE_S = 6.0, 60.0
"""Seconds for which a request is repeated: if the server has never answered, and if it has stopped answering."""
PAUSE_S = 0.1
"""Seconds of the first pause before a request is repeated. Each later pause is twice as long, up to 5 s."""
SLOWEST = 128 * 2**10  # bytes per second
TAIL = 64 * 2**10  # bytes of a segment that are read first: its footer, or all of a small one
WHOLE = 4 * 2**20  # a segment up to this size is read at once
PIECE = 8 * 2**20  # a larger file is read in pieces of this size

_Answer = TypeVar("_Answer")


class ObjectStorage:
    """A store's objects under one prefix of a bucket.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.

    Raises:
        InputError: the bucket is missing or invalid, the prefix is one that readers of Parquet cannot handle, or the
            endpoint is invalid or uses plain http without permission.
    """

    locks = False
    remote = True
    readers = 16

    def __init__(self, url: str) -> None:
        self._scheme, self._bucket, self._prefix = parse(url)
        self.location = "/".join(filter(None, (f"{self._scheme}://{self._bucket}", self._prefix)))
        self._clients: dict[float, Any] = {}
        self._status = threading.Lock()  # guards the next three
        self._answers = self._wrote = False  # has answered once, has accepted a write once
        self._silent_since: float | None = None
        self._unsure: dict[str, bytes] = {}  # name -> digest of the bytes that were sent under it
        refuse_plain_http(self._scheme, self.location)
        self._default = self._client(TIMEOUT_S)

    def __str__(self) -> str:
        return self.location

    @property
    def reading(self) -> dict[str, Any] | None:
        """Polars' `storage_options`. Polars reads the credentials from the same environment as this process."""
        return {"timeout": f"{TIMEOUT_S:.0f}s", "connect_timeout": "5s", "max_retries": 3}

    def exists(self) -> bool:
        """Tell whether any object has the prefix."""
        return bool(self.names(""))

    def check_writable(self) -> None:
        """Do nothing: only the first write can show whether writing is allowed."""

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Do nothing: there are no folders."""

    def create(self, name: str, data: bytes) -> bool:
        """Create an object in one step. Returns False if another writer has taken the name.

        Raises:
            StoreWriteFailed: no answer came, so the name is unsure; or writing is no longer allowed.
            InputError: writing was never allowed.
        """
        digest = hashlib.sha256(data).digest()
        if self._unsure.get(name, digest) != digest:
            raise StoreWriteFailed(
                f"store {self}: it is unknown whether an earlier write of {name} succeeded, as no answer came; "
                "launch again to find out"
            )
        client = self._client(TIMEOUT_S + len(data) / SLOWEST) if len(data) > WHOLE else self._default
        try:
            # In one request: a multipart upload would overwrite.
            self._ask(name, lambda: obstore.put(client, name, data, mode="create", use_multipart=False))
        except obstore.exceptions.AlreadyExistsError:
            if self._written(name) != data:
                return False
        except StoreUnreachable as error:
            self._unsure[name] = digest
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.reason}") from None
        except StoreDenied as error:
            if not self._wrote:
                raise
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.reason}") from None
        self._unsure.pop(name, None)
        self._wrote = True
        return True

    def _written(self, name: str) -> bytes | None:
        """Read the object under a name for which a PUT was refused; None if the object does not exist any more."""
        try:
            return self.read(name)
        except StoreUnreachable as error:
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.reason}") from None

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite an object by one request, which is not repeated after a failure. Used for heartbeats.

        Raises:
            StoreWriteFailed: the request failed.
        """
        try:
            obstore.put(self._default, name, data, use_multipart=False)
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {diagnose(error, TIMEOUT_S).reason}") from None

    def exchange(self, name: str, old: bytes, new: bytes) -> bool:
        """Overwrite an object in one step if it still contains `old`; otherwise return False.

        Raises:
            StoreWriteFailed: no answer came, or writing is not allowed.
        """
        try:
            version = self._ask(name, lambda: obstore.head(self._default, name))
            if self.read(name) != old:
                return False
            mode: Any = {key: version[key] for key in ("e_tag", "version") if version[key] is not None}
            self._ask(name, lambda: obstore.put(self._default, name, new, mode=mode, use_multipart=False))
        except FileNotFoundError:
            return False
        except obstore.exceptions.PreconditionError:
            return self._written(name) == new  # true if the answer to our own request was lost
        except (StoreUnreachable, StoreDenied) as error:
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.reason}") from None
        return True

    def read(self, name: str) -> bytes | None:
        """Read an object. Returns None if it does not exist."""

        def get() -> bytes:
            answer = obstore.get(self._default, name)
            size = answer.meta["size"]
            if size <= PIECE:
                return bytes(answer.bytes())
            return b"".join(
                bytes(obstore.get_range(self._default, name, start=start, end=min(start + PIECE, size)))
                for start in range(0, size, PIECE)
            )

        try:
            return self._ask(name, get)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> pa.NativeFile:
        """Open an object for pyarrow, with random access. Its last bytes are fetched here, since readers begin there.

        Raises:
            FileNotFoundError: it does not exist.
        """
        client = self._default

        def tail() -> tuple[int, bytes]:
            if self._scheme == "az":  # Azure does not support ranges from the end
                size = obstore.head(client, name)["size"]
                end = obstore.get_range(client, name, start=max(0, size - TAIL), end=size) if size else b""
                return size, bytes(end)
            try:
                answer = obstore.get(client, name, options={"range": {"suffix": TAIL}})
                return answer.meta["size"], bytes(answer.bytes())
            except obstore.exceptions.GenericError:  # an empty object has no range
                if obstore.head(client, name)["size"]:
                    raise
                return 0, b""

        size, end = self._ask(name, tail)

        def piece(start: int, stop: int) -> bytes:
            return self._ask(name, lambda: bytes(obstore.get_range(client, name, start=start, end=stop)))

        return pa.PythonFile(_Ranged(size, end, piece), mode="r")

    def names(self, folder: str) -> list[str]:
        """Return the sorted names directly under a folder; an empty list if it has none."""
        answer = self._ask(folder, lambda: obstore.list_with_delimiter(self._default, folder or None))
        paths = [*answer["common_prefixes"], *(entry["path"] for entry in answer["objects"])]
        return sorted({path.rstrip("/").rpartition("/")[2] for path in paths})

    def size(self, name: str) -> int:
        """Return the size of an object in bytes.

        Raises:
            FileNotFoundError: it does not exist.
        """
        return int(self._ask(name, lambda: obstore.head(self._default, name))["size"])

    def delete(self, name: str) -> None:
        """Remove an object, if it exists."""
        self._delete([name])

    def delete_folder(self, name: str) -> None:
        """Remove all objects of a folder."""
        self._delete([f"{name}/{inner}" for inner in self.names(name)])

    def _delete(self, names: list[str]) -> None:
        try:
            if names:
                self._ask(names[0], lambda: obstore.delete(self._default, names))
        except FileNotFoundError:
            return
        except (StoreUnreachable, StoreDenied) as error:
            raise StoreWriteFailed(f"store {self}: cannot remove {names[0]}: {error.reason}") from None

    def locate(self, name: str) -> str:
        """Return the address of an object, in the form that polars reads."""
        return f"{self.location}/{name}"

    def sweep_temporary(self) -> None:
        """Do nothing: a killed writer leaves no partial objects."""

    def try_lock(self) -> _NoLock:
        """Return a lock without effect. An owner's process or its heartbeat shows whether the owner is alive."""
        return _NoLock()

    def _client(self, seconds: float) -> Any:
        """Return a client whose requests time out after `seconds`."""
        if seconds not in self._clients:
            kind = getattr(obstore.store, KINDS[self._scheme])
            try:
                self._clients[seconds] = kind(
                    self._bucket,
                    prefix=self._prefix or None,
                    client_options={
                        "timeout": timedelta(seconds=seconds),
                        "connect_timeout": timedelta(seconds=min(5.0, seconds)),
                        "allow_http": http_allowed(),
                    },
                    retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=seconds)},  # `_ask` retries
                )
            except (obstore.exceptions.BaseError, ValueError, OSError) as error:
                raise StoreDenied(str(self), diagnose(error, TIMEOUT_S).reason) from None
        return self._clients[seconds]

    def _ask(self, name: str, request: Callable[[], _Answer]) -> _Answer:
        """Send a request, and repeat it with growing pauses until an answer comes.

        Raises:
            FileNotFoundError: there is no such object.
            AlreadyExistsError, PreconditionError: the object exists already, or was changed (obstore's exceptions).
            StoreDenied: the bucket does not exist, or access is denied.
            StoreDamaged: the answer is invalid.
            StoreUnreachable: the server answered neither this request nor any other of this process in time.
        """
        pause = PAUSE_S
        while True:
            try:
                answer = request()
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                self._answered()
                raise
            except (obstore.exceptions.BaseError, OSError) as error:
                diagnosis = diagnose(error, TIMEOUT_S)
                if isinstance(error, FileNotFoundError) and diagnosis.kind == "absent":
                    self._answered()
                    raise FileNotFoundError(f"{self}/{name}") from None
                if diagnosis.kind == "denied":
                    raise StoreDenied(str(self), diagnosis.reason) from None
                if diagnosis.kind == "torn":
                    raise StoreDamaged(f"{name}: cannot be read: {diagnosis.reason}") from None
                if self._silent_too_long():
                    raise StoreUnreachable(str(self), diagnosis.reason, first=not self._answers) from None
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
            else:
                self._answered()
                return answer

    def _answered(self) -> None:
        with self._status:
            self._answers, self._silent_since = True, None

    def _silent_too_long(self) -> bool:
        """Tell whether the server has not answered for too long. An answer to any thread of this process counts."""
        now = time.monotonic()
        with self._status:
            self._silent_since = now if self._silent_since is None else self._silent_since
            return now - self._silent_since >= (PATIENCE_S if self._answers else FIRST_S)


class _NoLock:
    def release(self) -> None:
        """Do nothing, since there is no lock to release."""


class _Ranged(io.RawIOBase):
    """A remote file whose bytes are fetched when they are read.

    Args:
        size: the file's size in bytes.
        end: the file's last bytes.
        piece: a function (start, stop) that fetches the bytes from `start` up to, but not including, `stop`.
    """

    def __init__(self, size: int, end: bytes, piece: Callable[[int, int], bytes]) -> None:
        self._size, self._end, self._end_at, self._piece, self._at = size, end, size - len(end), piece, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._at + len(into), self._size)
        if start >= stop:
            return 0
        if start < self._end_at and self._size <= WHOLE:
            self._end, self._end_at = self._piece(0, self._end_at) + self._end, 0
        is_local = start >= self._end_at
        data = self._end[start - self._end_at : stop - self._end_at] if is_local else self._piece(start, stop)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)
