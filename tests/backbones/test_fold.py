import pytest
import timm
import torch
import torchvision
from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from dassl_vr.backbones import build_backbone
from dassl_vr.backbones.fold import fold_batch_norm


def with_statistics(model):
    """`model` in evaluation mode with batch-norm statistics as after some training."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -1, 1)
    return model.eval()


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


MODELS = {
    "resnet18": lambda: torchvision.models.resnet18(),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(),
    "timm efficientnet": lambda: timm.create_model("test_efficientnet"),
    "timm resnet": lambda: timm.create_model("test_resnet"),
    "clip resnet": lambda: ModifiedResNet(layers=[1, 1, 1, 1], output_dim=16, heads=4, image_size=64, width=8),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_the_same(name):
    torch.manual_seed(0)  # of others a few have a ReLU that falls on the other side of zero by rounding
    model = with_statistics(MODELS[name]())
    before = norms(model)
    folded = fold_batch_norm(model, 64)
    assert before > 0 and norms(folded) == 0 and norms(model) == before, "the original is left as it was"
    x = torch.randn(3, 3, 64, 64, requires_grad=True)
    expected, got = model(x), folded(x)
    scale = expected.abs().max()
    assert (got - expected).abs().max() < 1e-4 * scale
    one, other = (torch.autograd.grad(y.logsumexp(1).sum(), x)[0] for y in (expected, got))
    assert (one - other).abs().max() < 1e-3 * one.abs().max()


def test_densenet_keeps_the_norms_before_convolutions():
    model = with_statistics(torchvision.models.densenet121())
    folded = fold_batch_norm(model, 64)
    assert 0 < norms(folded) < norms(model)
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(folded(x), model(x), atol=1e-4 * float(model(x).abs().max()))


class Branching(nn.Module):
    """The convolution's output is used besides the norm, so folding would change the result."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return (self.norm(y) + y).mean((2, 3))


class Twice(nn.Module):
    """One norm behind two convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.second(self.norm(self.first(x)))).mean((2, 3))


@pytest.mark.parametrize("make", [Branching, Twice, lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())])
def test_what_cannot_be_folded_is_left_alone(make):
    model = with_statistics(make())
    assert fold_batch_norm(model, 16) is model


def test_backbones_are_folded_by_default():
    folded = build_backbone("lite0", size=64, verbose=False)
    plain = build_backbone("lite0", size=64, fold=False, verbose=False)
    assert norms(folded) == 0 and norms(plain) == 49
    x = torch.randn(4, 3, 64, 64)
    assert (folded.logits(x) - plain.logits(x)).abs().max() < 1e-4
    assert torch.allclose(folded.features(x), plain.features(x), atol=1e-4)
    assert norms(build_backbone("lite0", frozen=False, verbose=False)) == 49, "a backbone to be trained keeps its norms"


def test_the_image_tower_of_a_clip_cnn_is_folded():
    towers = []
    for fold in (True, False):
        torch.manual_seed(0)
        towers.append(build_backbone("open_clip:RN50-quickgelu", pretrained=False, size=64, fold=fold, verbose=False))
    folded, plain = towers
    assert norms(folded) == 0 and norms(plain) > 50
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(folded.features(x), plain.features(x), atol=1e-4 * float(plain.features(x).abs().max()))


def test_channels_last_is_the_default():
    together = build_backbone("lite0", size=64, verbose=False)
    apart = build_backbone("lite0", size=64, channels_last=False, verbose=False)
    kernels = [next(p for p in backbone.parameters() if p.dim() == 4) for backbone in (together, apart)]
    assert [p.is_contiguous(memory_format=torch.channels_last) for p in kernels] == [True, False]
    x = torch.randn(4, 3, 64, 64)
    assert (together.logits(x) - apart.logits(x)).abs().max() < 1e-4
