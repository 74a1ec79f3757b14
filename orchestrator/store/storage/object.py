"""The store's files in an object store: S3 and what speaks its language, Google Cloud Storage, Azure Blob Storage.

One kind of `storage.Storage`. A file appears by a PUT that succeeds only where its name is free. Credentials and
endpoint come from the usual environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...); they are never kept here,
and errors are told by their kind, since what a server says may repeat them.

A PUT whose answer never came may have been obeyed, at once or later. It is sent again till an answer comes; a name
that is then taken by the very bytes is our own work. Where no answer comes at all the name stays unsure: nothing else
may be written under it by this process, and no later name is used instead, for the next owner's seal must find it.
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

import pyarrow as pa

from raysweep.orchestrator.errors import InputError, StoreDamaged, StoreDenied, StoreUnreachable, StoreWriteFailed
from raysweep.orchestrator.store.storage.address import http_allowed, parse, refuse_plain_http
from raysweep.orchestrator.store.storage.diagnosis import diagnose

KINDS = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}

TIMEOUT_S = 20.0
"""A request's, of which one that carries much data gets more."""
FIRST_S, PATIENCE_S = 6.0, 60.0
"""How long a server that has never answered, or answers no more, is asked again."""
PAUSE_S = 0.1
"""Before a request is made a second time; each later pause is twice as long, up to 5 s."""
SLOWEST = 128 * 2**10  # bytes a second
TAIL = 64 * 2**10  # of a segment, read first: its footer, and of a small one all
WHOLE = 4 * 2**20  # a segment up to this size is read at once
PIECE = 8 * 2**20  # of a larger file

_Answer = TypeVar("_Answer")


