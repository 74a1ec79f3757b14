"""Heads cut in a step: `cut_heads = "still"` leaves them and their moments to the bit, and all else as it is."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.workloads.vit import Config
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

from torch.nn.functional import cross_entropy  # noqa: E402

from raysweep.workloads.vit.hold import hold  # noqa: E402
from raysweep.workloads.vit.model import Shape, build  # noqa: E402

SHAPE = Shape(heads=12, head_dim=2, embed=8, depth=2, mlp_ratio=1.0, patch=4, image=8, classes=4)
OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1),
}


@pytest.fixture(autouse=True)
def small_images(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path))
    write_images(tmp_path / "tiny.parquet")


def network(name: str):
    """A network and its optimiser, which has no moments yet."""
    model = build(SHAPE, 1)
    return model, OPTIMIZERS[name](model.parameters())


def step(model, optimizer, kept, still: bool) -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    optimizer.zero_grad(set_to_none=True)
    cross_entropy(model(images, kept), torch.arange(4)).backward()
    if still:
        with hold(model, optimizer, kept):
            optimizer.step()
    else:
        optimizer.step()


def everything(model, optimizer) -> dict[str, torch.Tensor]:
    """Copies of all parameters and of all that the optimiser keeps of them."""
    snapshot = {}
    for name, parameter in model.named_parameters():
        snapshot[name] = parameter.detach().clone()
        snapshot |= {f"{name} {what}": torch.as_tensor(v).clone() for what, v in optimizer.state[parameter].items()}
    return snapshot


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("name", "moments"), [("adamw", {"exp_avg", "exp_avg_sq"}), ("sgd", {"momentum_buffer"})])
def test_cut_heads_stand_still_and_the_others_move_as_ever(name, moments, first):
    kept = torch.zeros(2, 12, dtype=torch.bool)
    kept[0, [1, 4, 11]] = kept[1, [0, 4, 7]] = True
    coasting = network(name)
    if not first:  # the cut heads have moments, to coast on
        for _ in range(2):
            step(*coasting, torch.ones_like(kept), still=False)
    still = copy.deepcopy(coasting)
    before = everything(*still)
    step(*coasting, kept, still=False)
    step(*still, kept, still=True)
    after, coasted = everything(*still), everything(*coasting)
    assert after.keys() == coasted.keys()
    seen = set()
    for what, value in after.items():
        if ".qkv." not in what or what.endswith(" step"):
            assert torch.equal(value, coasted[what]), what
            continue
        seen |= {what.split()[1]} if " " in what else {"rows"}
        layer = int(what.split(".")[1])
        rows, moved, old = (
            part.view(3, 12, 2, -1) for part in (value, coasted[what], before.get(what, torch.zeros_like(value)))
        )
        assert torch.equal(rows[:, kept[layer]], moved[:, kept[layer]]), what
        assert torch.equal(rows[:, ~kept[layer]], old[:, ~kept[layer]]), what
        if not first and "weight" in what:
            assert not torch.equal(moved[:, ~kept[layer]], old[:, ~kept[layer]]), what  # what `coast` means
    assert seen == moments | {"rows"}


@pytest.mark.parametrize("method", ["sparse", "fisher_oracle"])
def test_a_still_cell_is_another_one_unless_all_heads_are_kept(method):
    for k, same in ((4, True), (1, False)):
        one, two = (run(cell_of(method, k, cut_heads=cut))[1].arrays["loss"] for cut in ("coast", "still"))
        assert (one == two).all() == same


def test_a_head_that_no_ranking_keeps_stays_where_the_ranking_found_it():
    """Across the border between two tasks too, where moments of the task before would carry it on."""
    from raysweep.workloads.vit import training

    seen = []
    real = training.end_task

    def noted(run, state):
        real(run, state)
        seen.append(([b.attention.qkv.weight.detach().clone() for b in state.model.blocks], state.kept))

    for cut in ("still", "coast"):
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "end_task", noted)
            run(cell_of("fisher_oracle", 1, cut_heads=cut))
        (ranked, mask), (last, _) = seen[0], seen[-1]
        for layer, kept in enumerate(torch.from_numpy(mask)):
            then, now = (weights[layer].view(3, 4, 3, -1) for weights in (ranked, last))
            assert torch.equal(then[:, ~kept], now[:, ~kept]) == (cut == "still")
            assert not torch.equal(then[:, kept], now[:, kept])


def test_movement_is_the_norm_of_what_each_step_changes(monkeypatch):
    """Two steps a task; a head that stands still has moved by 0."""
    seen = []
    real = torch.optim.AdamW.step

    def step(self):
        rows = [part for part in self.param_groups[0]["params"] if part.shape == (36, 10)]  # W_q, W_k, W_v of 2 blocks
        before = [part.detach().clone() for part in rows]
        real(self)
        seen.append([(part.detach() - old).numpy() for part, old in zip(rows, before, strict=True)])

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    arrays = run(cell_of("dense_ref"))[1].arrays
    for task in range(5):
        expected = np.zeros((2, 4))
        for changes in seen[2 * task : 2 * task + 2]:
            for layer, change in enumerate(changes):
                for head in range(4):
                    rows = [part * 12 + head * 3 + i for part in range(3) for i in range(3)]
                    expected[layer, head] += np.sqrt((change[rows].astype(float) ** 2).sum())
        np.testing.assert_allclose(arrays[f"head_movement_{task + 1}"].reshape(2, 4), expected, rtol=1e-5)
    monkeypatch.setattr(torch.optim.AdamW, "step", real)
    arrays = run(cell_of("fisher_anti", 1, cut_heads="still"))[1].arrays
    assert (arrays["head_movement_1"] > 0).all()
    assert ((arrays["head_movement_2"] > 0) == (arrays["kept"] == 1)).all()


def test_a_still_cell_is_taken_up_as_it_was():
    cell = cell_of("sparse", 1, cut_heads="still", epochs=2)
    whole, context = run(cell)
    stopped = Context(stop_after=3)
    with pytest.raises(Stopped):
        run(cell, stopped)
    recorded, again = run(cell, Context(data=stopped.data))
    assert timeless(recorded) == timeless(whole)
    for name, values in context.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)


@pytest.mark.parametrize("method", ["bptt_ref", "dense_ref", "no_replay", "sparse_forward"])
def test_where_no_gradient_is_cut_it_has_no_effect(method):
    k = 2 if method == "sparse_forward" else None
    with pytest.raises(ValueError, match=f"cut_heads has no effect on method '{method}'; it belongs to: sparse, trace"):
        cell_of(method, k, cut_heads="still")
    assert cell_of(method, k).config.cut_heads == "coast"


def test_cells_recorded_before_the_field_keep_their_ids():
    text = """
        name = "p"
        experiment = "vit_heads"
        workload = "vit"
        seeds = [42]
        [config]
        learning_rate = 3e-4
        {more}
        [[grid]]
        method = "sparse"
        k = 6
    """
    ids = [
        expand([Sweep.from_text(text.format(more=more))]).wide()["cell_id"].to_list()
        for more in ("", 'cut_heads = "coast"', 'cut_heads = "still"')
    ]
    assert ids[0] == ids[1] == ["25038db84e7ae6f793d2d6d7"]
    assert ids[2] != ids[0]
    assert Config().cut_heads == "coast"
