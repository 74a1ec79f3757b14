"""Diagnosis of failed requests to an object store. Its messages never quote the server, which may repeat a secret."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

import obstore


class Diagnosis(NamedTuple):
    """The kind of a failure, and its reason in words for a message."""

    kind: str  # absent (the object), denied, torn (an invalid answer), silent
    reason: str


_NO_ACCESS = "access is denied; these credentials need to list, get, put and delete under it"
_NO_BUCKET = (
    r"NoSuchBucket|ContainerNotFound|bucket does not exist", "denied", "there is no such bucket; create it first"
)  # fmt: skip
_KNOWN: tuple[tuple[str, str, str], ...] = (  # pattern in the client's message, kind, reason; the first match counts
    (
        r"status code: (50[0234]|429)|status: (50[0234]|429)|SlowDown",
        "silent",
        "{endpoint} is temporarily unavailable (HTTP 5xx)",
    ),
    _NO_BUCKET,
    (
        r"169\.254\.|metadata\.google|MissingCredentials|Missing (AccessKeyId|SecretAccessKey|credential)"
        r"|MissingAccount|CredentialProvider|oauth2/v2\.0|AssumeRole",
        "denied",
        "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for gs:// "
        "GOOGLE_SERVICE_ACCOUNT, for az:// AZURE_STORAGE_ACCOUNT_NAME and _KEY), or run under a role",
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|401 Unauthorized",
        "denied",
        "the credentials are wrong or expired",
    ),
    (r"403 Forbidden|AccessDenied", "denied", _NO_ACCESS),
    (
        r"PermanentRedirect|AuthorizationHeaderMalformed|301 Moved|IllegalLocationConstraint|redirect without LOCATION",
        "denied",
        "the bucket is in another region; set AWS_REGION",
    ),
    (r"Must be one of|not a valid|Unknown configuration|RelativeUrlWithoutBase", "denied", "its settings are invalid"),
    (
        r"501 Not Implemented|NotImplemented",
        "denied",
        "it does not support conditional PUT (If-None-Match: *), which commits require",
    ),
    (r"ConnectionRefused", "silent", "nothing answers at {endpoint} (connection refused)"),
    (r"dns error", "silent", "{endpoint} is not a known host"),
    (r"InvalidContentType|certificate|Tls", "silent", "{endpoint} does not speak TLS; http:// instead of https://?"),
    (r"TimedOut|kind: Timeout", "silent", "no answer from {endpoint} in {timeout:g} s"),
    (
        r"Incomplete(Message|Body)|Connection(Reset|Aborted)|BrokenPipe",
        "silent",
        "{endpoint} closes connections before an answer is complete",
    ),
)


def diagnose(error: BaseException, timeout_s: float) -> Diagnosis:
    """Diagnose a failed request by its exception. `timeout_s`, the request's timeout, is named in the reason."""
    text = str(error)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    host = urlsplit(endpoint).netloc.rpartition("@")[2] or "the service"
    patterns = (_NO_BUCKET,) if isinstance(error, FileNotFoundError) else _KNOWN
    for pattern, kind, reason in patterns:
        if re.search(pattern, text):
            return Diagnosis(kind, reason.format(endpoint=host, timeout=timeout_s))
    if isinstance(error, FileNotFoundError):
        return Diagnosis("absent", "it does not exist")
    if isinstance(error, obstore.exceptions.PermissionDeniedError | obstore.exceptions.UnauthenticatedError):
        return Diagnosis("denied", _NO_ACCESS)
    if isinstance(error, obstore.exceptions.InvalidPathError):
        return Diagnosis("torn", "not a valid path")
    return Diagnosis("silent", f"the request to {host} failed ({type(error).__name__})")
