"""The workload `vit`: settings, metrics by hand, and that a cell is the same whether or not it was interrupted."""

from __future__ import annotations

import io
import subprocess
import sys
import tomllib
from importlib import resources
from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError

from raysweep.workloads import WORKLOADS, vit
from raysweep.workloads.vit import Config, metrics, settle, workload
from raysweep.workloads.vit.replay import refill
from raysweep.workloads.vit.selection import METHODS
from tests.conftest import ROOT
from tests.workloads.vit.vit_cells import (
    Context,
    Stopped,
    cell_of,
    run,
    timeless,
    write_images,
)

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

from raysweep.workloads.vit.checkpoint import FORMAT, State, restore  # noqa: E402
from raysweep.workloads.vit.model import Shape, build  # noqa: E402

RANDOM = ("sparse", "sparse_forward", "random")
RANKED = ("fisher_oracle", "fisher_anti", "entropy_oracle", "entropy_anti")


@pytest.fixture(autouse=True)
def small_images(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path))
    write_images(tmp_path / "tiny.parquet")


def test_forgetting_and_transfer_of_a_matrix_by_hand():
    rows = [[0.9], [0.5, 0.8], [0.6, 0.3, 0.7]]
    assert metrics.average_accuracy(rows) == pytest.approx((0.6 + 0.3 + 0.7) / 3)
    assert metrics.forgetting(rows) == pytest.approx(((0.9 - 0.6) + (0.8 - 0.3)) / 2)
    assert metrics.backward_transfer(rows) == pytest.approx(((0.6 - 0.9) + (0.3 - 0.8)) / 2)


def test_forgetting_counts_from_the_best_so_far_and_transfer_from_the_first():
    rows = [[0.5], [0.7, 0.8], [0.6, 0.9, 0.7]]
    assert metrics.forgetting(rows) == pytest.approx(((0.7 - 0.6) + (0.8 - 0.9)) / 2)
    assert metrics.backward_transfer(rows) == pytest.approx(((0.6 - 0.5) + (0.9 - 0.8)) / 2)


def test_one_task_forgets_nothing():
    assert metrics.average_accuracy([[0.4]]) == 0.4
    assert metrics.forgetting([[0.4]]) is None
    assert metrics.backward_transfer([[0.4]]) is None


def test_spearman_by_hand():
    one = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert metrics.spearman(one, np.exp(one)) == pytest.approx(1)
    assert metrics.spearman(one, -one) == pytest.approx(-1)
    assert metrics.spearman(one, np.array([[2.0, 1.0, 4.0, 3.0]])) == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert metrics.spearman(one, np.array([[1.0, 1.0, 2.0, 2.0]])) == pytest.approx(2 / 5**0.5)
    assert metrics.spearman(np.vstack([one, one]), np.vstack([one, -one])) == pytest.approx(0)
    assert metrics.spearman(one, np.ones((1, 4))) is None


def test_the_buffer_stays_balanced_and_keeps_what_it_has():
    labels = np.tile(np.arange(4), 30)
    rng = np.random.default_rng(0)
    first = refill(np.zeros(0, np.int64), labels, np.flatnonzero(labels < 2), 21, rng)
    assert np.bincount(labels[first]).tolist() == [11, 10]
    second = refill(first, labels, np.flatnonzero(labels >= 2), 21, rng)
    assert np.bincount(labels[second]).tolist() == [6, 5, 5, 5]
    assert len(set(second.tolist())) == 21
    old = second[labels[second] < 2]
    assert set(old.tolist()) == {*first[:6].tolist(), *first[11:16].tolist()}


def test_a_class_with_few_examples_leaves_its_places_empty():
    labels = np.array([0, 0, 1, 1, 1, 1])
    held = refill(np.zeros(0, np.int64), labels, np.arange(6), 8, np.random.default_rng(0))
    assert sorted(held.tolist()) == [0, 1, 2, 3, 4, 5]


def test_what_is_stored_of_k():
    assert cell_of("dense_ref").k == cell_of("bptt_ref", 4).k == 4
    assert cell_of("trace_like").k == 1
    assert cell_of("sparse", 3).k == 3


