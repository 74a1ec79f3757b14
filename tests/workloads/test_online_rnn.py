"""The workload: its config, what it settles and refuses, what a cell records."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
import tomllib
from importlib import resources

import numpy as np
import pytest
from pydantic import ValidationError

from raysweep.workloads import WORKLOADS, online_rnn
from raysweep.workloads.online_rnn import Config, settle
from raysweep.workloads.rnn.rules import RULES
from tests.workloads.rnn.replay import run_cell

PAPER_DEFAULTS = {
    "architecture": "tanh_rnn",
    "hidden": 64,
    "recurrent_init": "orthogonal",
    "recurrent_scale": 0.3,
    "input_init": "normal",
    "input_scale": 0.1,
    "output_init": "normal",
    "output_scale": 0.1,
    "loss": "mse",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "clip": 1.0,
    "dtype": "float32",
    "rounding": 0,
    "stream": "sine",
    "steps": 2000,
}
FILLED = {
    "leak": 1.0,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "shift": 1000,
    "frequency_before": 0.1,
    "frequency_after": 0.3,
    "phase": "jump",
}


REPLAYED = {"implementation": "fused", "tol": 1e-8}


def refusal(method, k=None, **config) -> list[str]:
    with pytest.raises(ValueError, match=r"\w") as caught:
        settle(method, k, Config(**config))
    return str(caught.value).splitlines()


def test_defaults_are_pinned():
    # a change here gives cells other ids: bump VERSION or mark the field AddedLater
    assert Config().model_dump(exclude_none=True) == PAPER_DEFAULTS
    assert online_rnn.VERSION == "2"


@pytest.mark.parametrize(
    ("method", "requested", "stored", "own"),
    [
        ("rtrl", None, 64, REPLAYED),
        ("rtrl", 64, 64, REPLAYED),
        ("traces", None, 0, {"decay": 0.95, "implementation": "fused"}),
        ("traces", 0, 0, {"decay": 0.95, "implementation": "fused"}),
        ("sparse_rtrl", 4, 4, {"selection": "ring", "include_self": False} | REPLAYED),
        ("bptt", None, None, {"window": 1, "implementation": "fused"}),
        ("uoro", None, None, {"uoro_variant": "guarded", "noise": "sign", "implementation": "readable"}),
    ],
)
def test_settle_fills_in_what_the_choices_leave_open(method, requested, stored, own):
    k, config = settle(method, requested, Config())
    assert k == stored
    assert config.model_dump(exclude_none=True) == PAPER_DEFAULTS | FILLED | own
    assert settle(method, k, config) == (k, config)
    assert Config.model_validate(config.model_dump()) == config


def test_settle_keeps_what_is_given():
    config = settle("traces", 0, Config(decay=0.5, optimizer="sgd", leak=0.3, shift=10, steps=20))[1]
    assert (config.decay, config.leak, config.beta1, config.shift) == (0.5, 0.3, None, 10)


def test_rmsprop_has_torchs_settings_and_normalises_each_parameter_unless_told_otherwise():
    config = settle("traces", 0, Config(optimizer="rmsprop"))[1]
    assert (config.beta1, config.beta2, config.epsilon, config.normalize) == (None, 0.99, 1e-8, "parameter")
    assert settle("traces", 0, Config(optimizer="rmsprop", normalize="group"))[1].normalize == "group"
    with pytest.raises(ValidationError, match="normalize"):
        Config(optimizer="rmsprop", normalize="layer")


def test_roundings_of_a_seed_begin_alike_and_differ():
    short = {"hidden": 8, "steps": 60, "shift": 30, "implementation": "readable"}
    losses = [run_cell("traces", 0, **short, rounding=rounding)[1].arrays["loss"] for rounding in (0, 1, 1, 2)]
    np.testing.assert_array_equal(losses[1], losses[2])
    for other in (losses[1], losses[3]):
        assert 0 < np.abs(other - losses[0]).max() < 1e-4
    assert np.abs(losses[3] - losses[1]).max() > 0


def test_a_setting_without_effect_is_refused():
    assert refusal("rtrl", normalize="group") == ["normalize has no effect on optimizer 'adam'; it belongs to: rmsprop"]
    assert refusal("rtrl", decay=0.9) == ["decay has no effect on method 'rtrl'; it belongs to: pp_prop, traces"]
    assert refusal("bptt", selection="ring", optimizer="sgd", beta1=0.5) == [
        "beta1 has no effect on optimizer 'sgd'; it belongs to: adam, adam_reference",
        "selection has no effect on method 'bptt'; it belongs to: sparse_rtrl",
    ]


def test_all_problems_come_at_once():
    assert refusal("sparse_rtrl", 5, decay=0.9, optimizer="sgd", epsilon=1e-8, steps=500) == [
        "epsilon has no effect on optimizer 'sgd'; it belongs to: adam, adam_reference, rmsprop",
        "decay has no effect on method 'sparse_rtrl'; it belongs to: pp_prop, traces",
        "k = 5 on selection 'ring': a ring without self has as many sources on either side; "
        "valid: even k from 2 to 62, or k = n = 64 (full)",
        "shift = 1000 with steps = 500; valid: 1 to 499",
    ]


def test_k_that_cannot_be():
    assert refusal("sparse_rtrl") == [
        "method 'sparse_rtrl' needs k: the number of sources a unit keeps, 0 to hidden = 64"
    ]
    assert refusal("sparse_rtrl", 65) == ["k = 65 with 64 hidden units; valid: 0 to 64"]
    assert refusal("sparse_rtrl", -2) == ["k = -2 with 64 hidden units; valid: 0 to 64"]
    assert refusal("sparse_rtrl", 0, include_self=True) == [
        "k = 0 with include_self = true; valid: k >= 1 (self is one of the k), or include_self = false"
    ]
    assert refusal("rtrl", 4) == [
        "k = 4 on method 'rtrl', which keeps all hidden = 64 sources; leave k out, or use 'sparse_rtrl'"
    ]
    assert refusal("traces", 4) == [
        "k = 4 on method 'traces', which propagates nothing; leave k out (it is 0), or use 'sparse_rtrl'"
    ]
    assert refusal("bptt", 4) == ["k = 4 has no effect on method 'bptt'; leave k out (see window)"]
    assert settle("sparse_rtrl", 64, Config())[0] == 64
    assert settle("sparse_rtrl", 5, Config(selection="random"))[0] == 5


def test_windows_and_shifts_that_do_not_fit():
    assert refusal("bptt", window=30, steps=20, shift=10) == ["window = 30 with steps = 20; valid: 1 to 20"]
    assert refusal("rtrl", steps=20, shift=20) == ["shift = 20 with steps = 20; valid: 1 to 19"]
    assert refusal("rtrl", steps=1, shift=1) == ["steps = 1 on a stream with a shift; valid: 2 or more"]


def test_what_would_never_happen():
    short = {"steps": 100, "shift": 50}
    fisher = {"selection": "fisher_oracle", **short}
    assert refusal("sparse_rtrl", 4, **fisher) == ["fisher_window = 200 with steps = 100; valid: 1 to 99"]
    assert refusal("sparse_rtrl", 4, **fisher, fisher_window=100) == [
        "fisher_window = 100 with steps = 100; valid: 1 to 99"
    ]
    assert settle("sparse_rtrl", 4, Config(**fisher, fisher_window=99))[1].fisher_window == 99
    for name in ("spectrum_every", "alignment_every"):
        assert refusal("rtrl", **short, **{name: 101}) == [f"{name} = 101 with steps = 100; valid: 1 to 100"]


def test_an_unknown_method_has_a_near_miss():
    assert refusal("sparse_rtl") == [
        "unknown method 'sparse_rtl'; did you mean 'sparse_rtrl'? Known: " + ", ".join(sorted(RULES))
    ]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("stream", "sin", "unknown stream 'sin'; did you mean 'sine'?"),
        ("architecture", "tanh", "unknown architecture 'tanh'"),
        ("optimizer", "adm", "did you mean 'adam'?"),
        ("selection", "rings", "did you mean 'ring'?"),
        ("recurrent_init", "ortogonal", "did you mean 'orthogonal'?"),
        ("loss", "mean", "unknown loss 'mean'"),
        ("hidden", 0, "greater than or equal to 1"),
        ("hidden", 10**21, "less than or equal to 65536"),
        ("frequency_before", 4.0, "less than 3.14"),
        ("scale", 1e-320, "greater than or equal to 0.000001"),
        ("scale", 1e300, "less than or equal to 1000000"),
        ("rank", 10**9, "less than or equal to 4096"),
        ("burn_in", 10**12, "less than or equal to 10000000"),
        ("hidden", "64", "valid integer"),
        ("hidden", 64.5, "valid integer"),
        ("learning_rate", 0.0, "greater than 0"),
        ("learning_rate", math.nan, "finite"),
        ("learning_rate", "0.1", "valid number"),
        ("clip", math.inf, "finite"),
        ("clip", -1.0, "greater than or equal to 0"),
        ("leak", 1.5, "less than or equal to 1"),
        ("decay", 1.0, "less than 1"),
        ("window", 0, "greater than or equal to 1"),
        ("dtype", "float16", "'float32' or 'float64'"),
        ("phase", "smooth", "'jump' or 'continuous'"),
        ("steps", True, "valid integer"),
        ("lr", 0.1, "Extra inputs"),
    ],
)
def test_config_refuses(field, value, says):
    with pytest.raises(ValidationError, match=re.escape(says)):
        Config.model_validate({field: value})


def test_an_integer_is_a_number():
    assert Config(clip=1) == Config(clip=1.0)
    assert isinstance(Config(clip=1).clip, float)


def test_a_million_cells_can_be_settled():
    raw = {"hidden": 64, "learning_rate": 1e-3, "steps": 2000}
    started = time.process_time()
    for _ in range(2000):
        settle("sparse_rtrl", 4, Config.model_validate(raw))
    assert (time.process_time() - started) / 2000 < 2e-4


def test_cost_orders_the_cells():
    def cost(method, k=None, **config):
        return online_rnn.cost(method, *settle(method, k, Config(**config)))

    ordered = [
        cost("traces"),
        cost("bptt", window=50),
        cost("sparse_rtrl", 4, hidden=256),
        cost("rtrl", hidden=256),
        cost("rtrl", hidden=256, steps=4000),
    ]
    assert ordered == sorted(ordered)
    assert len(set(ordered)) == 5


def test_cost_knows_gates_inputs_and_the_implementation():
    def cost(**config):
        return online_rnn.cost("sparse_rtrl", *settle("sparse_rtrl", 4, Config(**config)))

    assert cost(architecture="lstm") > 3 * cost()
    assert cost(implementation="readable", hidden=128) > 10 * cost(hidden=128)
    assert cost(stream="lorenz") > cost()
    rtrl = [
        online_rnn.cost("rtrl", *settle("rtrl", None, Config(architecture=name, hidden=128, implementation="readable")))
        for name in ("lru", "lstm")
    ]
    assert rtrl[0] < rtrl[1] / 10  # an LRU's influence stays within units


def metrics_of(windows: str) -> set[str]:
    names = windows.split()
    return {f"{kind}_{name}" for kind in ("mse", "persistence", "rls2", "constant") for name in names}


def test_what_a_cell_records():
    metrics, recorder = run_cell("sparse_rtrl", 4, hidden=8, steps=700, shift=450)
    assert metrics.keys() == {"diverged", "seconds_per_step", "carried_from"} | metrics_of(
        "pre_all pre_last_200 post_all post_last_200"
    )
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    assert metrics["diverged"] == 0.0
    loss = recorder.arrays["loss"]
    assert loss.dtype == np.float32
    assert loss.shape == (700,)
    assert metrics["mse_post_all"] == pytest.approx(loss[450:].mean(), rel=1e-5)
    assert metrics["mse_pre_last_200"] == pytest.approx(loss[250:450].mean(), rel=1e-5)
    assert recorder.fractions[-2:] == [metrics["carried_from"] / 700, 1.0]
    assert 0 < metrics["seconds_per_step"] < 0.1


@pytest.mark.parametrize(("hidden", "fractions"), [(8, [0.4, 0.8, 1.0]), (130, [0.8, 0.88, 0.96, 1.0])])
def test_progress_is_told_every_thousand_steps_and_with_many_units_every_two_hundred(hidden, fractions):
    _, recorder = run_cell("traces", 0, hidden=hidden, steps=2500, shift=450)
    assert recorder.fractions[-len(fractions) :] == fractions


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_that_blows_up_is_recorded_as_such(dtype):
    metrics, recorder = run_cell("rtrl", hidden=16, learning_rate=500.0, steps=400, shift=200, dtype=dtype)
    at = int(metrics["diverged_at"])
    assert 0 < at < 400
    assert metrics["diverged"] == 1.0
    assert recorder.arrays["loss"].shape == (at,)
    assert recorder.arrays["loss"].max() <= 1e6
    assert all(math.isfinite(value) for value in metrics.values())
    assert ("mse_pre_all" in metrics) == (at >= 200)
    assert "mse_post_all" not in metrics
    assert "persistence_post_all" in metrics


def test_numbers_that_overflow_end_the_run_without_a_warning():
    metrics, _ = run_cell("sparse_rtrl", 2, hidden=8, optimizer="sgd", clip=0.0, learning_rate=1e30, steps=50, shift=25)
    assert (metrics["diverged"], metrics["diverged_at"]) == (1.0, 1.0)


def test_a_divergence_after_a_window_leaves_the_window(monkeypatch):
    slow_then_fast = {"hidden": 8, "steps": 100, "shift": 50, "frequency_before": 0.01, "frequency_after": 2.0}
    full, recorder = run_cell("traces", **slow_then_fast)
    losses = recorder.arrays["loss"]
    assert losses[:50].max() < 0.3 < losses[50:].max()
    monkeypatch.setattr("raysweep.workloads.rnn.fused.train.DIVERGED_ABOVE", 0.3)
    metrics, recorder = run_cell("traces", **slow_then_fast)
    assert metrics["diverged_at"] == np.argmax(losses > 0.3)
    np.testing.assert_array_equal(recorder.arrays["loss"], losses[: int(metrics["diverged_at"])])
    assert metrics["mse_pre_all"] == full["mse_pre_all"]
    assert "mse_post_all" not in metrics


@pytest.mark.parametrize("method", RULES)
def test_every_method_runs_as_a_cell_with_the_same_bits_twice(method):
    k = 4 if RULES[method].takes_k else None
    config = {"hidden": 8, "steps": 60, "shift": 30}
    (first, curve), (second, again) = (run_cell(method, k, seed=5, **config) for _ in range(2))
    del first["seconds_per_step"], second["seconds_per_step"]
    assert first == second
    assert curve.arrays["loss"].tobytes() == again.arrays["loss"].tobytes()
    assert run_cell(method, k, seed=6, **config)[0]["mse_pre_all"] != first["mse_pre_all"]


def test_a_random_mask_leaves_the_weights_alone():
    # one step: no propagation yet, so the same weights give the same first loss
    losses = [
        run_cell("sparse_rtrl", 3, hidden=8, steps=3, shift=1, selection=selection, include_self=True)[1]
        for selection in ("ring", "random")
    ]
    assert losses[0].arrays["loss"][0] == losses[1].arrays["loss"][0]


def test_the_smallest_network_learns():
    metrics, _ = run_cell("rtrl", hidden=1, steps=60, shift=30)
    assert metrics["diverged"] == 0.0


FRESH = """
import json, sys
from raysweep.workloads import online_rnn
print(json.dumps([m for m in ("torch", "ray", "numba", "polars", "pyarrow", "scipy") if m in sys.modules]))
"""


def test_importing_the_workload_imports_nothing_heavy():
    out = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


THREADS = """
from tests.workloads.rnn.replay import run_cell
for method, k in (("rtrl", None), ("sparse_rtrl", 2)):
    _, recorder = run_cell(method, k, hidden=140, steps=6, shift=3)
    print(recorder.arrays["loss"].tobytes().hex())
