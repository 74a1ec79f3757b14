"""Addresses of stores on object storage, `s3://BUCKET/PREFIX`, and the endpoint set in the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from raysweep.orchestrator.errors import InputError

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HTTP = re.compile(
    r"(?P<scheme>https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?(/[^@\s]*)?", re.IGNORECASE
)
_MAX_PORT = 65_535
_PART = re.compile(r"[A-Za-z0-9 ._=+@,-]+")


def parse(url: str) -> tuple[str, str, str]:
    """Split a store's address into scheme, bucket and prefix.

    Raises:
        InputError: the address is invalid; the message does not repeat secrets from it.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    bucket, _, prefix = rest.partition("/")
    if ("@" in bucket or "?" in rest or "#" in rest) or not url.isprintable():
        raise InputError(
            f"store {scheme}://...: has more than bucket and prefix; set credentials by AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, an endpoint by AWS_ENDPOINT_URL"
        )
    if not bucket:
        raise InputError(f"store {url!r}: has no bucket; write {scheme}://BUCKET/PREFIX")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"store {scheme}://...: the bucket's name is invalid; write {scheme}://BUCKET/PREFIX")
    parts = [part for part in prefix.rstrip("/").split("/") if prefix.rstrip("/")]
    for part in parts:
        if not _PART.fullmatch(part) or set(part) <= {"."}:
            raise InputError(
                f"store {scheme}://{bucket}/...: invalid prefix; use letters, digits, spaces and ._=+@,- only, "
                "and no part that is empty or consists of dots"
            )
    return scheme, bucket, "/".join(parts)


def http_allowed() -> bool:
    """Return whether the environment allows plain http."""
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes", "on"}


def refuse_plain_http(scheme: str, location: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raise InputError if the environment's endpoint is invalid, or uses plain http without permission."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        endpoint = environment.get(name, "")
        if scheme != "s3" or not endpoint:
            continue
        match = _HTTP.fullmatch(endpoint)
        if match is None or int(match["port"] or 0) > _MAX_PORT:
            raise InputError(f"{name}: not a valid endpoint; write https://HOST:PORT, without credentials")
        if match["scheme"].lower() == "http" and not http_allowed():
            raise InputError(
                f"store {location}: {name} is plain http; set AWS_ALLOW_HTTP=true to allow it, or write https"
            )
