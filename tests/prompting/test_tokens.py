"""Prompt tokens in vision transformers against a loop over the blocks, written out."""

import pytest
import timm
import torch
import torchvision

from dassl_vr.backbones import BackboneSpec, backbone_spec, build_backbone
from dassl_vr.backbones.adapters import adapters
from dassl_vr.prompting import AdaptedBackbone, VisualTokens, inserted_tokens, replaced_tokens

BIG = [
    "clip_vit_b32",
    "clip_vit_b16",
    "clip_vit_l14",
    "vit_b32",
    "torchvision:vit_b_16",
    "timm:vit_base_patch16_224",
    "timm:deit_base_patch16_224",
]
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}


def timm_vit(**more):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**SMALL, **more)


MODELS = {
    "timm plain": lambda: ("timm", timm_vit()),
    "timm gap": lambda: ("timm", timm_vit(global_pool="avg", class_token=False, fc_norm=True)),
    "timm registers": lambda: ("timm", timm_vit(reg_tokens=3)),
    "timm pre-norm": lambda: ("timm", timm_vit(pre_norm=True)),
    "timm distilled": lambda: ("timm", timm.models.deit.VisionTransformerDistilled(**SMALL)),
    "torchvision": lambda: ("torchvision", torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=5)),
}


@pytest.fixture(params=[*MODELS, "clip vit", "clip no_pre_norm", "clip custom"])
def backbone(request, make_clip):
    if request.param.startswith("clip"):
        return make_clip(request.param.partition(" ")[2])
    torch.manual_seed(0)
    library, model = MODELS[request.param]()
    spec = BackboneSpec(f"{library}:small", "vit", 32, (0.5,) * 3, (0.5,) * 3, 5, tokens=True)
    adapter = adapters()[library]
    for parameter in model.parameters():  # some heads start at zero
        torch.nn.init.normal_(parameter, std=0.2)
    return type(build_backbone("tiny_vit", verbose=False))(model, spec, adapter, [f"class {i}" for i in range(5)])


@pytest.fixture
def x():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def hooks(backbone):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in backbone.modules())


def outputs(backbone, x):
    features = backbone.features(x)
    return features if backbone.kind == "clip" else torch.cat([features, backbone.logits(x)], dim=1)