"""


def test_results_do_not_depend_on_the_thread_count():
    command = [sys.executable, "-c", THREADS]
    curves = []
    for threads in ("1", "2"):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        curves.append(out.stdout.split())
    assert len(curves[0]) == 2
    assert curves[0] == curves[1]


NOISY = [name for name, rule in RULES.items() if rule.draws_noise]
ELSEWHERE = """
import sys
from tests.workloads.rnn.replay import run_cell
for method in sys.argv[1:]:
    print(run_cell(method, hidden=8, steps=60, shift=30)[1].arrays["loss"].tobytes().hex())
"""


def test_a_stochastic_rule_gives_the_same_bits_in_another_process():
    command = [sys.executable, "-c", ELSEWHERE, *NOISY]
    environment = os.environ | {"PYTHONHASHSEED": "7", "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    here = [run_cell(method, hidden=8, steps=60, shift=30)[1].arrays["loss"].tobytes().hex() for method in NOISY]
    assert len(here) >= 5
    assert out.stdout.split() == here
    other = [
        run_cell(method, seed=43, hidden=8, steps=60, shift=30)[1].arrays["loss"].tobytes().hex() for method in NOISY
    ]
    assert not set(here) & set(other)


def test_the_paper_sweep_is_settled_as_it_stands():
    sweep = tomllib.loads(resources.files("raysweep.workloads").joinpath("paper/e1-sine.toml").read_text("utf-8"))
    assert WORKLOADS[sweep["workload"]] == "raysweep.workloads.online_rnn:run"
    assert sweep["seeds"] == [42, 123, 7, 2024, 31337]
    rows = []
    for block in sweep["grid"]:
        own = {key: value for key, value in block.items() if key not in ("method", "k", "decay")}
        for k in np.atleast_1d(block.get("k", -1)).tolist():
            for decay in block.get("decay", [None]):
                given = sweep["config"] | own | ({} if decay is None else {"decay": decay})
                stored, config = settle(block["method"], None if k == -1 else k, Config.model_validate(given))
                ours = {"decay", "selection", "include_self", "window", "implementation", "tol"}
                assert config.model_dump(exclude_none=True, exclude=ours) == PAPER_DEFAULTS | FILLED
                rows.append((block["method"], stored, config.decay))
    assert rows == [
        ("traces", 0, 0.0),
        ("traces", 0, 0.95),
        *(("sparse_rtrl", k, None) for k in (4, 8, 16, 32)),
        ("rtrl", 64, None),
        ("bptt", None, None),
    ]


@pytest.mark.parametrize(
    ("method", "k", "config", "least", "most"),
    [
        ("traces", 0, {"decay": 0.95}, 0.05, 2.0),
        ("traces", 0, {"decay": 0.0}, 1e-5, 2e-3),
        ("sparse_rtrl", 4, {}, 5e-4, 6e-3),
    ],
)
def test_experiment_1_comes_out_as_measured_before(method, k, config, least, most):
    metrics, _ = run_cell(method, k, seed=123, **config)
    assert least < metrics["mse_post_last_500"] < most
    assert metrics["persistence_post_last_500"] == pytest.approx(0.0447, rel=0.02)


def test_one_step_windows_learn_as_traces_without_decay():
    variants = (("bptt", {"window": 1}), ("traces", {"decay": 0.0}))
    one, other = (run_cell(m, implementation="readable", steps=500, shift=250, **c)[1] for m, c in variants)
    assert one.arrays["loss"].tobytes() == other.arrays["loss"].tobytes()
    one, other = (run_cell(m, dtype="float64", **c)[1].arrays["loss"] for m, c in variants)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