def test_settling_fills_what_belongs_to_the_method_and_is_idempotent():
    for method in METHODS:
        cell = cell_of(method, None if METHODS[method].k else 2)
        config = cell.config
        assert (config.rank_after == 1) == (method in RANKED)
        assert config.select_from == (2 if METHODS[method].staged else None)
        assert config.forward_test == ("all_heads" if method == "sparse_forward" else None)
        assert len(config.digest) == 16
        assert settle(method, cell.k, config) == (cell.k, config)
    assert cell_of("fisher_anti", 2, rank_after=2).config.select_from == 3
    defaults = settle("dense_ref", None, Config())[1]
    assert (defaults.replay, defaults.replay_batch, defaults.replay_weight) == (1000, 32, 1.0)
    without = cell_of("no_replay").config
    assert without.replay is without.replay_batch is without.replay_weight is None


@pytest.mark.parametrize(
    ("method", "k", "config", "message"),
    [
        ("sparse", None, {}, "method 'sparse' needs k, the number of heads of each block in S; valid: 1 to 4"),
        ("sparse", 5, {}, "k = 5 with 4 heads; valid: 1 to 4"),
        ("sparse", 0, {}, "k = 0 with 4 heads"),
        ("trace_like", 2, {}, "k = 2 with method 'trace_like', which has k = 1; leave k out"),
        ("dense_ref", None, {"tasks": 3}, "tasks = 3 do not divide the 10 classes; valid: 1, 2, 5"),
        ("dense_ref", None, {"patch": 5}, "patch = 5 does not divide 32 pixels"),
        ("dense_ref", None, {"rank_after": 1}, "rank_after has no effect on method 'dense_ref'; it belongs to: "),
        ("sparse", 2, {"select_from": 2}, "select_from has no effect on method 'sparse'; it belongs to: random"),
        ("sparse", 2, {"forward_test": "all_heads"}, "forward_test has no effect on method 'sparse'"),
        ("random", 2, {"select_from": 6}, "select_from = 6 with tasks = 5; valid: 2 to 5"),
        ("fisher_oracle", 2, {"rank_after": 2, "select_from": 2}, "select_from = 2 with rank_after = 2; valid: 3"),
        ("sparse", 2, {"select_from": 3}, "select_from has no effect on method 'sparse'"),
        ("sparse", 2, {"replay": 9}, "replay = 9 places for 10 classes; valid: 10 or more"),
        ("dense_ref", None, {"data_set": "other"}, "no file other.parquet in "),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(method, k, config, message):
    with pytest.raises(ValueError, match=message.replace("(", "\\(")) as caught:
        cell_of(method, k, **config)
    assert "\n" not in str(caught.value)


def test_all_problems_at_once_a_line_each():
    with pytest.raises(ValueError, match="needs k") as caught:
        cell_of("sparse", None, tasks=4, patch=7)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("config", [{"data_set": "../x"}, {"learning_rate": float("inf")}, {"head": 12}, {"epochs": 0}])
def test_a_config_refuses(config):
    with pytest.raises(ValidationError):
        Config(**config)


def test_without_torch_the_plan_says_what_to_install(monkeypatch):
    monkeypatch.setattr(workload, "find_spec", lambda name: None)
    workload.has_torch.cache_clear()
    try:
        with pytest.raises(ValueError, match="needs torch, which is not installed: pip install torch"):
            cell_of("dense_ref")
    finally:
        workload.has_torch.cache_clear()


def test_planning_imports_no_torch():
    code = "import sys, raysweep.workloads.vit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


METRICS = {
    "accuracy_average", "accuracy_new", "accuracy_later", "forgetting", "backward_transfer", "diverged", "images_per_s",
    "images_measured",
    *(f"accuracy_task_{i}" for i in range(1, 6)),
    *(f"{name}_spearman_{i}_{j}" for name in ("fisher", "entropy") for i in range(1, 6) for j in range(i + 1, 6)),
    *(f"{name}_accuracy_average" for name in ("chance", "nearest_mean", "ridge")),
    "nearest_mean_forgetting", "ridge_forgetting",
}  # fmt: skip
ARRAYS = {"loss", *(f"{name}_after_{i}" for name in ("accuracy", "fisher", "entropy") for i in range(1, 6))}
ARRAYS |= {f"head_movement_{i}" for i in range(1, 6)}


@pytest.mark.parametrize("method", METHODS)
def test_what_a_cell_records(method):
    recorded, context = run(cell_of(method, None if METHODS[method].k else 2))
    assert set(recorded) == METRICS
    assert set(context.arrays) == ARRAYS | ({"kept"} if method in RANKED else set())
    assert len(context.arrays["loss"]) == 5 * 2  # tasks, steps
    rows = [context.arrays[f"accuracy_after_{i}"] for i in range(1, 6)]
    assert [len(row) for row in rows] == [1, 2, 3, 4, 5]
    assert recorded["accuracy_average"] == pytest.approx(np.mean(rows[-1]))
    assert recorded["forgetting"] == pytest.approx(metrics.forgetting([row.tolist() for row in rows]))
    assert recorded["accuracy_later"] == pytest.approx(np.mean(rows[-1][2:]))
    assert context.arrays["fisher_after_3"].shape == (4 * 2 * 4,)
    assert (context.arrays["fisher_after_3"] > 0).all()
    assert context.arrays["entropy_after_3"].shape == (2 * 4,)
    assert context.arrays["entropy_after_3"].max() <= np.log(5) + 1e-6
    assert context.arrays["head_movement_3"].shape == (2 * 4,)
    assert context.arrays["head_movement_3"].min() > 0
    assert context.fractions == pytest.approx(np.arange(1, 6) / 5)


def test_dense_ref_is_bptt_ref_to_the_bit_and_so_is_sparse_with_all_heads():
    one, two = run(cell_of("bptt_ref"))[1].arrays, run(cell_of("dense_ref"))[1].arrays
    three = run(cell_of("sparse", 4))[1].arrays
    for name in ARRAYS:
        np.testing.assert_array_equal(one[name], two[name])
        np.testing.assert_array_equal(one[name], three[name])


def test_selection_begins_where_it_says_and_not_before():
    dense = run(cell_of("dense_ref"))[1].arrays
    for method in ("random", "fisher_oracle", "entropy_anti"):
        first = 4 if method == "entropy_anti" else 2
        rank = {} if method == "random" else {"rank_after": first - 1}
        arrays = run(cell_of(method, 1, select_from=first, **rank))[1].arrays
        same = (first - 1) * 2  # steps
        np.testing.assert_array_equal(arrays["loss"][: same + 1], dense["loss"][: same + 1])
        assert (arrays["loss"][same + 1 :] != dense["loss"][same + 1 :]).all()


def test_rankings_keep_the_heads_that_they_name():
    for method, score in (("fisher_oracle", "fisher"), ("fisher_anti", "fisher"), ("entropy_oracle", "entropy")):
        _, context = run(cell_of(method, 1, rank_after=2, seed=3))
        scores = context.arrays[f"{score}_after_2"].reshape(-1, 2, 4).sum(0)
        best = scores.argmax(1) if method == "fisher_oracle" else scores.argmin(1)
        assert context.arrays["kept"].reshape(2, 4).argmax(1).tolist() == best.tolist()
        assert context.arrays["kept"].sum() == 2


def test_a_method_does_not_change_the_data_order():
    """With no head cut in the first forward pass, all methods see the same first loss; and a buffer comes in later."""
    first = [run(cell_of(method, k))[1].arrays["loss"][0] for method, k in (("dense_ref", None), ("sparse", 1))]
    assert first[0] == first[1]
    without = run(cell_of("no_replay"))[1].arrays["loss"]
    np.testing.assert_array_equal(without[:2], run(cell_of("dense_ref"))[1].arrays["loss"][:2])


@pytest.mark.parametrize(("method", "stop"), [("sparse", 1), ("fisher_oracle", 5), ("fisher_oracle", 10)])
def test_a_cell_taken_up_from_any_epoch_ends_in_the_same_bits(method, stop):
    cell = cell_of(method, 2, epochs=2)
    whole, context = run(cell, Context())
    assert context.saves == 10
    stopped = Context(stop_after=stop)
    with pytest.raises(Stopped):
        run(cell, stopped)
    resumed = Context(data=stopped.data)
    recorded, _ = run(cell, resumed)
    assert timeless(recorded) == timeless(whole)
    assert resumed.saves == 10 - stop
    assert resumed.fractions == context.fractions[stop:]
    assert set(resumed.arrays) == set(context.arrays)
    for name, values in context.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], values)


