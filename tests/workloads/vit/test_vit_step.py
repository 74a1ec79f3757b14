"""What a training step is, by hand: loss, cut of the gradient, AdamW; and which images are flipped and shifted."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from raysweep.workloads.vit.data import load
from tests.workloads.vit.vit_cells import cell_of, run, write_images

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

from torch.nn.functional import log_softmax  # noqa: E402

from raysweep.workloads.vit import training  # noqa: E402


@pytest.fixture(autouse=True)
def small_images(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path))
    write_images(tmp_path / "tiny.parquet")


@pytest.fixture
def inputs(monkeypatch):
    """Every call of `network_input`: images, positions, whether they are moved, and what comes of it."""
    real, seen = training.network_input, []

    def noted(images, which, rng):
        inputs = real(images, which, rng)
        seen.append((images, which.clone(), rng is not None, inputs))
        return inputs

    monkeypatch.setattr(training, "network_input", noted)
    return seen


@pytest.mark.parametrize("clip", [0.5, 0.0, None])
def test_two_steps_by_hand(inputs, clip):
    """8 images of task 2 and 5 of the buffer a step: mean loss of these, plus 0.7 times the mean loss of those.

    Two, as AdamW's first step is the same however short its gradient is cut.
    """
    rate, decay, weight = 0.01, 0.3, 0.7
    cell = cell_of("dense_ref", clip=clip, weight_decay=decay, learning_rate=rate, replay_weight=weight)
    of = training.prepare(cell, load("tiny"), "cpu")
    state = training.begin(of)
    state.task, state.held = 1, of.positions(0)
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(0.2)  # away from 0, for decay to show
    model = copy.deepcopy(state.model)
    training.one_epoch(of, state)
    assert len(inputs) == 2
    first = [torch.zeros_like(parameter) for parameter in model.parameters()]
    second = [torch.zeros_like(parameter) for parameter in model.parameters()]
    norms = []
    for step, (_, which, _, x) in enumerate(inputs, 1):
        labels = torch.from_numpy(of.labels[which.numpy()].astype(np.int64))
        assert set(labels[:8].tolist()) <= {2, 3}
        assert set(labels[8:].tolist()) <= {0, 1}
        assert len(labels) == 13
        losses = -log_softmax(model(x), dim=1)[torch.arange(13), labels]
        loss = losses[:8].sum() / 8 + weight * losses[8:].sum() / 5
        assert state.losses[step - 1] == pytest.approx(loss.item(), rel=1e-5)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        norms.append(norm.item())
        factor = min(1.0, clip / norm.item()) if clip else 1.0
        with torch.no_grad():
            for parameter, gradient, m, v in zip(model.parameters(), gradients, first, second, strict=True):
                m.copy_(0.9 * m + 0.1 * factor * gradient)
                v.copy_(0.999 * v + 0.001 * (factor * gradient) ** 2)
                parameter.mul_(1 - rate * decay)
                parameter.sub_(rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
    assert min(norms) > 0.5
    assert abs(norms[0] / norms[1] - 1) > 0.05
    for (name, parameter), expected in zip(state.model.named_parameters(), model.parameters(), strict=True):
        if name.endswith("qkv.bias"):  # keys' have no gradient but rounding, which AdamW makes a step of
            wide = len(parameter) // 3
            parameter, expected = (torch.cat([part[:wide], part[2 * wide :]]) for part in (parameter, expected))
        torch.testing.assert_close(parameter, expected, atol=2e-5, rtol=0, msg=name)


@pytest.mark.parametrize("augment", [True, False])
def test_only_what_is_trained_on_is_moved(inputs, augment):
    """A task: two steps, a test of each task so far, and the measurement of heads."""
    run(cell_of("dense_ref", augment=augment))
    expected = []
    for task in range(5):
        expected += [(80, augment)] * 2 + [(40, False)] * (task + 1) + [(80, False)]
    assert [(len(images), moved) for images, _, moved, _ in inputs] == expected
    for images, which, moved, x in inputs:
        as_they_are = images[which].float() / 127.5 - 1
        assert torch.equal(x, as_they_are) != moved
