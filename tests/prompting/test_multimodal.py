"""MaPLe against a walk through both towers, written out."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.prompting import ContextPrompts, MultimodalClassifier

NAMES = ["seven", "hot air balloon", "x"]


def slow_logits(model, x):
    clip = model.backbone.model
    count = model.prompts.count
    deep = [model.prompts.context, *model.deep_text]
    text = model.prompts() + clip.positional_embedding[: model.prompts.tokens.shape[1]]
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
    coupled = [layer(tokens).expand(len(x), -1, -1) for layer, tokens in zip(model.couplings, deep)]
    sequence = visual.ln_pre(torch.cat([sequence, coupled[0]], dim=1))
    for i, block in enumerate(visual.transformer.resblocks):
        if 0 < i < len(deep):
            sequence = torch.cat([sequence[:, :-count], coupled[i]], dim=1)
        sequence = block(sequence)
    image = visual.ln_post(sequence)[:, 0] @ visual.proj
    return clip.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("count, init", [(2, "a photo of a"), (4, "a photo of a"), (3, "")])
def test_logits_equal_the_walk_through_both_towers(make_clip, depth, count, init):
    backbone = make_clip("vit")
    model = MultimodalClassifier(backbone, ContextPrompts(backbone, NAMES, count, init), depth)
    x = torch.randn(2, 3, 32, 32)
    expected = slow_logits(model, x)
    assert torch.allclose(model(x), expected, atol=1e-5)
    own = [p for p in model.parameters() if p.requires_grad and p.numel()]
    for one, other in zip(torch.autograd.grad(model(x).square().sum(), own), torch.autograd.grad(expected.square().sum(), own)):
        assert torch.allclose(one, other, atol=1e-4 * max(1e-3, float(other.abs().max())))
    assert (
        model.deep_text.shape == (depth - 1, count, 32) and [layer.weight.shape for layer in model.couplings] == [(48, 32)] * depth
    )


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


@pytest.mark.parametrize("depth", [0, 4])
def test_prompts_in_more_blocks_than_there_are(make_clip, depth):
    backbone = make_clip("vit")
    with pytest.raises(ValueError, match=f"prompts in {depth} blocks, expected 1 to 3"):
        MultimodalClassifier(backbone, ContextPrompts(backbone, NAMES, 2), depth)