def test_sgd_and_task_incremental_are_taken_up_too():
    cell = cell_of("sparse", 1, optimizer="sgd", scenario="task_incremental")
    whole, _ = run(cell)
    stopped = Context(stop_after=3)
    with pytest.raises(Stopped):
        run(cell, stopped)
    assert timeless(run(cell, Context(data=stopped.data))[0]) == timeless(whole)


def test_a_checkpoint_of_another_cell_or_of_none_is_refused():
    stopped = Context(stop_after=1)
    with pytest.raises(Stopped):
        run(cell_of("dense_ref", seed=1), stopped)
    with pytest.raises(ValueError, match="belongs to another cell or version; remove it"):
        run(cell_of("dense_ref", seed=2), Context(data=stopped.data))
    for data in (b"", b"no checkpoint", stopped.data[: len(stopped.data) // 2]):
        with pytest.raises(ValueError, match=r"checkpoint of cell 0+1 cannot be read, remove it"):
            run(cell_of("dense_ref", seed=1), Context(data=data))


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {}},  # RuntimeError, of many lines
        {"optimizer": None},
        {"optimizer": {"state": {}, "param_groups": []}},
        {"held": 3},
        {"rows": [1.0]},
        {"rows": 5},
        {"task": "first"},
        {"fisher": []},
        {"moving": torch.zeros(5)},
        {"losses": None},
    ],
)
def test_a_checkpoint_of_another_form_is_refused_in_a_line(changed):
    cell, stopped = cell_of("dense_ref"), Context(stop_after=1)
    with pytest.raises(Stopped):
        run(cell, stopped)
    stored = torch.load(io.BytesIO(stopped.data), weights_only=True)
    buffers = [io.BytesIO(), io.BytesIO()]
    torch.save(stored | changed, buffers[0])
    torch.save({name: value for name, value in stored.items() if name not in changed}, buffers[1])
    for buffer in buffers:
        with pytest.raises(ValueError, match=r"^the checkpoint of cell 0+1 cannot be read, remove it: \S") as caught:
            run(cell, Context(data=buffer.getvalue()))
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_counts_of_steps_stay_on_the_cpu_wherever_the_network_is():
    """On a GPU, AdamW would wait for each of them at every step. A meta device is another device on any machine."""
    cell, stopped = cell_of("dense_ref"), Context(stop_after=1)
    with pytest.raises(Stopped):
        run(cell, stopped)
    model = build(Shape(heads=4, head_dim=3, embed=10, depth=2, mlp_ratio=2.0, patch=16), 0).to("meta")
    state = State(model, torch.optim.AdamW(model.parameters()), torch.zeros(2, 4, device="meta"))
    restore(stopped.data, state, cell)
    kept = [state.optimizer.state[parameter] for parameter in model.parameters()]
    assert {(own["step"].device.type, own["exp_avg"].device.type) for own in kept} == {("cpu", "meta")}
    assert state.moving.device.type == "meta"
    assert state.task == 1


