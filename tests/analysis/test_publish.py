"""The folder of results: all of it from one source, the same bytes twice; what is lacking is reported."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from raysweep.analysis import publish
from raysweep.analysis.cells.saved import from_file, to_file
from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.figures import FIGURES
from raysweep.analysis.publish import write
from raysweep.analysis.tables import TABLES
from raysweep.orchestrator.errors import InputError
from tests.analysis.store_frames import frame, one_seed

pytestmark = pytest.mark.usefixtures("few_resamples")


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


def test_a_figure_whose_cells_have_no_arrays_is_kept_with_its_caption(tmp_path: Path) -> None:
    shifting = pl.col("config").str.replace("{", '{"shift": 1000, ', literal=True)
    cells = frame(one_seed(42)).with_columns(shifting)
    loss = {"name": "loss", "step": 0, "stride": 1, "values": [0.1] * 2000}
    ids = cells.filter(experiment="sine")["cell_id"]
    arrays = pl.DataFrame([{"cell_id": name, **loss} for name in ids], schema=ARRAYS_SCHEMA)
    write(Source(cells, lambda names: arrays.filter(pl.col("name").is_in(list(names)))), tmp_path)
    drawn, captions = (tmp_path / "curves.svg").read_bytes(), (tmp_path / "figures.md").read_text("utf-8")

    def caption(name: str, text: str) -> str:
        (line,) = (after for image, after in pairwise(text.split("\n\n")) if image == f"![{name}]({name}.svg)")
        return line.strip()

    more = frame(cell for seed in (42, 123) for cell in one_seed(seed)).with_columns(shifting)
    lacking = write(Source(more, lambda names: arrays.filter(pl.col("name").is_in(list(names)))), tmp_path)
    (line,) = (line for line in lacking if line.startswith("figure curves"))
    assert line.startswith(
        "figure curves, kept as published: 4 of 8 done cells of experiment 'sine' have no array loss"
    )
    assert (tmp_path / "curves.svg").read_bytes() == drawn
    now = (tmp_path / "figures.md").read_text("utf-8")
    assert caption("curves", now) == caption("curves", captions)
    assert "n = 2 seeds" in caption("step", now)
    (tmp_path / "curves.svg").unlink()
    assert any(line.startswith("figure curves: 4 of 8") for line in write(Source(more, lambda _: arrays), tmp_path))
    assert "curves" not in (tmp_path / "figures.md").read_text("utf-8")


def test_save_writes_the_arrays_beside_the_cells_and_lists_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = frame(one_seed(42))
    large = {"name": "loss", "step": 0, "stride": 1, "values": [0.0] * 600_000}
    arrays = pl.DataFrame(
        [{"cell_id": name, **large} for name in cells.filter(experiment="sine")["cell_id"][:2]], schema=ARRAYS_SCHEMA
    )
    source = Source(cells, lambda names: arrays.filter(pl.col("name").is_in(list(names))))
    monkeypatch.setattr(publish, "from_store", lambda store: source)
    monkeypatch.setattr(publish.Store, "require", lambda store: store)
    words = ("--store", "any", "--to", str(tmp_path), "--save", str(tmp_path / "cells.parquet"), "--without-figures")
    monkeypatch.setattr(sys, "argv", ["results", *words])
    publish.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "arrays of experiment sine are not saved: loss, 1200000 values; the file holds 1000000"
    assert {"cells.parquet", "arrays.parquet"} <= {path.name for path in tmp_path.iterdir()}


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


def test_fresh_seeds_have_the_pages_and_the_papers_a_folder(tmp_path: Path) -> None:
    cells = frame(cell for seed in (42, 1000, 1001) for cell in one_seed(seed))
    other = frame(one_seed(123)).with_columns(experiment=pl.lit("elsewhere"), cell_id=pl.col("cell_id") + "x")
    source = Source(pl.concat([cells, other]), lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))
    parts = publish.pages(source)
    seeds = {name: sorted(part.cells["seed"].unique()) for name, part in parts.items()}
    assert seeds == {"": [123, 1000, 1001], "paper-seeds": [42, 123]}
    assert publish.pages(Source(other, source.arrays)).keys() == {""}


def test_saved_cells_give_the_same_tables_and_claims_and_name_no_machine(tmp_path: Path) -> None:
    cells = frame(cell for seed in (42, 123) for cell in one_seed(seed)).with_columns(host=pl.lit("secret"))
    source = Source(cells, lambda names: pl.DataFrame(schema=ARRAYS_SCHEMA))
    to_file(source, tmp_path / "cells.parquet")
    assert b"secret" not in (tmp_path / "cells.parquet").read_bytes()
    again = from_file(tmp_path / "cells.parquet")
    assert source.cells["cell_id"].to_list() != again.cells["cell_id"].to_list()  # in another order
    for folder, part in (("one", source), ("two", again)):
        write(part, tmp_path / folder, figures=False)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    with pytest.raises(InputError, match="cannot read cells"):
        from_file(tmp_path / "nowhere.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match="no column cell_id"):
        from_file(tmp_path / "other.parquet")