class ObjectStorage:
    """Objects under one prefix of a bucket.

    Args:
        url: `s3://bucket/prefix`, or `gs://`, `az://` (a container).

    Raises:
        InputError: no bucket, a prefix that readers of Parquet would not find, plain http that was not allowed.
    """

    locks = False
    readers = 16

    def __init__(self, url: str) -> None:
        self._scheme, self._bucket, self._prefix = parse(url)
        self.location = "/".join(filter(None, (f"{self._scheme}://{self._bucket}", self._prefix)))
        self._clients: dict[float, Any] = {}
        self._told = threading.Lock()
        self._heard = self._wrote = False
        self._silent_since: float | None = None
        self._unsure: dict[str, bytes] = {}  # name -> digest of what was sent under it
        refuse_plain_http(self._scheme, self.location)
        self._client(TIMEOUT_S)

    def __str__(self) -> str:
        return self.location

    @property
    def reading(self) -> dict[str, Any] | None:
        """What polars takes to read what `locate` names: for credentials it looks where this class does."""
        return {"timeout": f"{TIMEOUT_S:.0f}s", "connect_timeout": "5s", "max_retries": 3}

    def exists(self) -> bool:
        """Whether any object has the prefix."""
        return bool(self.names(""))

    def check_writable(self) -> None:
        """Nothing: only a write can tell, and the first one does."""

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Nothing: there are no folders."""

    def create(self, name: str, data: bytes) -> bool:
        """Make an object with this content appear, in one step; False if the name is taken by another.

        Raises:
            StoreWriteFailed: no answer came, and the name stays unsure; or writing is no longer allowed.
            InputError: writing was never allowed.
        """
        import obstore

        digest = hashlib.sha256(data).digest()
        if self._unsure.get(name, digest) != digest:
            raise StoreWriteFailed(
                f"store {self}: whether an earlier write of {name} was obeyed is not known, since no answer came; "
                "launch again: what it holds is then found"
            )
        client = self._client(TIMEOUT_S + len(data) / SLOWEST if len(data) > WHOLE else TIMEOUT_S)
        try:
            # In one request: one in several parts would overwrite.
            self._ask(name, lambda: obstore.put(client, name, data, mode="create", use_multipart=False))
        except obstore.exceptions.AlreadyExistsError:
            if self._written(name) != data:
                return False
        except StoreUnreachable as error:
            self._unsure[name] = digest
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.reason}") from None
        except StoreDenied as error:
            raise self._refused(name, error) from None
        self._unsure.pop(name, None)
        self._wrote = True
        return True

    def _written(self, name: str) -> bytes | None:
        """What lies where a PUT found its name taken."""
        try:
            return self.read(name)
        except StoreUnreachable as error:
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {error.reason}") from None

    def _refused(self, name: str, error: StoreDenied) -> StoreWriteFailed | StoreDenied:
        if not self._wrote:
            return error
        return StoreWriteFailed(f"store {self}: cannot write {name}: {error.reason}")

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite an object; for what may be lost (a heartbeat), and so asked once.

        Raises:
            StoreWriteFailed: it was.
        """
        import obstore

        try:
            obstore.put(self._client(TIMEOUT_S), name, data, use_multipart=False)
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreWriteFailed(f"store {self}: cannot write {name}: {diagnose(error, TIMEOUT_S).reason}") from None

    def read(self, name: str) -> bytes | None:
        """The object's content; None if it is not there."""
        import obstore

        client = self._client(TIMEOUT_S)

        def get() -> bytes:
            found = obstore.get(client, name)
            if found.meta["size"] <= PIECE:
                return bytes(found.bytes())
            return b"".join(
                bytes(obstore.get_range(client, name, start=at, end=min(at + PIECE, found.meta["size"])))
                for at in range(0, found.meta["size"], PIECE)
            )

        try:
            return self._ask(name, get)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> pa.NativeFile:
        """The object for pyarrow, which reads here and there; its end is fetched at once.

        Raises:
            FileNotFoundError: it is not there.
        """
        import obstore

        client = self._client(TIMEOUT_S)

        def tail() -> tuple[int, bytes]:
            if self._scheme == "az":  # Azure is not asked for a last part
                size = obstore.head(client, name)["size"]
                end = obstore.get_range(client, name, start=max(0, size - TAIL), end=size) if size else b""
                return size, bytes(end)
            try:
                found = obstore.get(client, name, options={"range": {"suffix": TAIL}})
                return found.meta["size"], bytes(found.bytes())
            except obstore.exceptions.GenericError:  # of an empty object there is no range
                if obstore.head(client, name)["size"]:
                    raise
                return 0, b""

        size, end = self._ask(name, tail)

        def piece(start: int, stop: int) -> bytes:
            return self._ask(name, lambda: bytes(obstore.get_range(client, name, start=start, end=stop)))

        return pa.PythonFile(_Ranged(size, end, piece), mode="r")

    def names(self, folder: str) -> list[str]:
        """The names right under a folder, sorted; none if nothing has them."""
        import obstore

        client = self._client(TIMEOUT_S)
        found = self._ask(folder, lambda: obstore.list_with_delimiter(client, folder or None))
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return sorted({path.rstrip("/").rpartition("/")[2] for path in paths})

    def size(self, name: str) -> int:
        """Bytes of an object.

        Raises:
            FileNotFoundError: it is not there.
        """
        import obstore

        client = self._client(TIMEOUT_S)
        return int(self._ask(name, lambda: obstore.head(client, name))["size"])

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        self._delete([name])

    def delete_folder(self, name: str) -> None:
        """Remove all objects of a folder."""
        self._delete([f"{name}/{inner}" for inner in self.names(name)])

    def _delete(self, names: list[str]) -> None:
        import obstore

        client = self._client(TIMEOUT_S)
        try:
            if names:
                self._ask(names[0], lambda: obstore.delete(client, names))
        except FileNotFoundError:
            return
        except (StoreUnreachable, StoreDenied) as error:
            raise StoreWriteFailed(f"store {self}: cannot remove {names[0]}: {error.reason}") from None

    def locate(self, name: str) -> str:
        """Where polars finds the object."""
        return f"{self.location}/{name}"

    def sweep_temporary(self) -> None:
        """Nothing: a killed writer leaves no half object."""

    def try_lock(self) -> _NoLock:
        """No lock: owners are known by their process on this machine, by their heartbeat elsewhere."""
        return _NoLock()

    def _client(self, seconds: float) -> Any:
        """A client whose requests may take so long."""
        if seconds not in self._clients:
            try:
                import obstore.store
            except ImportError as error:
                raise InputError(
                    f"store {self}: needs the package obstore: pip install 'raysweep[objects]' ({error})"
                ) from None
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
                    retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=seconds)},  # `_ask` does it
                )
            except (obstore.exceptions.BaseError, ValueError, OSError) as error:
                raise StoreDenied(str(self), diagnose(error, TIMEOUT_S).reason) from None
        return self._clients[seconds]

    def _ask(self, name: str, request: Callable[[], _Answer]) -> _Answer:
        """A request's answer; asked again, ever less often, where none comes.

        Raises:
            FileNotFoundError: there is no such object.
            AlreadyExistsError: there is one (of obstore).
            StoreDenied: the bucket is absent, or access is refused.
            StoreUnreachable: no answer came in time, from this request or others meanwhile.
        """
        import obstore

        pause = PAUSE_S
        while True:
            try:
                answer = request()
            except obstore.exceptions.AlreadyExistsError:
                self._answered()
                raise
            except (obstore.exceptions.BaseError, OSError) as error:
                trouble = diagnose(error, TIMEOUT_S)
                if isinstance(error, FileNotFoundError) and trouble.kind == "absent":
                    self._answered()
                    raise FileNotFoundError(f"{self}/{name}") from None
                if trouble.kind == "denied":
                    raise StoreDenied(str(self), trouble.reason) from None
                if trouble.kind == "torn":
                    raise StoreDamaged(f"{name}: cannot be read: {trouble.reason}") from None
                if self._silent_too_long():
                    raise StoreUnreachable(str(self), trouble.reason, first=not self._heard) from None
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
            else:
                self._answered()
                return answer

    def _answered(self) -> None:
        with self._told:
            self._heard, self._silent_since = True, None

    def _silent_too_long(self) -> bool:
        """Of all threads' requests since the last answer: they wait together, not one after another."""
        now = time.monotonic()
        with self._told:
            self._silent_since = now if self._silent_since is None else self._silent_since
            return now - self._silent_since >= (PATIENCE_S if self._heard else FIRST_S)


class _NoLock:
    def release(self) -> None:
        """Nothing is held."""


class _Ranged(io.RawIOBase):
    """A file that lies elsewhere, of which pieces are fetched as they are read."""

    def __init__(self, size: int, end: bytes, piece: Callable[[int, int], bytes]) -> None:
        self._size, self._held, self._from, self._piece, self._at = size, end, size - len(end), piece, 0

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
        if start < self._from and self._size <= WHOLE:
            self._held, self._from = self._piece(0, self._from) + self._held, 0
        held = start >= self._from
        data = self._held[start - self._from : stop - self._from] if held else self._piece(start, stop)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)
