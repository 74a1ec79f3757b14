"""`table` and `figure` as commands: what ends in which exit code, and that nothing is written on the way there."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.claims import ledger
from raysweep.analysis.figures import CAPTIONS
from raysweep.orchestrator.cli import analysis
from raysweep.orchestrator.errors import InputError, RaysweepError
from raysweep.orchestrator.store.reader import Store
from tests.analysis.store_frames import SCHEMA, frame, one_seed


def show(monkeypatch: pytest.MonkeyPatch, cells: pl.DataFrame) -> None:
    """Let the commands read these cells whatever the store."""
    source = Source(cells, lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))
    monkeypatch.setattr(analysis, "_open", lambda store, skip_damaged: Store(store))
    monkeypatch.setattr(analysis, "_source", lambda store, where, named: source)


def test_a_table_of_nothing_is_no_success_and_says_what_to_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, pl.DataFrame(schema=SCHEMA))
    with pytest.raises(RaysweepError) as raised:
        analysis.table("3")
    assert raised.value.exit_code == 1
    assert str(raised.value) == (
        "table 3 is empty, as none of its 40 cells is done; run: raysweep launch paper/e1-sine"
    )


def test_a_figure_of_nothing_ends_as_a_table_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, pl.DataFrame(schema=SCHEMA))
    with pytest.raises(RaysweepError, match="figure 'step' has nothing to draw") as raised:
        analysis.figure("step", output=str(tmp_path / "step.svg"))
    assert raised.value.exit_code == 1


def test_commands_name_the_store_that_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands in messages are about the same store, not the default one."""
    one = frame(one_seed(42)[:1])
    source = Source(one, lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA), at=" --store runs")
    monkeypatch.setattr(analysis, "_open", lambda store, skip_damaged: Store(store))
    monkeypatch.setattr(analysis, "_source", lambda store, where, named: source)
    analysis.table("3")
    output_text = " ".join(capsys.readouterr().out.split())
    assert "raysweep resume paper/e1-sine --store runs" in output_text
    assert CAPTIONS["step"](source).endswith("To run them: raysweep resume paper/e1-sine --store runs.")
    analysis.claims()
    output_text = " ".join(capsys.readouterr().out.split())
    assert "raysweep launch paper/e7-heads --store runs" in output_text
    assert output_text.count("raysweep launch paper/") == output_text.count(" --store runs") - output_text.count(
        "raysweep resume paper/"
    )
    two = pl.concat([one, frame(one_seed(42, full=0.5)).with_columns(cell_id=pl.lit("b") + pl.col("cell_id"))])
    two = two.with_columns(
        config=pl.col("config").str.replace("0.001", pl.lit("0.00") + pl.int_range(pl.len()).cast(pl.String))
    )
    line = ledger(source._replace(cells=two)).filter(pl.col("why").str.starts_with("no verdict, cells of"))
    assert line["command"].str.contains('^raysweep claims --where ".*" --store runs$').all()
    assert line.height


def test_a_store_elsewhere_is_named(cli, write) -> None:
    write("any.py", "def run(cell, context):\n    return {'x': 1.0}\n")
    write("s.toml", 'name = "s"\nworkload = "any:run"\nseeds = [1]\n[[grid]]\nmethod = "m"\n')
    assert cli("launch", "s.toml", "--inline", "--store", "runs").returncode == 0
    ended = cli("table", "3", "--store", "runs")
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("run: raysweep launch paper/e1-sine --store runs")
    drawn = cli("figure", "step", "-o", "step.png", "--store", "runs")
    assert drawn.returncode == 1
    assert drawn.stderr.rstrip().endswith("run: raysweep launch paper/e1-sine --store runs")
    claims = cli("claims", "E7-threshold", "e8", "--store", "runs")
    assert claims.returncode == 0
    assert {line.split(",")[0] for line in claims.stdout.splitlines() if line.endswith(": NOT RUN")} == {
        "E7-threshold", "E8-fisher", "E8-timing",
    }  # fmt: skip
    refused = cli("claims", "E77", "E1", "X", "--store", "runs")
    assert refused.returncode == 2
    assert "no claim begins with 'E77' or 'X'; name them by id or its beginning (E7): E1-recovery, " in refused.stderr


def test_a_table_of_some_cells_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    show(monkeypatch, frame(one_seed(42)[:1]))
    analysis.table("3")
    assert "7 of 8 cells missing" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("step", "must end in .svg or .png"),
        ("step.pdf", "must end in .svg or .png"),
        ("odd/place/step.svg", "there is no folder 'odd/place'; make it first"),
        ("folder.svg", "is a folder; name a file in it"),
        ("", "must end in .svg or .png"),
    ],
)
def test_a_figure_goes_nowhere_odd(output: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the store is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(analysis, "_open", lambda store, skip_damaged: pytest.fail("the store was read"))
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(InputError, match=message.replace(".", r"\.")) as raised:
        analysis.figure("step", output=output)
    assert raised.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


def test_a_figure_that_cannot_be_written_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, frame(one_seed(42)))

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="can't be written: No space left on device"):
        analysis.figure("step", output=str(tmp_path / "step.svg"))
