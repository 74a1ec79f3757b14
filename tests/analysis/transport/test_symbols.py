"""Experiment D: its sweeps, and its answers on accuracies with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raysweep.analysis.transport import chosen
from raysweep.analysis.transport.diagram import QUESTIONS as QUESTIONS_OF_A
from raysweep.analysis.transport.diagram import RATES, SCORED, choices, ladder
from raysweep.analysis.transport.diagram_page import diagram
from raysweep.analysis.transport.experiment import section
from raysweep.analysis.transport.question import Answer, answers, rows_of
from raysweep.analysis.transport.symbols import FIVE_SYMBOLS, QUESTIONS, SWEEPS
from raysweep.analysis.transport.symbols_page import EXPERIMENT
from tests.analysis.transport.test_diagram import at_its_rate, filled, rows


def answered(frame: Any) -> dict[str, Answer]:
    return {answer.question.words: answer for answer in answers(QUESTIONS, frame)}


def test_every_symbol_is_asked_for_after_the_lag_and_windows_reach_it_or_half_of_the_way() -> None:
    frame = rows(SWEEPS)
    assert set(frame["experiment"]) == {FIVE_SYMBOLS.experiment}
    assert set(frame["length"]) == {5}
    assert set(frame["length"] + frame["delay"]) == set(FIVE_SYMBOLS.lags)
    assert (frame["steps"] == 2000 * (10 + frame["delay"])).all()
    windows = frame.drop_nulls("window").select("delay", "window").unique().sort("delay", "window").rows()
    assert windows == [(0, 3), (0, 6), (10, 8), (10, 16)]
    for n in (32, 64, 128):
        own = frame.filter(hidden=n, architecture="tanh_rnn", selection="ring")
        assert sorted(set(own["k"])) == [k for k in ladder(n) if k > 1]


def test_a_recovery_that_is_the_fraction_k_over_n_answers_every_question() -> None:
    frame = filled(lambda row: at_its_rate(row, lambda k, n: k / n), SWEEPS)
    given = answered(frame)
    assert {words for words, answer in given.items() if answer.units != len(SCORED)} == set()
    verdicts = {words: answer.alone for words, answer in given.items() if "tanh RNN" in words and "lag 15" in words}
    assert [verdict for words, verdict in verdicts.items() if "fraction" in words] == ["yes"]
    assert [verdict for words, verdict in verdicts.items() if "absolute" in words] == ["no"]
    assert [verdict for words, verdict in verdicts.items() if "something to transport" in words] == ["yes"]
    assert [verdict for words, verdict in verdicts.items() if "redundant" in words] == ["no"]
    assert [verdict for words, verdict in verdicts.items() if "other paths" in words] == ["yes"]
    points = diagram(frame, FIVE_SYMBOLS)
    assert np.allclose(points["recovery"], 100 * points["k"] / points["hidden"], atol=0.5)
    assert {answer.verdict for answer in answers(QUESTIONS_OF_A, frame)} == {"not run"}


def test_the_printed_launch_runs_the_chosen_cells_alone() -> None:
    def level(row: Any) -> float:
        return 0.9 if row["learning_rate"] == RATES[(row["delay"] // 10 + len(row["method"])) % len(RATES)] else 0.5

    (sweep, *_) = SWEEPS
    frame = filled(level, (sweep,))
    _, command = chosen.commands([sweep], frame, "here")
    where = command.rsplit("--where ", 1)[1].strip("'").replace("'\"'\"'", "'")
    picked = rows_of(f"SELECT * FROM cells WHERE {where}", rows((sweep,)))
    assert picked.height == choices(frame).height == 42
    assert {level(row) for row in picked.to_dicts()} == {0.9}


@pytest.mark.slow
def test_the_section_has_tables_and_its_figure(tmp_path: Any) -> None:
    text = section(EXPERIMENT, filled(lambda row: at_its_rate(row, lambda k, n: k / n), SWEEPS), tmp_path)
    assert "LSTM, n = 64: accuracies of floor and ceiling" in text
    assert (tmp_path / "symbols.svg").stat().st_size > 0
