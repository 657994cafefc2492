"""Low-rank updates of attention against transformers whose weights were changed manually."""

import copy
import functools

import open_clip
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from dassl_vr.backbones import BackboneSpec, FrozenBackbone, backbone_spec, build_backbone
from dassl_vr.backbones.adapters import adapters
from dassl_vr.prompting import AdaptedBackbone, LowRankUpdates, replaced_weights
from dassl_vr.prompting.lora import attention_of
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


@pytest.mark.parametrize(("targets", "scale"), [("qv", 2.0), ("qkv", 0.5), ("ko", 1.0), ("o", 1.0)])
def test_an_update_is_added_to_the_weights_it_names(backbone, x, targets, scale):
    updates = learned(backbone.tokens.blocks, 3, scale, targets)
    adapted, other = AdaptedBackbone(backbone, updates), copy.deepcopy(backbone)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    changed_by_hand(other.tokens.blocks, updates, targets, scale)
    got = adapted.features(x)
    assert torch.allclose(got, other.features(x), atol=1e-4)
    assert not torch.allclose(got, backbone.features(x), atol=1e-2)
    with torch.no_grad():
        assert torch.allclose(adapted.features(x), got, atol=1e-4)
    assert list(before) == list(backbone.state_dict()), "the same names in the same order"
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_it_starts_as_the_backbone_and_learns_on_both_sides(backbone, x):
    updates = LowRankUpdates(backbone.tokens.blocks, 2)
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
        others = copy.deepcopy(blocks)
        assert updates.merged(others)[0][0] not in list(blocks[0].modules()), "those of other blocks are others"
        updates.up.mul_(2)
        second = updates.merged(blocks)
        assert not torch.equal(first[0][2], second[0][2])
        updates.load_state_dict({name: tensor * 2 for name, tensor in updates.state_dict().items()})
        assert not torch.equal(updates.merged(blocks)[0][2], second[0][2])
    assert updates.merged(blocks)[0][2].requires_grad


def test_the_text_tower_takes_updates_too(tiny_clip):
    updates = learned(tiny_clip.text_blocks, 2, 0.5, "qkv")
    plain = tiny_clip.text_features(["a photo of a one."])
    with replaced_weights(updates.merged(tiny_clip.text_blocks)):
        adapted = tiny_clip.text_features(["a photo of a one."])
    assert not torch.allclose(adapted, plain, atol=1e-3)
    assert torch.equal(tiny_clip.text_features(["a photo of a one."]), plain)


# ------------------------------------------------------------------------------------------------- inputs that are dropped
def attend(block, x, mask=None):
    """What the self-attention of a block makes of (B, L, width)."""
    attention = getattr(block, "attn", None) or block.self_attention
    return attention(x) if hasattr(attention, "qkv") else attention(x, x, x, need_weights=False, attn_mask=mask)[0]


