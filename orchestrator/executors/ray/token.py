"""The token of this user's Ray, made unreadable for other users: Ray writes it with the usual permissions."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from raysweep.orchestrator.errors import ClusterUnavailable

_ELSEWHERE = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables that hold a token or the path of a token's file. If one is set, Ray does not read its default file."""


def keep_private(*, create: bool) -> None:
    """Set the mode of Ray's folder in this user's home to 0700, and that of its token to 0600.

    Args:
        create: whether to create a missing token, as Ray would.

    Raises:
        ClusterUnavailable: the token cannot be written.
    """
    path = Path.home() / ".ray" / "auth_token"
    wanted = os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"
    try:
        if create and wanted and not any(os.environ.get(name) for name in _ELSEWHERE):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _write(path)
        for place, mode in ((path.parent, 0o700), (path, 0o600)):
            if place.exists() and (status := place.stat()).st_uid == os.getuid() and status.st_mode & 0o077:
                place.chmod(mode)
    except OSError as error:
        raise ClusterUnavailable(f"{path}: Ray's token cannot be kept there: {error.strerror}") from None


def _write(path: Path) -> None:
    """Create the file with a new token in one step, so that another launch never reads a part of it."""
    temporary = path.with_name(f"auth_token.{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
