"""Several views of an image: who makes them, who reads them, each against its definition written out."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.backbones import build_backbone
from dassl_vr.reprogramming import FeatureSource, InputPrompt, ReprogrammedClassifier, TextSource
from dassl_vr.reprogramming.classifier import EmbeddingSource, SeveralViews, source_on
from dassl_vr.reprogramming.inputs.decoupled import Decoupled, FourSides
from dassl_vr.reprogramming.inputs.pad import Ar
from dassl_vr.reprogramming.mappings import Words
from dassl_vr.reprogramming.mappings.described import AttrVr, Described, Reparameterized, Reweighted
from dassl_vr.reprogramming.pictures import pattern_of, prompt_pictures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, INNER = 64, 44
NAMES = ["three", "seven", "nine"]
BANKS = [[[f"{what} {name}, number {i}" for i in range(4)] for name in NAMES] for what in ("a photo of a", "the shape of a")]


@pytest.fixture(scope="module")
def clip():
    return build_backbone("tiny_clip", verbose=False)


def images(batch=4):
    pixels = torch.rand(batch, 3, INNER, INNER, generator=torch.Generator().manual_seed(0))
    pixels = F.pad(pixels, [(SIZE - INNER) // 2] * 4)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def filled(f_in):
    f_in.delta.data.normal_(generator=torch.Generator().manual_seed(1))
    return f_in


def decoupled(views):
    return filled(Decoupled(SIZE, INNER, MEAN, STD, views))


def network(clip, f_in, cls=Reweighted, banks=1, **more):
    """One whose f_out is made of sentences, and computed from images where it is."""
    source = EmbeddingSource(clip)
    source = SeveralViews(source, f_in.views) if f_in.views > 1 else source
    f_out = cls(len(source.source_classes), len(NAMES), 4, banks, nearest=3, views=f_in.views, **more)
    f_out.prepare(Words(NAMES, source.source_classes, clip.text_features, lambda: BANKS))
    f_out.reset()
    f_out.observe(source.logits(f_in(images())), torch.tensor([0, 1, 2, 1]))
    f_out.update()
    return ReprogrammedClassifier(f_in, source, f_out)


def test_one_view_is_ar(clip):
    """Exactly: the images, the logits and the gradient."""
    one, ar = decoupled(1), filled(Ar(SIZE, INNER, MEAN, STD))
    x, gradients = images(), []
    assert torch.equal(one(x), ar(x)) and torch.equal(one.pattern(), ar.pattern()) and torch.equal(one.added(x), ar.added(x))
    results = [network(clip, f_in)(x) for f_in in (one, ar)]
    assert torch.equal(*results)
    for f_in, result in zip((one, ar), results):
        gradients += torch.autograd.grad(F.cross_entropy(result, torch.tensor([0, 1, 2, 0])), f_in.delta)
    assert torch.equal(gradients[0][0], gradients[1]) and gradients[1].any()


def test_each_view_has_a_pattern_of_its_own():
    x, f_in = images(), decoupled(3)
    ars = [Ar(SIZE, INNER, MEAN, STD) for _ in range(3)]
    for ar, delta in zip(ars, f_in.delta.data):
        ar.delta.data = delta
    expected = torch.stack([ar(image[None])[0] for image in x for ar in ars])
    assert torch.equal(f_in(x), expected)
    assert torch.equal(f_in.pattern(), torch.stack([ar.pattern() for ar in ars]))
    assert f_in.masks(x).shape == expected.shape


def test_the_four_sides_are_the_border():
    x, ar = images(), filled(Ar(SIZE, INNER, MEAN, STD))
    f_in = FourSides(SIZE, INNER, MEAN, STD)
    f_in.load_state_dict(ar.state_dict())  # as many parameters
    views = f_in(x).unflatten(0, (4, 4))  # (images, views, 3, S, S)
    changed = (views != x[:, None]).any(dim=(0, 2))  # (views, S, S)
    start, stop = 10, 54
    assert [int(side.sum()) for side in changed] == [10 * 64, 10 * 64, 10 * 44, 10 * 44]
    assert changed[0, :start].all() and changed[1, stop:].all() and changed[2, start:stop, :start].all()
    assert changed[3, start:stop, stop:].all()
    assert torch.equal(torch.where(changed[:, None], views, 0).sum(dim=1), torch.where(changed.any(0), ar(x), 0))


@pytest.mark.parametrize("kind", ["text", "features", "backbone"])
def test_what_a_source_gives_of_each_view_stands_side_by_side(clip, kind):
    vit = build_backbone("tiny_vit", verbose=False)
    source = {"text": TextSource(clip, NAMES), "features": FeatureSource(vit), "backbone": vit}[kind]
    several, x, f_in = SeveralViews(source, 3), images(), decoupled(3)
    views = [filled(Ar(SIZE, INNER, MEAN, STD)) for _ in range(3)]
    for ar, delta in zip(views, f_in.delta.data):
        ar.delta.data = delta
    found = several.logits(f_in(x))
    torch.testing.assert_close(found, torch.cat([source.logits(ar(x)) for ar in views], dim=1), atol=1e-4, rtol=1e-4)
    assert found.shape == (4, len(several.source_classes)) and several.features(f_in(x)).shape[0] == 4
    assert kind == "text" or torch.equal(source_on(several, vit).logits(f_in(x)), found)


@pytest.mark.parametrize(("banks", "views", "by"), [(1, 3, "clusters"), (2, 2, "files"), (2, 5, "clusters")])
@pytest.mark.parametrize("cls", [AttrVr, Reweighted])
def test_a_sentence_is_compared_with_its_own_view(clip, cls, banks, views, by):
    f_in, x = decoupled(views), images()
    model = network(clip, f_in, cls, banks, views_by=by)
    f_out = model.f_out
    seen = model.backbone.logits(f_in(x))
    of_view = seen.unflatten(1, (views, -1))
    texts = [text for of_class in zip(*BANKS[:banks]) for sentences in of_class for text in sentences]
    group = {text: int(view) for text, view in zip(texts, f_out.view_of)}
    expected = [of_view[:, group[text]] @ clip.text_features([text])[0] for text in texts]
    torch.testing.assert_close(f_out.of_sentences(seen), torch.stack(expected, dim=1), atol=1e-4, rtol=1e-4)
    assert {*group.values()} == {*range(views)}
    if by == "files":
        assert all(group[text] == number for number, bank in enumerate(BANKS) for sentences in bank for text in sentences)
    again = cls(f_out.num_source, len(NAMES), 4, banks, views=views)  # the groups are in the state
    again.load_state_dict(f_out.state_dict())
    assert torch.equal(again(seen), f_out(seen))


def test_clusters_hold_what_is_alike(clip):
    """Sentences of two directions with noise: the groups are the directions."""
    directions, generator = torch.eye(8)[:2], torch.Generator().manual_seed(0)
    truth = torch.arange(24) % 2
    features = F.normalize(directions[truth] + 0.1 * torch.randn(24, 8, generator=generator), dim=1)
    f_out = Described(16, 3, 8, views=2)
    f_out.prepare(Words(NAMES, [], lambda texts: features, lambda: [[[""] * 8] * 3]))
    assert f_out.view_of[0] != f_out.view_of[1] and all(len(f_out.view_of[truth == side].unique()) == 1 for side in (0, 1))


def test_rvp_folds_over_views(clip):
    f_in, x = decoupled(3), images()
    source = SeveralViews(EmbeddingSource(clip), 3)
    f_out = Reparameterized(len(source.source_classes), len(NAMES), 4, 2, views=3)
    f_out.prepare(Words(NAMES, source.source_classes, clip.text_features, lambda: BANKS))
    f_out.P.data.normal_(generator=torch.Generator().manual_seed(2))
    seen = source.logits(f_in(x))
    torch.testing.assert_close(f_out.train()(seen), f_out.eval()(seen), atol=1e-4, rtol=1e-5)


def test_pictures_have_the_views_side_by_side():
    x, f_in = images(2), decoupled(3)
    shown = prompt_pictures(f_in, x, MEAN, STD)
    views = f_in(x).unflatten(0, (2, 3))
    for number in range(3):
        of_view = shown.results[..., number * SIZE : (number + 1) * SIZE]
        pixels = views[:, number] * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        torch.testing.assert_close(of_view, pixels.clamp(0, 1))
    wide = (2, 3, SIZE, 3 * SIZE)
    assert shown.inputs.shape == shown.added.shape == shown.results.shape == wide
    assert shown.masks[0][1].shape == (2, SIZE, 3 * SIZE) and shown.pattern.shape == pattern_of(f_in).shape == wide[1:]


def test_an_f_in_that_defines_forward_alone():
    class Mirrored(InputPrompt):
        views = 2

        def forward(self, x):
            return torch.stack([x, x.flip(-1)], dim=1).flatten(0, 1)

    x, f_in = images(2), Mirrored()
    added = f_in.added(x)
    assert not added[::2].any() and torch.equal(added[1::2], x.flip(-1) - x)
    assert prompt_pictures(f_in, x, MEAN, STD).results.shape == (2, 3, SIZE, 2 * SIZE)


def test_impossible_views():
    with pytest.raises(ValueError, match="VIEWS is 0, expected 1 or more"):
        Decoupled(SIZE, INNER, MEAN, STD, 0)
    with pytest.raises(ValueError, match="VIEWS_BY files with 1 files for 3 views"):
        Reweighted(24, 3, 4, 1, views=3, views_by="files")
    with pytest.raises(ValueError, match="VIEWS_BY is 'names', expected clusters or files"):
        Reweighted(24, 3, 4, 1, views=3, views_by="names")
    with pytest.raises(ValueError, match="4 views for 3 sentences"):
        Described(32, 3, 1, views=4)
