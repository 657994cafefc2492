"""MaPLe and PromptSRC against a walk through both towers, written out."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.prompting import AveragedTokens, ContextPrompts, IndependentClassifier, MultimodalClassifier

NAMES = ["seven", "hot air balloon", "x"]


def slow_logits(model, x, deep, visual_tokens):
    """With `deep` in the first blocks of the text tower and `visual_tokens` in those of the image tower."""
    clip = model.backbone.model
    count = model.prompts.count
    text = model.prompts(deep[0]) + clip.positional_embedding[: model.prompts.tokens.shape[1]]
    mask = clip.attn_mask[: text.shape[1], : text.shape[1]]
    for i, block in enumerate(clip.transformer.resblocks):
        if 0 < i < len(deep):
            text = torch.cat([text[:, :1], deep[i].expand(len(text), -1, -1), text[:, 1 + count :]], dim=1)
        text = block(text, attn_mask=mask)
    ends = model.prompts.tokens.argmax(dim=1)
    text = clip.ln_final(text)[torch.arange(len(text)), ends] @ clip.text_projection

    visual = clip.visual
    patches = visual.conv1(x).flatten(2).transpose(1, 2)
    sequence = torch.cat([visual.class_embedding.expand(len(x), 1, -1), patches], dim=1) + visual.positional_embedding
    learned = [tokens.expand(len(x), -1, -1) for tokens in visual_tokens]
    sequence = visual.ln_pre(torch.cat([sequence, learned[0]], dim=1))
    for i, block in enumerate(visual.transformer.resblocks):
        if 0 < i < len(learned):
            sequence = torch.cat([sequence[:, : -learned[i].shape[1]], learned[i]], dim=1)
        sequence = block(sequence)
    image = visual.ln_post(sequence)[:, 0] @ visual.proj
    return clip.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("count, init", [(2, "a photo of a"), (4, "a photo of a"), (3, "")])
def test_logits_equal_the_walk_through_both_towers(make_clip, depth, count, init):
    backbone = make_clip("vit")
    model = MultimodalClassifier(backbone, ContextPrompts(backbone, NAMES, count, init), depth)
    x = torch.randn(2, 3, 32, 32)
    deep = [model.prompts.context, *model.deep_text]
    same_values_and_gradients(model, x, slow_logits(model, x, deep, [layer(part) for layer, part in zip(model.couplings, deep)]))
    assert (
        model.deep_text.shape == (depth - 1, count, 32) and [layer.weight.shape for layer in model.couplings] == [(48, 32)] * depth
    )


def same_values_and_gradients(model, x, expected):
    assert torch.allclose(model(x), expected, atol=1e-5)
    own = [p for p in model.parameters() if p.requires_grad and p.numel()]
    for one, other in zip(torch.autograd.grad(model(x).square().sum(), own), torch.autograd.grad(expected.square().sum(), own)):
        assert torch.allclose(one, other, atol=1e-4 * max(1e-3, float(other.abs().max())))


@pytest.mark.parametrize("text_depth, visual_depth, visual_count", [(1, 1, 1), (3, 1, 2), (1, 3, 5), (2, 3, 4)])
def test_independent_tokens_equal_the_walk_through_both_towers(make_clip, text_depth, visual_depth, visual_count):
    backbone = make_clip("vit")
    prompts = ContextPrompts(backbone, NAMES, 2, "a photo of a")
    model = IndependentClassifier(backbone, prompts, visual_count, text_depth, visual_depth)
    learned, x = model.learned, torch.randn(2, 3, 32, 32)
    assert learned.deep_text.shape == (text_depth - 1, 2, 32) and learned.visual.shape == (visual_depth, visual_count, 48)
    same_values_and_gradients(model, x, slow_logits(model, x, [learned.context, *learned.deep_text], learned.visual))


def test_averages_count_outside_of_training(make_clip):
    backbone = make_clip("vit")
    model, x = IndependentClassifier(backbone, ContextPrompts(backbone, NAMES, 2), 2, 2, 2), torch.randn(2, 3, 32, 32)
    learned = model.learned
    with torch.no_grad():
        before = model.eval()(x)
        for parameter in learned.parameters():
            parameter.add_(torch.randn(parameter.shape))
        assert torch.equal(model(x), before), "the epoch is not over"
        assert not torch.equal(model.train()(x), before)
        learned.average(0.25)
        means = [learned.mean_context, *learned.mean_deep_text]
        assert torch.allclose(model.eval()(x), slow_logits(model, x, means, learned.mean_visual), atol=1e-5)
        assert not torch.allclose(model(x), before, atol=1e-3), "text features are computed anew"
        assert not torch.equal(model.train().text_features(), model.eval().text_features()), "those of each mode"


def test_an_average_of_steps():
    learned = AveragedTokens(a=torch.nn.Parameter(torch.zeros(2)), b=torch.nn.Parameter(torch.ones(1)))
    for step, share in ((1.0, 1.0), (4.0, 0.5), (2.5, 0.2)):
        learned.a.data.fill_(step)
        learned.average(share)
    assert learned.mean_a.tolist() == pytest.approx([0.8 * (0.5 * 1 + 0.5 * 4) + 0.2 * 2.5] * 2)
    assert learned.mean_b.tolist() == [1.0] and learned.now("a") is learned.a and learned.eval().now("a") is learned.mean_a
    assert not any(buffer.requires_grad for buffer in learned.buffers())


def test_nothing_stays_hooked(make_clip):
    backbone = make_clip("vit")
    model = MultimodalClassifier(backbone, ContextPrompts(backbone, NAMES, 2), depth=3)
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 1, 32, 32))
    handle = backbone.text_blocks[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(torch.zeros(1, 3, 32, 32))
    handle.remove()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in backbone.modules())


@pytest.mark.parametrize(
    "depths, words", [((0, 1), "text tokens in 0 blocks"), ((4, 1), "text tokens in 4"), ((1, 4), "in 4 blocks")]
)
def test_independent_tokens_in_more_blocks_than_there_are(make_clip, depths, words):
    backbone = make_clip("vit")
    with pytest.raises(ValueError, match=words):
        IndependentClassifier(backbone, ContextPrompts(backbone, NAMES, 2), 2, *depths)


@pytest.mark.parametrize("depth", [0, 4])
def test_prompts_in_more_blocks_than_there_are(make_clip, depth):
    backbone = make_clip("vit")
    with pytest.raises(ValueError, match=f"prompts in {depth} blocks, expected 1 to 3"):
        MultimodalClassifier(backbone, ContextPrompts(backbone, NAMES, 2), depth)
