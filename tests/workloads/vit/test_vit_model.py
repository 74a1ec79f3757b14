"""Sparse gradient transport: Eq. 11 against a loop over heads, its mean over subsets, and what a head's Fisher is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

from torch.func import functional_call  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from raysweep.workloads.vit import fisher  # noqa: E402
from raysweep.workloads.vit.model import Shape, build  # noqa: E402
from raysweep.workloads.vit.selection import METHODS, draw, ranked  # noqa: E402

SMALL = Shape(heads=3, head_dim=5, embed=12, depth=2, mlp_ratio=2.0, patch=4, image=8, classes=4)
TWELVE = Shape(heads=12, head_dim=4, embed=24, depth=3, mlp_ratio=2.0, patch=4, image=8, classes=10)


def model_of(shape: Shape, dtype=torch.float64, seed: int = 3):
    """With weights large enough for every gradient to count, biases included."""
    model = build(shape, seed).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return model


def batch_of(shape: Shape, dtype=torch.float64, size: int = 6):
    generator = torch.Generator().manual_seed(8)
    images = torch.randn(size, 3, shape.image, shape.image, generator=generator, dtype=dtype)
    return images, torch.randint(shape.classes, (size,), generator=generator)


def gradients(model, images, labels, *arguments) -> list[torch.Tensor]:
    model.zero_grad()
    cross_entropy(model(images, *arguments), labels).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def mask_of(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


def head_by_head(model, images, kept, transport):
    """The same network written as the paper writes it: a loop over heads, `.detach()`, no fused attention."""
    shape = model.shape
    x = model.patches(images).flatten(2).transpose(1, 2)
    x = torch.cat([model.token.expand(len(x), -1, -1), x], dim=1) + model.positions
    for layer, block in enumerate(model.blocks):
        normed = block.norm_attention(x)
        attention, c = block.attention, shape.head_dim
        wide = shape.heads * c
        attended = attention.out.bias
        for h in range(shape.heads):
            q, k, v = (
                normed @ attention.qkv.weight[part * wide + h * c : part * wide + (h + 1) * c].T
                + attention.qkv.bias[part * wide + h * c : part * wide + (h + 1) * c]
                for part in range(3)
            )
            output = torch.softmax(q @ k.transpose(1, 2) / c**0.5, dim=-1) @ v
            if not kept[layer, h]:
                output = output.detach() if transport == "gradient" else torch.zeros_like(output)
            attended = attended + output @ attention.out.weight[:, h * c : (h + 1) * c].T
        x = x + attended
        x = x + block.mlp(block.norm_mlp(x))
    return model.head(model.norm(x)[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_heads_kept_is_the_plain_model_to_the_bit(dtype):
    model, (images, labels) = model_of(TWELVE, dtype), batch_of(TWELVE, dtype)
    everything = torch.ones(TWELVE.depth, TWELVE.heads, dtype=torch.bool)
    for plain, kept in zip(gradients(model, images, labels), gradients(model, images, labels, everything), strict=True):
        assert torch.equal(plain, kept)


@pytest.mark.parametrize("transport", ["gradient", "forward"])
@pytest.mark.parametrize("k", [1, 4, 6, 12])
def test_k_of_12_is_a_loop_over_heads_with_detach(transport, k):
    model, (images, labels) = model_of(TWELVE), batch_of(TWELVE)
    kept = torch.from_numpy(draw(np.random.default_rng(k), TWELVE.depth, TWELVE.heads, k))
    actual = gradients(model, images, labels, kept, transport)
    model.zero_grad()
    logits = head_by_head(model, images, kept, transport)
    torch.testing.assert_close(model(images, kept, transport), logits, atol=1e-12, rtol=0)
    cross_entropy(logits, labels).backward()
    for parameter, gradient in zip(model.parameters(), actual, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-12, rtol=1e-9)


def test_the_forward_pass_of_sparse_transport_is_the_plain_one():
    model, (images, _) = model_of(SMALL), batch_of(SMALL)
    assert torch.equal(model(images), model(images, mask_of("100", "010")))
    assert not torch.allclose(model(images), model(images, mask_of("100", "010"), "forward"))


def test_what_a_head_outside_the_subset_still_learns():
    """Nothing in its W_q, W_k, W_v; all of its W_o, as long as nothing below it is cut."""
    model, (images, labels) = model_of(SMALL._replace(depth=1)), batch_of(SMALL)
    attention, c = model.blocks[0].attention, SMALL.head_dim
    gradients(model, images, labels)
    whole = attention.out.weight.grad.clone()
    gradients(model, images, labels, mask_of("101"))
    assert torch.equal(attention.out.weight.grad, whole)
    rows = attention.qkv.weight.grad.view(3, SMALL.heads, c, SMALL.embed).abs().amax((0, 2, 3))
    assert rows[1] == 0
    assert rows[0] > 0
    assert rows[2] > 0


def test_an_infinite_gradient_does_not_pass_a_cut_head():
    """As with `.detach()`: 0, where a product with the mask would give nan."""
    from raysweep.workloads.vit.model import CutGradient

    outputs = torch.ones(1, 2, 1, 1, requires_grad=True)
    (CutGradient.apply(outputs, torch.tensor([True, False])) * torch.tensor(float("inf"))).sum().backward()
    assert outputs.grad.flatten().tolist() == [float("inf"), 0.0]


def test_expected_gradient_over_all_subsets_by_enumeration():
    """One block, 3 heads, k = 1: each head's own gradient arrives with probability 1/3.

    The gradient is linear in which heads let it through, as there is one block: so the mean over the subsets of size
    k is (k/H) times the plain gradient, plus (1 - k/H) times that with all heads cut.
    """
    shape = SMALL._replace(depth=1)
    model, (images, labels) = model_of(shape), batch_of(shape)
    plain, none = gradients(model, images, labels), gradients(model, images, labels, mask_of("000"))
    for k in (1, 2):
        subsets = [
            gradients(model, images, labels, torch.tensor([[h in s for h in range(3)]]))
            for s in itertools.combinations(range(3), k)
        ]
        for i, (whole, cut) in enumerate(zip(plain, none, strict=True)):
            mean = torch.stack([gradient[i] for gradient in subsets]).mean(0)
            torch.testing.assert_close(mean, k / 3 * whole + (1 - k / 3) * cut, atol=1e-12, rtol=1e-9)


def test_expected_gradient_of_a_draw_is_that_of_the_enumeration():
    """Two blocks: paths through both are kept with probability 1/9, and the mean over all nine pairs is no multiple."""
    model, (images, labels) = model_of(SMALL), batch_of(SMALL)
    pairs = [torch.eye(3, dtype=torch.bool)[list(pair)] for pair in itertools.product(range(3), repeat=2)]
    each = [torch.cat([g.flatten() for g in gradients(model, images, labels, pair)]) for pair in pairs]
    exact = torch.stack(each).mean(0)
    rng = np.random.default_rng(0)
    drawn = [int(m[0].argmax()) * 3 + int(m[1].argmax()) for m in (draw(rng, 2, 3, 1) for _ in range(4000))]
    counts = np.bincount(drawn, minlength=9)
    assert counts.min() > 4000 / 9 * 0.8
    sampled = sum(count / 4000 * gradient for count, gradient in zip(counts, each, strict=True))
    assert torch.linalg.vector_norm(sampled - exact) < 0.1 * torch.linalg.vector_norm(exact)


def test_draws_have_k_heads_a_block_and_differ():
    rng = np.random.default_rng(5)
    masks = np.stack([draw(rng, 4, 12, 5) for _ in range(3000)]).astype(float)
    assert (masks.sum(-1) == 5).all()
    np.testing.assert_allclose(masks.mean(0), 5 / 12, atol=0.05)
    pairs = np.einsum("nlh,nlg->lhg", masks, masks) / len(masks)
    others = ~np.eye(12, dtype=bool)
    np.testing.assert_allclose(pairs[:, others], 5 / 12 * 4 / 11, atol=0.05)  # subsets, not head by head
    assert (masks[:, 0] != masks[:, 1]).any(-1).mean() > 0.99


def test_ranked_takes_the_ends_of_each_block():
    scores = np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 9.0]])
    assert ranked(scores, 1, most=True).tolist() == [[True, False, False], [False, False, True]]
    assert ranked(scores, 1, most=False).tolist() == [[False, True, False], [True, False, False]]
    assert ranked(scores, 3, most=True).all()


def test_the_oracle_of_entropy_keeps_peaked_heads_and_fishers_informative_ones():
    assert not METHODS["entropy_oracle"].most
    assert METHODS["fisher_oracle"].most
    assert METHODS["entropy_anti"].most
    assert not METHODS["fisher_anti"].most


@pytest.mark.parametrize("task_incremental", [False, True])
def test_fisher_per_head_is_the_mean_of_autograds_squares_sample_by_sample(task_incremental):
    model, (images, labels) = model_of(SMALL), batch_of(SMALL, size=7)
    competing = None
    if task_incremental:
        competing = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)).bool()
    measured = fisher.measure(model, images, labels, competing).fisher
    expected = np.zeros((4, SMALL.depth, SMALL.heads))
    c = SMALL.head_dim
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        logits = model(image[None])
        if task_incremental:
            logits = logits[:, competing[label]]
            label = label % 2
        cross_entropy(logits, label[None]).backward()
        for layer, block in enumerate(model.blocks):
            squares = block.attention.qkv.weight.grad.square().view(3, SMALL.heads, c, SMALL.embed).sum((2, 3))
            expected[:3, layer] += squares.numpy()
            squares = block.attention.out.weight.grad.square().view(SMALL.embed, SMALL.heads, c).sum((0, 2))
            expected[3, layer] += squares.numpy()
    np.testing.assert_allclose(measured, expected / 7, rtol=1e-10)


def test_measuring_in_batches_is_measuring_at_once(monkeypatch):
    model, (images, labels) = model_of(SMALL), batch_of(SMALL, size=7)
    whole = fisher.measure(model, images, labels)
    monkeypatch.setattr(fisher, "BATCH", 3)
    for at_once, in_parts in zip(whole, fisher.measure(model, images, labels), strict=True):
        np.testing.assert_allclose(at_once, in_parts, rtol=1e-12)


def test_entropy_of_flat_and_of_peaked_attention():
    """Head 0 has no queries, so its attention is flat over T tokens; head 1's is as good as all on one."""
    model, (images, labels) = model_of(SMALL), batch_of(SMALL)
    tokens = (SMALL.image // SMALL.patch) ** 2 + 1
    c, wide = SMALL.head_dim, SMALL.heads * SMALL.head_dim
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight[:c] = 0
            block.attention.qkv.bias[:c] = 0
            block.attention.qkv.weight[c : 2 * c] *= 1e4
            block.attention.qkv.bias[wide : 2 * wide] = 0
    entropy = fisher.measure(model, images, labels).entropy
    np.testing.assert_allclose(entropy[:, 0], np.log(tokens), rtol=1e-12)
    assert (entropy[:, 1] < 0.02).all()
    assert ((entropy[:, 2] > entropy[:, 1]) & (entropy[:, 2] < entropy[:, 0])).all()


def test_head_count_and_size_are_free():
    for heads, head_dim in ((32, 6), (64, 3)):
        shape = TWELVE._replace(heads=heads, head_dim=head_dim)
        model, (images, labels) = model_of(shape), batch_of(shape)
        kept = torch.from_numpy(draw(np.random.default_rng(0), shape.depth, heads, heads // 2))
        actual = gradients(model, images, labels, kept)
        model.zero_grad()
        cross_entropy(head_by_head(model, images, kept, "gradient"), labels).backward()
        for parameter, gradient in zip(model.parameters(), actual, strict=True):
            torch.testing.assert_close(gradient, parameter.grad, atol=1e-10, rtol=1e-8)


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(1)
    one = build(SMALL, 5)
    torch.manual_seed(2)
    two, other = build(SMALL, 5), build(SMALL, 6)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)
    assert one.patches.weight.abs().max() <= 2 / 48**0.5
    assert functional_call(one, dict(one.named_parameters()), (torch.zeros(2, 3, 8, 8),)).shape == (2, 4)
