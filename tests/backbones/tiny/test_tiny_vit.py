"""The small ViT that comes with the package."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dassl_vr.backbones import backbone_spec, build_backbone
from dassl_vr.backbones.tiny import WEIGHTS, create_tiny_vit, vit_classes
from dassl_vr.reprogramming import Flm
from dassl_vr.utils.errors import ConfigError, WeightsError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def ramp(size=64):
    return torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("tiny_vit", verbose=False)


def test_facts_and_shapes(backbone):
    assert backbone.spec == backbone_spec("tiny_vit") == backbone_spec("tiny:vit_patch16_64")
    assert (backbone.kind, backbone.input_size, backbone.out_features) == ("vit", 64, 128)
    assert backbone.source_classes == vit_classes() and len(set(vit_classes())) == 40
    assert backbone.source_classes[:2] == ["white T-shirt", "yellow T-shirt"]
    assert backbone.logits(ramp()).shape == (1, 40) and backbone.features(ramp()).shape == (1, 128)


def test_features_are_the_recorded_ones(backbone):
    """Weights that do not belong to the architecture can load and even give good accuracies: only values tell."""
    features, logits = backbone.features(ramp())[0, :6], backbone.logits(ramp())[0, :6]
    assert torch.allclose(features, torch.tensor([3.0636, 1.6383, 1.3468, -0.0265, 0.6673, -1.2229]), atol=1e-3)
    assert torch.allclose(logits, torch.tensor([-0.0868, -1.442, 2.7653, -0.965, -3.6811, -2.3233]), atol=1e-3)


def test_other_sizes_get_resized_position_embeddings(backbone):
    large = build_backbone("tiny_vit", size=96, verbose=False)
    assert large.model.pos_embed.shape == (1, 1 + 6 * 6, 128)
    assert torch.equal(large.model.pos_embed[:, 0], backbone.model.pos_embed[:, 0])  # the class token's
    # the same picture, larger, is the same thing
    x = torch.nn.functional.interpolate(ramp(32), size=64), torch.nn.functional.interpolate(ramp(32), size=96)
    assert torch.cosine_similarity(backbone.features(x[0]), large.features(x[1])) > 0.9
    with pytest.raises(ConfigError, match="INPUT.SIZE is 100, expected a multiple of 16"):
        build_backbone("tiny_vit", size=100, verbose=False)


def test_weights_may_be_random_or_from_a_users_file(backbone, tmp_path):
    random = build_backbone("tiny_vit", pretrained=False, verbose=False)
    torch.save(random.model.state_dict(), tmp_path / "own.pth")
    own = build_backbone("tiny_vit", weights=tmp_path / "own.pth", verbose=False)
    assert torch.equal(own.logits(ramp()), random.logits(ramp()))
    assert not torch.equal(own.logits(ramp()), backbone.logits(ramp()))
    torch.save({"head.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit 'tiny:vit_patch16_64'"):
        build_backbone("tiny_vit", weights=tmp_path / "other.pth", verbose=False)


def test_the_file_is_half_precision_and_small():
    state = load_file(WEIGHTS["vit"])
    assert state.keys() == create_tiny_vit().state_dict().keys()
    assert {tensor.dtype for tensor in state.values()} == {torch.float16} and WEIGHTS["vit"].stat().st_size < 2e6


def test_mapping_alone_beats_random_guessing_on_digits(backbone, split):
    """Digits, which it never saw, by which clothes they look like: the mapping is counted on training images."""
    mapping = Flm(len(backbone.source_classes), 10)
    (known, known_labels), (images, labels) = (split("digits", part, backbone) for part in ("train_x", "test"))
    with torch.inference_mode():
        mapping.reset()
        mapping.observe(backbone.logits(known), known_labels)
        mapping.update()
        accuracy = (mapping(backbone.logits(images)).argmax(1) == labels).float().mean()
    assert accuracy > 0.14  # 0.165 as shipped; chance is 0.1 with a standard error of 0.013


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_clothes_of_the_test_split_and_their_colours(backbone):
    from dassl_vr.backbones.tiny.images import Grey, fashion_mnist, paint
    from dassl_vr.backbones.tiny.training import ViTTask, normalize

    _, test = fashion_mnist(FASHION_MNIST.parent)
    painted = paint(Grey(test.images[:1000], test.labels[:1000]), torch.Generator().manual_seed(1))
    with torch.inference_mode():
        best = backbone.logits(normalize(painted.images, "vit")).argmax(1)
    assert (best == ViTTask.targets(painted)).float().mean() > 0.7  # chance is 0.025
