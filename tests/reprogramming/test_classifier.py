"""Sources of logits besides a backbone's classes, and the sides of the network that change nothing."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.backbones import build_backbone
from dassl_vr.prompting import ENSEMBLE, fill_in
from dassl_vr.reprogramming import Ilm, LinearMapping, PlainInput, TextMapping, Watermark
from dassl_vr.reprogramming.classifier import FeatureSource, ReprogrammedClassifier, TextSource


@pytest.fixture(scope="module")
def clip():
    return build_backbone("tiny_clip", verbose=False)


@pytest.fixture
def x():
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_logits_of_prompts_are_open_clips_own(clip, x):
    prompts = [fill_in(template, name) for name in ("three", "seven") for template in ENSEMBLE]
    source = TextSource(clip, prompts)
    image = F.normalize(clip.model.encode_image(x), dim=-1)
    text = F.normalize(clip.model.encode_text(clip.tokenize(prompts)), dim=-1)
    assert torch.allclose(source.logits(x), clip.model.logit_scale.exp() * image @ text.T, atol=1e-4)
    assert source.source_classes == prompts and not source.text_features.requires_grad
    assert not any("text_features" in key for key in source.state_dict())


def test_text_as_the_head_is_the_identity_behind_it(clip, x):
    source = TextSource(clip, ["a photo of a 3.", "a photo of a 7."])
    network = ReprogrammedClassifier(PlainInput(), source, TextMapping(2, 2))
    assert torch.equal(network(x), source.logits(x))
    mapping = network.f_out
    assert mapping.refresh == "never" and mapping.edges() == [] and not mapping.state_dict()
    with pytest.raises(ValueError, match="3 source classes for 2 target classes"):
        TextMapping(3, 2)


def test_a_mapping_over_templates_times_classes_finds_the_best_prompts(clip):
    mapping = Ilm(6, 2)  # three templates for each of two classes; the second class is said best by prompt 4, the first by 1
    mapping.reset()
    mapping.observe(F.one_hot(torch.tensor([1, 1, 0, 4, 4, 5]), 6).float(), torch.tensor([0, 0, 0, 1, 1, 1]))
    mapping.update()
    assert [source for _, source, _ in mapping.edges()] == [1, 4]


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_vit"])
def test_features_in_place_of_logits(name, x):
    backbone = build_backbone(name, verbose=False)
    source = FeatureSource(backbone)
    head = LinearMapping(backbone.out_features, 4)
    assert torch.equal(source.logits(x), backbone.features(x)) and len(source.source_classes) == backbone.out_features
    assert torch.equal(ReprogrammedClassifier(PlainInput(), source, head)(x), head.linear(backbone.features(x)))


def test_plain_input_has_nothing_to_learn(x):
    plain = PlainInput()
    assert plain(x) is x and plain.pattern() is None and not plain.state_dict() and not plain.added(x).any()


def test_start_of_a_watermark(x):
    torch.manual_seed(0)
    noise = Watermark(64, 9, "normal").delta.detach()
    assert noise.mean() == pytest.approx(0, abs=0.03) and noise.std() == pytest.approx(1, rel=0.03)
    assert not Watermark(64, 9).delta.any()
    frame = Watermark(64, 9, "normal")
    added = (frame(x) - x).detach()
    assert not added[:, :, 9:-9, 9:-9].any() and added[:, :, :9].std() == pytest.approx(1, rel=0.1)
    with pytest.raises(ValueError, match="init is 'ones', expected 'zeros' or 'normal'"):
        Watermark(64, 9, "ones")


@pytest.mark.parametrize("width", [0, -3, 65])
def test_a_frame_of_no_width_is_refused(width):
    with pytest.raises(ValueError, match=f"width is {width}, expected 1 to 64 pixels"):
        Watermark(64, width)
