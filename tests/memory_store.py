"""Object stores in this process's memory, with conditional PUTs: the code of a bucket's storage without a server."""

from __future__ import annotations

from typing import Any

from obstore.store import MemoryStore

from raysweep.orchestrator.store.storage.object import ObjectStorage


class MemoryStorage(ObjectStorage):
    """The storage of a bucket whose objects lie in `objects`; storages with the same objects see the same bucket."""

    def __init__(self, objects: MemoryStore | None = None) -> None:
        self.objects = MemoryStore() if objects is None else objects
        super().__init__("s3://memory/store")

    def _client(self, seconds: float) -> Any:
        return self.objects
