"""Low-rank updates of attention against transformers whose weights were changed manually."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from dassl_vr.backbones import BackboneSpec, FrozenBackbone, backbone_spec, build_backbone
from dassl_vr.backbones.adapters import adapters
from dassl_vr.prompting import AdaptedBackbone, LowRankUpdates, replaced_weights
from dassl_vr.reprogramming import HeadMapping, SampleSpecificMask

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}
MODELS = {
    "timm": lambda: timm.models.vision_transformer.VisionTransformer(**SMALL),
    "torchvision": lambda: torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=5),
}


@pytest.fixture(params=[*MODELS, "clip vit", "clip custom"])
def backbone(request, make_clip):
    if request.param.startswith("clip"):
        return make_clip(request.param.partition(" ")[2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[request.param]()
    spec = BackboneSpec(f"{request.param}:small", "vit", 32, (0.5,) * 3, (0.5,) * 3, 5, tokens=True)
    return FrozenBackbone(model, spec, adapters()[request.param], [f"class {i}" for i in range(5)])


@pytest.fixture
def x():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def learned(blocks, *arguments):
    """`LowRankUpdates` that are not zero."""
    updates, generator = LowRankUpdates(blocks, *arguments), torch.Generator().manual_seed(2)
    for parameter in updates.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return updates


def changed_by_hand(blocks, updates, targets, scale):
    """Adds what `updates` says to the weights of `blocks`, row by row."""
    width = updates.up.shape[2]
    for b, block in enumerate(blocks):
        attention = next(
            m for m in block.modules() if hasattr(m, "num_heads") and (hasattr(m, "qkv") or hasattr(m, "in_proj_weight"))
        )
        fused = attention.qkv.weight if hasattr(attention, "qkv") else attention.in_proj_weight
        last = attention.proj.weight if hasattr(attention, "qkv") else attention.out_proj.weight
        for t, target in enumerate(targets):
            for i in range(width):
                row = scale * sum(updates.up.data[b, t, i, r] * updates.down.data[b, t, r] for r in range(updates.up.shape[3]))
                (last.data if target == "o" else fused.data["qkv".index(target) * width :])[i] += row


@pytest.mark.parametrize(("targets", "alpha"), [("qv", 6.0), ("qkv", 1.5), ("ko", 3.0), ("o", 3.0)])
def test_an_update_is_added_to_the_weights_it_names(backbone, x, targets, alpha):
    updates = learned(backbone.tokens.blocks, 3, alpha, targets)
    adapted, other = AdaptedBackbone(backbone, updates), copy.deepcopy(backbone)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    changed_by_hand(other.tokens.blocks, updates, targets, alpha / 3)
    got = adapted.features(x)
    assert torch.allclose(got, other.features(x), atol=1e-4)
    assert not torch.allclose(got, backbone.features(x), atol=1e-2)
    with torch.no_grad():
        assert torch.allclose(adapted.features(x), got, atol=1e-4)
    assert list(before) == list(backbone.state_dict()), "the same names in the same order"
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_it_starts_as_the_backbone_and_learns_on_both_sides(backbone, x):
    updates = LowRankUpdates(backbone.tokens.blocks, 2, 2.0)
    adapted = AdaptedBackbone(backbone, updates)
    result = adapted.features(x)
    assert torch.allclose(result, backbone.features(x), atol=1e-5)
    assert not updates.up.any() and 0 < updates.down.abs().max() <= updates.down.shape[-1] ** -0.5
    result.square().sum().backward()
    assert updates.up.grad.flatten(2).any(dim=2).all(), "every update of every block"
    assert not any(p.requires_grad or p.grad is not None for p in backbone.parameters())
    with torch.no_grad():
        updates.up.normal_()
    adapted.features(x).square().sum().backward()
    assert updates.down.grad.flatten(2).any(dim=2).all()


def test_merged_weights_are_kept_until_the_parameters_change(backbone, x):
    updates = learned(backbone.tokens.blocks, 2)
    blocks = backbone.tokens.blocks
    with torch.no_grad():
        first = updates.merged(blocks)
        assert updates.merged(blocks) is first
        updates.up.mul_(2)
        second = updates.merged(blocks)
        assert not torch.equal(first[0][2], second[0][2])
        updates.load_state_dict({name: tensor * 2 for name, tensor in updates.state_dict().items()})
        assert not torch.equal(updates.merged(blocks)[0][2], second[0][2])
    assert updates.merged(blocks)[0][2].requires_grad


def test_the_text_tower_takes_updates_too(tiny_clip):
    updates = learned(tiny_clip.text_blocks, 2, 1.0, "qkv")
    plain = tiny_clip.text_features(["a photo of a one."])
    with replaced_weights(updates.merged(tiny_clip.text_blocks)):
        adapted = tiny_clip.text_features(["a photo of a one."])
    assert not torch.allclose(adapted, plain, atol=1e-3)
    assert torch.equal(tiny_clip.text_features(["a photo of a one."]), plain)


def test_weights_come_back_after_an_error(backbone):
    updates, before = learned(backbone.tokens.blocks, 2), list(backbone.parameters())
    with pytest.raises(RuntimeError, match="inside"), updates.inside(backbone.tokens):
        raise RuntimeError("inside")
    assert all(own is other for own, other in zip(backbone.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((4, 4.0, "qx"), "targets are 'qx', expected some of the letters qkvo"),
        ((4, 4.0, "qq"), "targets are 'qq'"),
        ((4, 4.0, ""), "targets are ''"),
        ((0, 4.0, "q"), "rank is 0, expected 1 to 128"),
        ((129, 4.0, "q"), "rank is 129, expected 1 to 128"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        LowRankUpdates(build_backbone("tiny_vit", verbose=False).tokens.blocks, *arguments)


def test_blocks_without_a_known_attention_are_refused():
    with pytest.raises(ValueError, match="0 attentions"):
        LowRankUpdates([nn.Linear(4, 4)])
    two = timm.models.vision_transformer.ParallelThingsBlock(8, 2)
    with pytest.raises(ValueError, match="2 attentions"):
        LowRankUpdates([two])


def test_the_papers_number_of_parameters_on_vit_l_at_384():
    """Cai et al., Table 13: LoRA of rank 6 has 0.60 M with a head of ten classes, SMM 0.54 M without its head."""
    spec = backbone_spec("vit_l16_384")
    assert (spec.input_size, spec.kind) == (384, "vit")

    def number(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    with torch.device("meta"):
        vit = timm.create_model(spec.model_name, pretrained=False)
        updates = LowRankUpdates(adapters()["timm"].tokens(vit).blocks, rank=6, alpha=6.0, targets="qv")
        head, smm = HeadMapping(vit.num_features, 10), SampleSpecificMask(spec.input_size, layers=6)
    assert number(updates) == 589_824
    assert number(updates, head) == 600_074
    assert number(smm) == 544_707
