"""The last block of a transformer that computes the class token alone, against the whole block."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from dassl_vr.backbones import build_backbone
from dassl_vr.backbones.class_token import ClassTokenBlock, read_class_token_alone
from dassl_vr.engine.flops import flops_per_image
from dassl_vr.prompting import AdaptedBackbone
from dassl_vr.prompting.lora import LowRankUpdates
from dassl_vr.prompting.tokens import VisualTokens


def shortened(model):
    return sum(isinstance(module, ClassTokenBlock) for module in model.modules())


def assert_same(one, other, x):
    """Values and input gradients of two functions."""
    results = []
    for function in (one, other):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
        results.append((y.detach(), *torch.autograd.grad((y * weights).sum(), leaf)))
    for got, expected in zip(*results, strict=True):
        assert (got - expected).abs().max() < 1e-5 * expected.abs().max().clamp(min=1e-3)
    with torch.inference_mode():
        assert torch.allclose(one(x), results[1][0], rtol=1e-5, atol=1e-5 * float(results[1][0].abs().max()))


@pytest.fixture(scope="module", params=["tiny_vit", "tiny_clip"])
def pair(request):
    return [build_backbone(request.param, size=64, fold=fold, verbose=False) for fold in (True, False)]


def images(count=3, size=64):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_frozen_transformer_gives_the_same(pair):
    short, plain = pair
    assert (shortened(short), shortened(plain)) == (1, 0)
    assert_same(short.features, plain.features, images())
    assert flops_per_image(short.features, (64, 64)) == flops_per_image(plain.features, (64, 64)), "of the model as it is defined"
    assert len(short.tokens.blocks) == len(plain.tokens.blocks)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("depth", [1, "all"])
def test_with_prompt_tokens(pair, depth, at_end):
    layout = pair[0].tokens
    tokens = VisualTokens(layout, 4, len(layout.blocks) if depth == "all" else 1, "normal", at_end)
    assert_same(*(AdaptedBackbone(backbone, tokens).features for backbone in pair), images())


def test_with_low_rank_updates(pair):
    torch.manual_seed(0)
    for dropout in (0.0, 0.5):
        updates = LowRankUpdates(pair[0].tokens.blocks, 2, targets="qkvo", dropout=dropout).eval()
        nn.init.normal_(updates.up, std=0.1)
        short, plain = (AdaptedBackbone(backbone, updates) for backbone in pair)
        assert_same(short.features, plain.features, images())
        if dropout:
            results = []
            for adapted in (short, plain):
                torch.manual_seed(1)
                updates.train()
                results.append(adapted.features(images()))
            assert torch.allclose(*results, rtol=1e-4, atol=1e-5), "the layers are others then: the whole block"


def of_torchvision():
    arguments = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "num_classes": 5}
    model = torchvision.models.VisionTransformer(32, 16, **arguments)
    nn.init.normal_(model.heads.head.weight)
    return model, lambda model: model.encoder.layers


def of_timm(**arguments):
    defaults = {"img_size": 32, "patch_size": 16, "depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 5}
    return timm.models.vision_transformer.VisionTransformer(**defaults, **arguments), lambda model: model.blocks


@pytest.mark.parametrize(
    "make, done",
    [
        (of_torchvision, True),
        (lambda: of_timm(init_values=0.5, qk_norm=True, qkv_bias=False), True),
        (lambda: of_timm(reg_tokens=2), True),
        (lambda: of_timm(global_pool="avg"), False),
        (lambda: of_timm(global_pool="map"), False),
    ],
)
def test_only_where_nothing_else_is_read(make, done):
    torch.manual_seed(0)
    model, blocks = make()
    model.eval()
    x = images(size=32)
    expected = model(x).detach()
    assert read_class_token_alone(model, list(blocks(model)), model, 32) is done
    assert shortened(model) == done
    assert torch.allclose(model(x), expected, rtol=1e-4, atol=1e-5)
