"""A compiled backbone gives what the plain one gives, and one that cannot be compiled stays as it is."""

import shutil

import pytest
import torch
from torch import nn

from dassl_vr.backbones import BackboneSpec, FrozenBackbone, build_backbone
from dassl_vr.backbones.adapters import Adapter


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


class SmallAdapter(Adapter):
    def num_features(self, model):
        return 8

    def features(self, model, x):
        return model.conv(x).mean((2, 3))


def small():
    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    spec = BackboneSpec("test:small", "cnn", 16, half, half, 5)
    return FrozenBackbone(Small(), spec, SmallAdapter(), [f"class {i}" for i in range(5)])


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler on a CPU")
def test_logits_and_gradients_are_the_same(monkeypatch, capsys):
    calls, compile_function = [], torch.compile

    def counted(function):
        run = compile_function(function)
        return lambda *arguments: calls.append(function.__name__) or run(*arguments)

    monkeypatch.setattr(torch, "compile", counted)
    plain, compiled = small(), small()
    compiled.compile_model()
    for batch in (4, 3):  # the last batch of an epoch is smaller
        x = torch.randn(batch, 3, 16, 16, requires_grad=True)
        expected, got = plain.logits(x), compiled.logits(x)
        assert (got - expected).abs().max() < 1e-4 * expected.abs().max()
        one, other = (torch.autograd.grad(y.logsumexp(1).sum(), x)[0] for y in (expected, got))
        assert (one - other).abs().max() < 1e-4 * one.abs().max()
    assert calls == ["logits", "logits"] and "uncompiled" not in capsys.readouterr().out


def test_without_a_compiler_a_line_says_so(monkeypatch, capsys):
    def refuse(function):
        def run(*arguments):
            raise RuntimeError("no working C++ compiler\nfound in many places")

        return run

    monkeypatch.setattr(torch, "compile", refuse)
    plain = build_backbone("lite0", size=32, verbose=False)
    compiled = build_backbone("lite0", size=32, verbose=False, compiled=True)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(compiled.logits(x), plain.logits(x))
    assert torch.equal(compiled.features(x), plain.features(x))
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "stays uncompiled (RuntimeError: no working C++ compiler)" in out


def test_errors_of_the_model_itself_are_not_taken_for_the_compiler_s(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    compiled = small()
    compiled.compile_model()
    with pytest.raises(RuntimeError, match="channels"):
        compiled.logits(torch.randn(2, 4, 16, 16))
