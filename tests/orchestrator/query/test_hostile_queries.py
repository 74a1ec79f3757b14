"""Queries and predicates on names that SQL misreads, and answers of any type."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import polars as pl
import pytest

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.launch.request import select
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import Sweep
from tests.command_line import forget_users

ODD = """
def run(cell, context):
    context.array("a", [1.0])
    many = {"Loss": 10.0, "loss": 2.0} if cell.seed == 1 else {"loss": 1.0}
    return {**many, "acc@1": 0.5, "val loss": 3.0, "x": 7.0, "metric_x": 8.0, 'q"q': 9.0}
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store, launched once and only read, of metrics and config keys with odd names."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.py").write_text(ODD)
    text = (
        'name="odd"\nworkload="odd:run"\nseeds="0..2"\n'
        '[config]\n"lr.max" = 0.25\nx = 1\nwindow = 5\n[[grid]]\nmethod="m"\n'
    )
    with contextlib.chdir(folder):
        launch(Sweep.from_text(text), store=folder / "results", inline=True)
    yield Store(folder / "results")
    forget_users()


def test_names_that_sql_takes_for_one_are_kept_apart(odd: Store) -> None:
    rows = odd.sql('SELECT seed, "metric_Loss_1", "metric_loss_2" FROM cells ORDER BY seed').rows()
    assert rows == [(0, None, 1.0), (1, 10.0, 2.0), (2, None, 1.0)]
    with pytest.raises(InputError, match="metric_loss_2"):
        odd.sql("SELECT loss FROM cells")
    names = {n for n in odd.sql("SELECT * FROM cells").columns if "x" in n and n not in ("experiment", "seed")}
    assert names == {"config_x", "metric_x_1", "metric_x_2", "lr.max"}
    assert odd.sql("SELECT DISTINCT config_x, metric_x_1, metric_x_2 FROM cells").rows() == [(1, 8.0, 7.0)]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ('SELECT DISTINCT "acc@1" FROM cells', [(0.5,)]),
        ('SELECT DISTINCT "val loss", "lr.max", "q""q" FROM cells', [(3.0, 0.25, 9.0)]),
        ("SELECT DISTINCT COLUMNS('val.*') FROM cells", [(3.0,)]),
        ("SELECT count(*) FROM cells", [(3,)]),
        ('SELECT count(*) FROM cells WHERE "lr.max" = 0.25', [(3,)]),
    ],
)
def test_a_column_is_there_if_a_query_names_it(odd: Store, sql: str, rows: list[tuple[object, ...]]) -> None:
    assert odd.sql(sql).rows() == rows


@pytest.mark.parametrize("sql", ["FROM cells", "TABLE cells", "PIVOT cells ON seed USING sum(1)"])
def test_a_query_that_names_no_column_gets_all(odd: Store, sql: str) -> None:
    assert "val loss" in odd.sql(sql).columns


@pytest.mark.parametrize(
    "sql",
    ["SELECT c FROM cells AS c", "SELECT cells FROM cells", "WITH w AS (FROM cells) SELECT DISTINCT w FROM w"],
)
def test_a_row_as_a_value_has_all_columns(odd: Store, sql: str) -> None:
    (row,) = odd.sql(sql).dtypes
    assert isinstance(row, pl.Struct)
    assert "val loss" in [field.name for field in row.fields]


def test_a_summary_lists_all_columns(odd: Store) -> None:
    assert "val loss" in odd.sql("SUMMARIZE cells")["column_name"].to_list()


@pytest.mark.parametrize(
    ("sql", "columns", "row"),
    [
        ("SELECT 1 a, 2 a, 3 a", ["a", "a_1", "a_2"], (1, 2, 3)),
        ("SELECT 1 a, 2 a, 3 a_1", ["a", "a_1", "a_1_1"], (1, 2, 3)),
        ("SELECT INTERVAL 1 DAY d", ["d"], ("1 day",)),
        ("SELECT union_value(a := 1) u, 5 v", ["u", "v"], ("1", 5)),
        ("SELECT 'infinity'::TIMESTAMP t", ["t"], ("infinity",)),
        ("SELECT DATE '-infinity' d", ["d"], ("-infinity",)),
        ("SELECT [INTERVAL 1 DAY] l", ["l"], ("[1 day]",)),
    ],
)
def test_an_answer_is_a_frame_whatever_it_holds(
    odd: Store, sql: str, columns: list[str], row: tuple[object, ...]
) -> None:
    answer = odd.sql(sql)
    assert (answer.columns, answer.row(0)) == (columns, row)
    assert str(answer)


def test_joined_tables_may_share_names(odd: Store) -> None:
    columns = odd.sql("SELECT * FROM cells, arrays LIMIT 1").columns
    assert {"cell_id", "cell_id_1", "attempt_1"} <= set(columns)


@pytest.mark.parametrize("where", ["true), (true", "seed", "\udcff = 1"])
def test_where_that_is_not_a_condition(odd: Store, where: str) -> None:
    with pytest.raises(InputError, match="--where"):
        select(odd.known(), odd, where)


def test_where_knows_every_config_key(odd: Store) -> None:
    assert len(select(odd.known(), odd, '"lr.max" = 0.25 and seed < 2')[0]) == 2


def test_columns_named_like_words_of_sql(odd: Store) -> None:
    for refused in (
        lambda: odd.sql("SELECT window FROM cells"),
        lambda: select(odd.known(), odd, "window = 5"),
    ):
        with pytest.raises(InputError, match='write the column as "window"'):
            refused()
    with pytest.raises(InputError) as other:
        odd.sql("SELECT 'window' FRM cells")
    assert "double quotes" not in str(other.value)
    assert len(select(odd.known(), odd, '"window" = 5')[0]) == 3
