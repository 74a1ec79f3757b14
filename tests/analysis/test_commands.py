"""`table` and `figure` as commands: what ends in which exit code, and that nothing is written on the way there."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from store_frames import SCHEMA, frame, one_seed

from analysis import commands
from analysis.source import ARRAYS_SCHEMA, Source
from orchestrator.errors import InputError, RaysweepError


def show(monkeypatch: pytest.MonkeyPatch, cells: pl.DataFrame) -> None:
    """Let the commands read these cells whatever the store."""
    source = Source(cells, lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))
    monkeypatch.setattr(commands, "_source", lambda path, where: source)


def test_a_table_of_nothing_is_no_success_and_says_what_to_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, pl.DataFrame(schema=SCHEMA))
    with pytest.raises(RaysweepError) as raised:
        commands.table("3")
    assert raised.value.exit_code == 1
    assert str(raised.value) == (
        "table 3 has nothing to show, as none of its 40 cells is done; run: raysweep launch paper/e1-sine"
    )


def test_a_table_of_some_cells_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    show(monkeypatch, frame(one_seed(42)[:1]))
    commands.table("3")
    assert "7 of 8 cells missing" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("step", "must end in .svg or .png"),
        ("step.pdf", "must end in .svg or .png"),
        ("odd/place/step.svg", "there is no folder 'odd/place'; make it first"),
        ("folder.svg", "is a folder; name a file in it"),
        ("", "must end in .svg or .png"),
    ],
)
def test_a_figure_goes_nowhere_odd(output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the store is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "_source", lambda path, where: pytest.fail("the store was read"))
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(InputError, match=said.replace(".", r"\.")) as raised:
        commands.figure("step", output=output)
    assert raised.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


def test_a_figure_that_cannot_be_written_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, frame(one_seed(42)))

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="can't be written: No space left on device"):
        commands.figure("step", output=str(tmp_path / "step.svg"))
