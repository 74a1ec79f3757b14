"""Ray's token in the user's home is readable by the user only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from raysweep.orchestrator.executors.ray.token import keep_private


@pytest.fixture
def token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(folder))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return folder / ".ray" / "auth_token"


def modes(token: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in (token.parent, token)]


def test_a_missing_token_is_created_once(token: Path) -> None:
    keep_private(create=True)
    text = token.read_text()
    assert len(text) == 64
    keep_private(create=True)
    assert token.read_text() == text
    assert modes(token) == [0o700, 0o600]
    assert list(token.parent.iterdir()) == [token]


@pytest.mark.parametrize("create", [True, False])
def test_a_token_that_everybody_may_read_becomes_private(create: bool, token: Path) -> None:
    token.parent.mkdir(mode=0o755)
    token.write_text("0" * 64)
    token.chmod(0o644)
    keep_private(create=create)
    assert token.read_text() == "0" * 64
    assert modes(token) == [0o700, 0o600]


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "1"), ("HOME", None)])
def test_no_token_is_created_that_nobody_would_use(name: str, value: str | None, token: Path, monkeypatch) -> None:
    if value is not None:
        monkeypatch.setenv(name, value)
    keep_private(create=value is not None)
    assert not token.exists()
