"""The tanh RNN with sparse weights: its limits in the dense network, and the rules that its graph tells apart."""

import numpy as np
import pytest

from raysweep.workloads import online_rnn
from raysweep.workloads.rnn.architectures.sparse_rnn import places, sparse_tanh_rnn
from raysweep.workloads.rnn.architectures.tanh_rnn import tanh_rnn
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.optimizers import sgd
from raysweep.workloads.rnn.rules.rtrl import rtrl
from raysweep.workloads.rnn.rules.snap import snap
from raysweep.workloads.rnn.rules.sparse_rtrl import sparse_rtrl
from tests.workloads.rnn.replay import Problem


def sparse(**own: float) -> Problem:
    return Problem(12, steps=20, architecture="sparse_tanh_rnn", **own)


def distance(rule, problem: Problem) -> float:
    """Distance of a rule's gradients from RTRL's, relative to these."""
    exact = problem.replay(rtrl()).grads
    return float(np.linalg.norm(problem.replay(rule).grads - exact) / np.linalg.norm(exact))


def test_each_unit_reads_as_many_different_units() -> None:
    rows, columns = places(40, 5, 3)
    assert rows.tolist() == np.repeat(np.arange(40), 5).tolist()
    assert all(len(set(columns[rows == i])) == 5 for i in range(40))
    assert not np.array_equal(columns, places(40, 5, 4)[1])
    counts = np.bincount(columns, minlength=40)  # mean 5, variance about 5: no unit is favoured
    assert counts.sum() == 200
    assert counts.max() < 16


def test_with_all_sources_it_is_the_dense_network() -> None:
    draws = [np.random.default_rng(2) for _ in range(2)]
    networks = [
        kind.init(7, 2, 3, Initial(), rng) for kind, rng in zip((sparse_tanh_rnn(7), tanh_rnn()), draws, strict=True)
    ]
    np.testing.assert_array_equal(networks[0]["W"].reshape(7, 7), networks[1]["W"])
    problem = Problem(7, architecture="sparse_tanh_rnn", fan_in=7)
    dense = Problem(7)
    problem.theta = dense.theta
    np.testing.assert_array_equal(problem.replay(rtrl()).grads, dense.replay(rtrl()).grads)


def test_a_row_has_the_square_norm_of_the_dense_network_on_average() -> None:
    drawn = sparse_tanh_rnn(4).init(256, 1, 1, Initial("orthogonal", 0.3), np.random.default_rng(0))
    norms = (drawn["W"].reshape(256, 4) ** 2).sum(1)
    assert norms.mean() == pytest.approx(0.09, rel=5 * np.sqrt(0.5 / 256))


def test_weights_that_do_not_exist_stay_zero_while_it_learns() -> None:
    problem = sparse()
    learned = problem.replay(rtrl(), optimizer=sgd(learning_rate=0.1)).thetas[-1]
    packed = problem.architecture.pack(problem.layout.split(learned))[0, :, :12]
    exists = np.zeros((12, 12), np.bool_)
    exists[places(12, 4, 0)] = True
    assert (packed[~exists] == 0).all()
    assert (packed[exists] != problem.architecture.pack(problem.layout.split(problem.theta))[0, :, :12][exists]).all()


def test_snap_of_a_higher_order_is_closer_to_rtrl_until_it_is_rtrl() -> None:
    problem = sparse(fan_in=2, scale=0.2)
    distances = [distance(snap(order), problem) for order in (1, 2, 3, 12)]
    assert distances[0] > distances[1] > distances[2] > 0
    assert distances[3] < 1e-13
    assert distance(snap(2), Problem(12, steps=20)) < 1e-13  # on dense weights order 2 is RTRL already


def test_sparse_rtrl_that_keeps_the_largest_weights_keeps_all_that_exist() -> None:
    problem = sparse(fan_in=3)
    problem.theta = problem.layout.join(
        {
            name: array + (3 * np.sign(array) if name == "W" else 0)
            for name, array in problem.layout.split(problem.theta).items()
        }
    )
    kept = sparse_rtrl(k=3, selection="oracle", include_self=False)
    rows, columns = places(12, 3, 0)
    others = rows != columns
    problem.theta = problem.layout.join(
        {name: array * others if name == "W" else array for name, array in problem.layout.split(problem.theta).items()}
    )
    assert distance(kept, problem) < 1e-13
    assert distance(sparse_rtrl(k=2, selection="oracle", include_self=False), problem) > 1e-3


def test_a_cell_learns_and_a_fan_in_beyond_the_network_is_refused() -> None:
    k, settled = online_rnn.settle("snap", None, online_rnn.Config(architecture="sparse_tanh_rnn", hidden=8, order=2))
    assert (k, settled.fan_in, settled.graph, settled.implementation) == (None, 4, 0, "readable")
    with pytest.raises(ValueError, match="fan_in = 9 with hidden = 8; valid: 1 to 8"):
        online_rnn.settle("rtrl", None, online_rnn.Config(architecture="sparse_tanh_rnn", hidden=8, fan_in=9))
    with pytest.raises(ValueError, match="fan_in has no effect on architecture 'tanh_rnn'"):
        online_rnn.settle("rtrl", None, online_rnn.Config(fan_in=4))