class Hostile:
    """Unpickles to a file that it should not have made."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_checkpoint_runs_no_code(tmp_path):
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "cell_id": f"{1:024d}", "model": Hostile(tmp_path / "made")}, buffer)
    with pytest.raises(ValueError, match="cannot be read"):
        run(cell_of("dense_ref", seed=1), Context(data=buffer.getvalue()))
    assert not (tmp_path / "made").exists()


def test_a_context_without_checkpoints_will_do():
    context = Context()
    del context.checkpoint
    assert run(cell_of("dense_ref"), context)[0]["diverged"] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_does_not_see_is_said():
    context = Context(keeps=False)
    context.device = "cuda"
    with pytest.raises(ValueError, match=r"torch .* does not see it; install .*, or launch with --device cpu"):
        run(cell_of("dense_ref"), context)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_gpu_learns_as_the_cpu_does(precision):
    """The same code, order of images and subsets; sums are rounded otherwise."""
    cell = cell_of("sparse", 2, precision=precision)
    context = Context(keeps=False)
    context.device = "cuda"
    recorded, _ = run(cell, context)
    reference, on_cpu = run(cell)
    np.testing.assert_allclose(
        context.arrays["loss"], on_cpu.arrays["loss"], atol=0.02 if precision == "float32" else 0.3
    )
    assert set(recorded) == set(reference) | {"peak_device_mib"}


def test_divergence_ends_training_and_leaves_no_accuracy():
    cell = cell_of("dense_ref", learning_rate=1e30, optimizer="sgd", clip=None, epochs=2)
    recorded, context = run(cell)
    assert recorded["diverged"] == 1
    assert recorded["diverged_at"] == len(context.arrays["loss"]) < 4
    assert not {name for name in recorded if name.startswith(("accuracy", "forgetting"))}
    assert np.isfinite(context.arrays["loss"]).all()
    assert recorded["ridge_accuracy_average"] > 0.1


def test_more_images_than_there_are_of_a_class_are_refused():
    assert run(cell_of("dense_ref", train_per_class=8))[0]["diverged"] == 0
    with pytest.raises(
        ValueError, match=r"^train_per_class = 9, but \S+tiny.parquet has a class with 8 training images"
    ):
        run(cell_of("dense_ref", train_per_class=9))


@pytest.mark.parametrize(("requested", "measured"), [(6, 6), (16, 16), (17, 16)])
def test_how_many_images_heads_were_measured_on_is_recorded(requested, measured):
    assert run(cell_of("dense_ref", measured_images=requested))[0]["images_measured"] == measured


def test_a_gpu_whose_memory_runs_out_is_no_fault_of_the_cell(monkeypatch):
    def step(self):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it.")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(
        MemoryError, match=r"larger share of the GPU, gpus = \.\.\. in .*smaller batch.*allocate"
    ) as caught:
        run(cell_of("dense_ref"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("at", [2, 10])  # the last step of a task, of all
def test_divergence_in_the_last_step_is_seen(monkeypatch, at):
    """No loss comes after it; without a look at the parameters, accuracies of no numbers would be results."""
    real, steps = torch.optim.AdamW.step, []

    def step(self):
        real(self)
        steps.append(1)
        if len(steps) == at:
            with torch.no_grad():
                self.param_groups[0]["params"][-1][0] = float("nan")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    recorded, context = run(cell_of("dense_ref"), Context())
    assert (recorded["diverged"], recorded["diverged_at"], len(context.arrays["loss"])) == (1, at, at)
    assert not {name for name in recorded if name.startswith(("accuracy", "forgetting"))}
    assert f"accuracy_after_{at // 2}" not in context.arrays


def test_it_learns_colours_and_forgets_them_without_a_buffer():
    """Ten colours are easy: with replay nearly all are told apart in the end, without it only the last task's."""
    common = {"epochs": 5, "augment": False, "learning_rate": 0.01, "batch": 2, "replay": 80}
    kept, _ = run(cell_of("dense_ref", **common))
    lost, _ = run(cell_of("no_replay", **common))
    assert kept["accuracy_average"] > 0.5
    assert lost["accuracy_average"] < 0.35
    assert lost["forgetting"] > kept["forgetting"] + 0.3
    assert kept["chance_accuracy_average"] == 0.1
    task_incremental, _ = run(cell_of("dense_ref", **common, scenario="task_incremental"))
    assert task_incremental["accuracy_average"] > 0.8
    assert task_incremental["chance_accuracy_average"] == 0.5


