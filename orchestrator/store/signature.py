"""Which recorded sweeps this user recorded: a store may be a stranger's, and `resume` runs code from where it says.

A launch signs what it records with a key that never leaves the user's own folder on this machine. A sweep that
is not signed by it may name any module in any folder: it is run only where the user says so.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

_KEY_BYTES = 32


def sign(data: bytes) -> str | None:
    """The user's signature of these bytes; None where no key can be kept (no home folder, a read-only one)."""
    key = _key(make=True)
    return None if key is None else hmac.new(key, data, hashlib.sha256).hexdigest()


def is_own(data: bytes, signature: object) -> bool:
    """Whether this is the user's signature of these bytes."""
    key = _key(make=False)
    if key is None or not isinstance(signature, str) or not signature.isascii():
        return False
    return hmac.compare_digest(hmac.new(key, data, hashlib.sha256).hexdigest(), signature)


def key_path() -> Path | None:
    """Where the key lies: in `XDG_STATE_HOME`, by default `~/.local/state`."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # no such user's home
        return None
    return state / "raysweep" / "key" if state.is_absolute() else None


def _key(*, make: bool) -> bytes | None:
    path = key_path()
    if path is None:
        return None
    try:
        if make and not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f"key.{secrets.token_hex(8)}")
            try:
                with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
                os.link(temporary, path)  # of two launches that are the first, one's key is both's
            except FileExistsError:
                pass
            finally:
                temporary.unlink(missing_ok=True)
        key = path.read_bytes()
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None
