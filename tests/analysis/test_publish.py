"""The folder of results: all of it from one source, the same bytes twice; what is lacking is reported."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from raysweep.analysis import publish
from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.figures import FIGURES
from raysweep.analysis.publish import write
from raysweep.analysis.tables import TABLES
from tests.analysis.store_frames import frame, one_seed


def test_results_are_the_same_bytes_twice_and_say_what_they_lack(tmp_path: Path) -> None:
    cells = frame(cell for seed in (42, 123) for cell in one_seed(seed))
    source = Source(cells, lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))
    folders = [tmp_path / name for name in ("one", "two")]
    lacking = [write(source, folder) for folder in folders]
    assert lacking[0] == lacking[1]
    files = {path.name: path.read_bytes() for path in folders[0].iterdir()}
    assert files == {path.name: path.read_bytes() for path in folders[1].iterdir()}
    lacking_names = {line.split(":")[0] for line in lacking[0]}
    assert "page rounding" in lacking_names
    assert "figure curves" in lacking_names  # no loss curves were recorded
    assert any(line.startswith("table 4: table 4 is empty, as none of its ") for line in lacking[0])
    expected = {f"table{name}.md" for name in TABLES if f"table {name}" not in lacking_names}
    expected |= {f"{name}.svg" for name in FIGURES if f"figure {name}" not in lacking_names}
    assert files.keys() == expected | {"figures.md", "claims.md"}
    assert b"not run" in files["claims.md"]


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command says when it ends with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["results", *words])
    with pytest.raises(SystemExit) as ended:
        publish.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_store_that_is_none_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(monkeypatch, capsys, "--store", str(tmp_path / "nowhere"), "--to", str(tmp_path / "to"))
    assert message.startswith(f"error: no store at {tmp_path / 'nowhere'}: launch a sweep first")
    assert not (tmp_path / "to").exists()


def test_a_folder_that_cannot_be_written_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source(frame(one_seed(42)), lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))
    monkeypatch.setattr(publish, "from_store", lambda store: source)
    monkeypatch.setattr(publish.Store, "require", lambda store: store)
    (tmp_path / "file").write_text("in the way")
    message = refused(monkeypatch, capsys, "--store", "any", "--to", str(tmp_path / "file"), "--without-figures")
    assert message == f"error: --to {tmp_path / 'file'}: {tmp_path / 'file'}: File exists\n"