def test_the_order_of_images_is_the_same_without_a_buffer(monkeypatch):
    """Their shifts are not, once a buffer exists: more images draw more of them."""
    from raysweep.workloads.vit import training

    real, seen = training.network_input, []

    def noted(images, which, rng):
        inputs = real(images, which, rng)
        if rng is not None:
            seen.append((which[:8].tolist(), inputs[:8]))
        return inputs

    monkeypatch.setattr(training, "network_input", noted)
    for method in ("dense_ref", "no_replay"):
        run(cell_of(method))
    one, two = seen[:10], seen[10:]
    assert [which for which, _ in one] == [which for which, _ in two]
    same = [torch.equal(x, y) for (_, x), (_, y) in zip(one, two, strict=True)]
    assert same == [True] * 2 + [False] * 8


def test_forward_test_with_random_heads_is_another_test_of_the_same_network():
    one = run(cell_of("sparse_forward", 1, epochs=8))
    two = run(cell_of("sparse_forward", 1, epochs=8, forward_test="random_heads"))
    np.testing.assert_array_equal(one[1].arrays["loss"], two[1].arrays["loss"])
    assert one[0]["accuracy_average"] != two[0]["accuracy_average"]


def test_bf16_is_another_cell_and_near():
    one, two = (run(cell_of("sparse", 2, precision=name))[1].arrays["loss"] for name in ("float32", "bf16"))
    assert (one != two).any()
    np.testing.assert_allclose(one, two, atol=0.3)