def attend_by_hand(block, x, updates, dropped, mask=0.0):
    """The same head by head, with the updates of inputs dropped as `dropped` {target: (B, L, width) factors} says."""
    attention = getattr(block, "attn", None) or block.self_attention
    fused, name, last = attention_of(block)
    width, heads = x.shape[-1], attention.num_heads
    bias = fused.bias if name == "weight" else attention.in_proj_bias
    weights = dict(zip("qkvo", [*getattr(fused, name).split(width), last.weight]))
    biases = dict(zip("qkvo", [*bias.split(width), last.bias]))

    def project(target, x):
        result = x @ weights[target].T + biases[target]
        if target in updates.targets:
            place = updates.targets.index(target)
            result = result + updates.scale * (x * dropped[target]) @ updates.down[0, place].T @ updates.up[0, place].T
        return result

    q, k, v = (project(target, x).split(width // heads, dim=-1) for target in "qkv")
    scores = [(q[i] @ k[i].transpose(1, 2) * (width // heads) ** -0.5 + mask).softmax(-1) @ v[i] for i in range(heads)]
    return project("o", torch.cat(scores, dim=-1))


@pytest.mark.parametrize("targets", ["qkv", "vo", "k"])
def test_each_update_sees_an_input_dropped_on_its_own(backbone, targets, monkeypatch):
    generator, block = torch.Generator().manual_seed(3), backbone.tokens.blocks[0]
    updates = learned([block], 2, 0.7, targets, 0.25)
    x = torch.randn(2, 5, updates.down.shape[-1], generator=generator)
    masks = {target: torch.bernoulli(torch.full(x.shape, 0.75), generator=generator) / 0.75 for target in targets}
    order = iter(masks.values())
    monkeypatch.setattr(F, "dropout", lambda x, p, training=True, inplace=False: x * next(order) if training else x)
    expected = attend_by_hand(block, x, updates, masks)
    with updates.inside_blocks([block]):
        got = attend(block, x)
    assert next(order, None) is None, "one draw a target"
    assert torch.allclose(got, expected, atol=1e-4)
    assert torch.allclose(attend(block, x), attend_by_hand(block, x, LowRankUpdates([block]), dict.fromkeys("qv", 1.0)), atol=1e-4)


def test_dropped_inputs_in_a_text_tower_look_back_only(tiny_clip):
    updates = learned(tiny_clip.text_blocks[:1], 2, 0.7, "qkv", 1e-9)
    block, generator = tiny_clip.text_blocks[0], torch.Generator().manual_seed(4)
    x = 0.1 * torch.randn(1, 4, tiny_clip.text_width, generator=generator)
    mask = torch.full((4, 4), -torch.inf).triu(1)
    with updates.inside_blocks([block]):
        got = attend(block, x, mask)
    assert torch.allclose(got, attend_by_hand(block, x, updates, dict.fromkeys("qkv", 1.0), mask), atol=1e-4)


def test_dropout_is_for_training_alone(backbone, x):
    dropping, plain = learned(backbone.tokens.blocks, 2, 0.5, "qkv", 0.25), learned(backbone.tokens.blocks, 2, 0.5, "qkv")
    adapted = AdaptedBackbone(backbone, dropping)
    before = list(backbone.modules())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = adapted.features(x), adapted.features(x)
        torch.manual_seed(0)
        again = adapted.features(x)
    assert torch.equal(first, again) and not torch.allclose(first, second, atol=1e-3)
    first.square().sum().backward()
    assert all(parameter.grad.flatten(2).any(dim=2).all() for parameter in dropping.parameters())
    dropping.eval()
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            assert torch.equal(adapted.features(x), AdaptedBackbone(backbone, plain).features(x))
    assert all(module is other for module, other in zip(backbone.modules(), before, strict=True))


def test_dropped_inputs_of_one_backbone_after_another(backbone, x):
    blocks, others = backbone.tokens.blocks[:1], copy.deepcopy(backbone.tokens.blocks[:1])
    with torch.no_grad():
        for parameter in others[0].parameters():
            parameter.mul_(1.5)
    updates = learned(blocks, 2, 0.7, "qkv", 1e-9)  # so little that nothing is dropped
    x = torch.randn(1, 5, updates.down.shape[-1], generator=torch.Generator().manual_seed(5))
    for each in (blocks, others, blocks):
        with updates.inside_blocks(each):
            got = attend(each[0], x)
        assert torch.allclose(got, attend_by_hand(each[0], x, updates, dict.fromkeys("qkv", 1.0)), atol=1e-4)


def test_attention_of_other_kinds_takes_no_dropout():
    blocks = [open_clip.transformer.CustomResidualAttentionBlock(8, 2)]
    LowRankUpdates(blocks, 1)
    with pytest.raises(ValueError, match="not for Attention; take a dropout of 0"):
        LowRankUpdates(blocks, 1, dropout=0.1)


@pytest.mark.parametrize("dropout", [0.0, 1e-9])
@pytest.mark.parametrize("kind", ["timm", "vit"])
def test_a_compiled_backbone_takes_updates_and_is_compiled_once(kind, dropout, x, make_clip, monkeypatch):
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    plain = make_clip(kind) if kind == "vit" else build_backbone("tiny_vit", size=32, verbose=False)
    compiled = copy.deepcopy(plain)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=count))
    compiled.compile_model()
    both = [(backbone, learned(backbone.tokens.blocks, 2, 0.1, "qkv", dropout)) for backbone in (plain, compiled)]
    for _ in range(3):
        results = []
        for backbone, updates in both:
            updates.zero_grad()
            updates.up.data *= 1.5
            features = AdaptedBackbone(backbone, updates).features(x)
            features.square().sum().backward()
            results.append((features.detach(), updates.up.grad, updates.down.grad))
        assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-4 * other.abs().max()) for one, other in zip(*results))
    assert len(graphs) == 1


def test_weights_come_back_after_an_error(backbone):
    updates, before = learned(backbone.tokens.blocks, 2), list(backbone.parameters())
    with pytest.raises(RuntimeError, match="inside"), updates.inside(backbone.tokens):
        raise RuntimeError("inside")
    assert all(own is other for own, other in zip(backbone.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((4, 1.0, "qx"), "targets are 'qx', expected some of the letters qkvo"),
        ((4, 1.0, "qq"), "targets are 'qq'"),
        ((4, 1.0, ""), "targets are ''"),
        ((0, 1.0, "q"), "rank is 0, expected 1 to 128"),
        ((129, 1.0, "q"), "rank is 129, expected 1 to 128"),
        ((4, 1.0, "q", 1.0), "dropout is 1.0, expected 0 or more, and below 1"),
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
        updates = LowRankUpdates(adapters()["timm"].tokens(vit).blocks, rank=6, targets="qv")
        head, smm = HeadMapping(vit.num_features, 10), SampleSpecificMask(spec.input_size, layers=6)
    assert number(updates) == 589_824
    assert number(updates, head) == 600_074
    assert number(smm) == 544_707
