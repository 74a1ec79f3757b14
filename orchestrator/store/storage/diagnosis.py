"""What a failed request to an object store means, told by its kind."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit


class Diagnosis(NamedTuple):
    """What a failed request means."""

    kind: str  # absent (the object), denied, torn (nonsense came), silent
    reason: str


_NO_BUCKET = (
    r"NoSuchBucket|ContainerNotFound|bucket does not exist",
    "denied",
    "there is no such bucket; make it first",
)
_KNOWN: tuple[tuple[str, str, str], ...] = (  # in the client's words; the first that matches
    (
        r"status code: (50[0234]|429)|status: (50[0234]|429)|SlowDown",
        "silent",
        "{endpoint} answers that it can't answer now (5xx)",
    ),
    _NO_BUCKET,
    (
        r"169\.254\.|metadata\.google|MissingCredentials|Missing (AccessKeyId|SecretAccessKey|credential)"
        r"|MissingAccount|CredentialProvider|oauth2/v2\.0|AssumeRole",
        "denied",
        "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for gs:// "
        "GOOGLE_SERVICE_ACCOUNT, for az:// AZURE_STORAGE_ACCOUNT_NAME and _KEY), or run where a role is given",
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|401 Unauthorized",
        "denied",
        "the credentials are not accepted (wrong, or expired)",
    ),
    (
        r"403 Forbidden|AccessDenied",
        "denied",
        "access is denied; these credentials need to list, get, put and delete under it",
    ),
    (
        r"PermanentRedirect|AuthorizationHeaderMalformed|301 Moved|IllegalLocationConstraint|redirect without LOCATION",
        "denied",
        "the bucket lies in another region; set AWS_REGION",
    ),
    (r"Must be one of|not a valid|Unknown configuration|RelativeUrlWithoutBase", "denied", "its settings are wrong"),
    (
        r"501 Not Implemented|NotImplemented",
        "denied",
        "it knows no PUT on a condition (If-None-Match: *), as commits need",
    ),
    (r"ConnectionRefused", "silent", "nothing answers at {endpoint} (connection refused)"),
    (r"dns error", "silent", "{endpoint} is not a known host"),
    (
        r"InvalidContentType|certificate|Tls",
        "silent",
        "{endpoint} does not speak TLS as it should; http:// or https://?",
    ),
    (r"TimedOut|kind: Timeout", "silent", "no answer from {endpoint} in {timeout:g} s"),
    (
        r"Incomplete(Message|Body)|Connection(Reset|Aborted)|BrokenPipe",
        "silent",
        "{endpoint} closes connections without a whole answer",
    ),
)


def diagnose(error: BaseException, timeout_s: float) -> Diagnosis:
    """What a failed request means. Says nothing of the client's or server's words, which may repeat a secret.

    Args:
        error: of the client.
        timeout_s: how long a request may take.
    """
    import obstore

    text = str(error)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    place = urlsplit(endpoint).netloc.rpartition("@")[2] or "the service"
    known = (_NO_BUCKET,) if isinstance(error, FileNotFoundError) else _KNOWN
    for pattern, kind, reason in known:
        if re.search(pattern, text):
            return Diagnosis(kind, reason.format(endpoint=place, timeout=timeout_s))
    if isinstance(error, FileNotFoundError):
        return Diagnosis("absent", "it is not there")
    if isinstance(error, obstore.exceptions.PermissionDeniedError | obstore.exceptions.UnauthenticatedError):
        return Diagnosis("denied", "access is denied; these credentials need to list, get, put and delete under it")
    if isinstance(error, obstore.exceptions.InvalidPathError):
        return Diagnosis("torn", "no path")
    return Diagnosis("silent", f"the request to {place} failed ({type(error).__name__})")
