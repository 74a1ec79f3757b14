"""A real Azure Blob server on loopback (Azurite, of the npm package `azurite`), where it is installed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import time
import urllib.request
from email.utils import formatdate
from typing import Any

from tests.object_store import free_port

PROGRAM = shutil.which("azurite-blob")
CONTAINER = "results"
ACCOUNT = "devstoreaccount1"
# Azurite's well-known one, no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class AzureServer:
    """Azurite with one container; ends with `close`."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        self.port = free_port()
        self.process = subprocess.Popen(
            [PROGRAM, "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--inMemoryPersistence",
             "--skipApiVersionCheck", "--disableTelemetry", "--silent"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                self._make(CONTAINER)
                return
            except OSError:
                assert time.monotonic() < until, "Azurite did not start"
                assert self.process.poll() is None
                time.sleep(0.1)

    def _make(self, container: str) -> None:
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
        text = "PUT" + 12 * "\n" + f"{canonical}/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
        sign = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        headers |= {"Authorization": f"SharedKey {ACCOUNT}:{sign}", "Content-Length": "0"}
        url = f"http://127.0.0.1:{self.port}/{ACCOUNT}/{container}?restype=container"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=10).read()

    def set_variables(self, monkeypatch: Any) -> None:
        """Lead this process and its children there."""
        for name in [name for name in os.environ if name.startswith("AZURE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{self.port}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