def test_logits_are_float32_where_the_rest_is_bf16():
    """In bf16 the largest of ten logits is often not the only one."""
    model = build(Shape(heads=4, head_dim=3, embed=10, depth=2, mlp_ratio=2.0, patch=16), 0)
    seen = []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()[:, 0].float()))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    assert logits.dtype == torch.float32
    expected = seen[0] @ model.head.weight.detach().T + model.head.bias.detach()
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("before", [True, False])
def test_a_cell_rounds_no_convolution_and_leaves_others_their_settings(monkeypatch, before):
    real, seen = torch.optim.AdamW.step, []

    def step(self):
        seen.append(torch.backends.cudnn.allow_tf32)
        real(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    run(cell_of("dense_ref"))
    assert set(seen) == {False}
    assert torch.backends.cudnn.allow_tf32 is before


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_compiled_is_the_same_but_for_rounding():
    one, two = (run(cell_of("sparse", 2, compile=compiled))[1].arrays["loss"] for compiled in (False, True))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_other_data_than_planned_for_are_refused(tmp_path):
    cell = cell_of("dense_ref")
    write_images(tmp_path / "tiny.parquet", seed=1)
    with pytest.raises(ValueError, match=rf"digest \w+, expected {cell.config.digest}; restore the file, or set"):
        run(cell)


def test_cost_rises_with_what_a_cell_does():
    def cost(**config):
        method, k = "sparse", 2
        k, settled = settle(method, k, Config(data_set="cifar10", **config))
        return vit.cost(method, k, settled)

    assert cost(epochs=10) > 1.8 * cost(epochs=5)
    assert cost(patch=8) < cost(patch=4) / 3
    assert vit.cost("no_replay", 12, settle("no_replay", None, Config())[1]) < cost()
    assert cost(train_per_class=500) < cost() / 5


@pytest.mark.parametrize("name", ["e7-heads", "e7-forward", "e7-protocol", "e8-selection", "e8-timing", "heads-32"])
def test_bundled_sweeps_settle(name):
    text = (resources.files("raysweep.workloads") / "paper" / f"{name}.toml").read_text()
    sweep = tomllib.loads(text)
    assert sweep["workload"] == "vit"
    assert WORKLOADS["vit"] == "raysweep.workloads.vit:run"
    cells = set()
    for block in sweep["grid"]:
        block = {key: value if isinstance(value, list) else [value] for key, value in block.items()}
        ks = block.pop("k", [None])
        for k, *values in product(ks, *block.values()):
            own = dict(zip(block, values, strict=True))
            method = own.pop("method")
            stored, settled = settle(method, k, Config(**sweep["config"], **own))
            cells.add((method, stored, settled.model_dump_json()))
    assert len(cells) == {
        "e7-heads": 7, "e7-forward": 10, "e7-protocol": 3, "e8-selection": 8, "e8-timing": 7, "heads-32": 24,
    }[name]  # fmt: skip