def looped(backbone, x, prompts, at_end):
    """The features of the image with a hand-written walk through the transformer."""
    model, layout = backbone.model, backbone.tokens
    before = {}
    handle = layout.entry.register_forward_pre_hook(lambda module, arguments: before.setdefault("x", arguments[0]))
    backbone.features(x)
    handle.remove()
    sequence = before["x"]
    length, count = sequence.shape[1], prompts.shape[1]
    assert length == layout.prefix + (32 // layout.patch_size) ** 2 and sequence.shape[2] == layout.width
    place = length if at_end else layout.prefix
    for i, block in enumerate(layout.blocks):
        if i == 0:
            fresh = prompts[0].expand(len(x), -1, -1)
            sequence = torch.cat([sequence[:, :place], fresh, sequence[:, place:]], dim=1)
            sequence = sequence if layout.entry is block else layout.entry(sequence)
        elif i < len(prompts):
            fresh = prompts[i].expand(len(x), -1, -1)
            sequence = torch.cat([sequence[:, :place], fresh, sequence[:, place + count :]], dim=1)
        sequence = block(sequence)
    sequence = torch.cat([sequence[:, :place], sequence[:, place + count :]], dim=1)
    if backbone.kind == "clip":
        return model.visual.ln_post(sequence)[:, 0] @ model.visual.proj
    if backbone.spec.library == "torchvision":
        return model.encoder.ln(sequence)[:, 0]
    return model.forward_head(model.norm(sequence), pre_logits=True)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("at_end", [False, True])
def test_tokens_equal_the_loop_over_the_blocks(backbone, x, depth, at_end):
    prompts = VisualTokens(backbone.tokens, 2, depth, at_end=at_end)
    prompted = AdaptedBackbone(backbone, prompts)
    expected = looped(backbone, x, prompts.tokens, at_end)
    assert torch.allclose(prompted.features(x), expected, atol=1e-5)
    assert not torch.allclose(prompted.features(x), backbone.features(x), atol=1e-3)
    prompted.features(x).square().sum().backward()
    assert all(prompts.tokens.grad[i].abs().max() > 0 for i in range(depth))
    assert all(p.grad is None for p in backbone.parameters()) and hooks(backbone) == 0


def test_zero_tokens_are_the_plain_transformer(backbone, x):
    plain = outputs(backbone, x)
    for depth, at_end in ((1, False), (3, True)):
        none = VisualTokens(backbone.tokens, 0, depth, at_end=at_end)
        assert (
            torch.equal(outputs(AdaptedBackbone(backbone, none), x), plain)
            if backbone.kind != "clip"
            else torch.equal(AdaptedBackbone(backbone, none).features(x), plain)
        )
        with inserted_tokens(backbone.tokens, list(none.tokens), none.start):  # through the hooks as well
            assert torch.allclose(outputs(backbone, x), plain, atol=1e-6)


@pytest.mark.parametrize("name", BIG)
def test_zero_tokens_on_the_big_ones_keep_the_shapes(name):
    with torch.device("meta"):
        backbone = build_backbone(name, pretrained=False, verbose=False)
        x = torch.zeros(2, 3, backbone.input_size, backbone.input_size)
        layout, lengths = backbone.tokens, []
        tokens = VisualTokens(layout, 3, len(layout.blocks))
        assert backbone.spec == backbone_spec(name) and layout.width == tokens.tokens.shape[-1]
        for block in layout.blocks:
            block.register_forward_hook(lambda block, arguments, out: lengths.append(out.shape[1]))
        assert AdaptedBackbone(backbone, tokens).features(x).shape == backbone.features(x).shape == (2, backbone.out_features)
    patches = (backbone.input_size // layout.patch_size) ** 2
    assert lengths == [layout.prefix + patches + 3] * len(layout.blocks) + [layout.prefix + patches] * len(layout.blocks)


def test_behind_the_last_block_the_sequence_is_as_long_as_it_was(backbone, x):
    lengths = []
    prompts = VisualTokens(backbone.tokens, 2, 2)
    with prompts.inside(backbone.tokens):
        backbone.tokens.blocks[-1].register_forward_hook(lambda block, arguments, out: lengths.append(out.shape[1]))
        backbone.features(x)
    assert lengths == [backbone.tokens.prefix + 16 if backbone.kind != "clip" else 5]


def test_nothing_stays_hooked_after_an_exception(backbone, x):
    plain = backbone.features(x)
    prompted = AdaptedBackbone(backbone, VisualTokens(backbone.tokens, 2, 3))
    with pytest.raises(RuntimeError):
        prompted.features(x[:, :1])  # one colour channel
    handle = backbone.tokens.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prompted.features(x)
    handle.remove()
    assert hooks(backbone) == 0 and torch.equal(backbone.features(x), plain)


def test_tokens_of_each_image_alone(backbone, x):
    own = torch.randn(2, 3, backbone.tokens.width)
    with inserted_tokens(backbone.tokens, [own, own + 1]):
        together = backbone.features(x)
    for i in range(2):
        with inserted_tokens(backbone.tokens, [own[i], own[i] + 1]):
            assert torch.allclose(backbone.features(x[i : i + 1])[0], together[i], atol=1e-5)


def test_replaced_tokens_are_at_their_documented_positions():
    blocks, seen = [torch.nn.Identity() for _ in range(3)], []
    x = torch.arange(10.0).view(1, 5, 2)
    with replaced_tokens(blocks, {1: torch.full((2, 2), -1.0)}, start=1):
        for block in blocks:
            x = block(x)
            seen.append(x.clone())
    assert torch.equal(seen[0], torch.arange(10.0).view(1, 5, 2))
    assert torch.equal(seen[1], torch.tensor([[[0.0, 1], [-1, -1], [-1, -1], [6, 7], [8, 9]]]))


def test_start_of_the_tokens():
    layout = build_backbone("tiny_vit", verbose=False).tokens
    bound = (6 / (3 * 16**2 + 128)) ** 0.5
    uniform, normal = (VisualTokens(layout, 100, 4, init).tokens.detach() for init in ("uniform", "normal"))
    assert uniform.abs().max() <= bound and uniform.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert normal.std() == pytest.approx(0.02, rel=0.02) and normal.abs().max() > 0.06
    assert uniform.shape == (4, 100, 128)


@pytest.mark.parametrize(
    "count, depth, words",
    [(-1, 1, "-1 prompt tokens, expected 0 or more"), (2, 5, "in 5 blocks, expected 1 to 4"), (2, 0, "in 0 blocks")],
)
def test_wrong_numbers_are_refused(count, depth, words):
    with pytest.raises(ValueError, match=words):
        VisualTokens(build_backbone("tiny_vit", verbose=False).tokens, count, depth)


def test_precision_of_tokens(make_clip, x):
    backbone = make_clip("vit", "bf16")
    prompted = AdaptedBackbone(backbone, VisualTokens(backbone.tokens, 2, 3))
    features = prompted.features(x)
    features.sum().backward()
    assert features.dtype == prompted.learned.tokens.dtype == prompted.learned.tokens.grad.dtype == torch.float32
