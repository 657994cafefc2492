"""Learned context against the slow obvious construction, and what stays in memory."""

import gc
import weakref

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from dassl_vr.backbones import build_backbone, clip
from dassl_vr.prompting import (
    ENSEMBLE,
    ConditionalClassifier,
    ContextPrompts,
    FixedClassifier,
    MultimodalClassifier,
    TextPromptedClassifier,
    fill_in,
    template_set,
    varied_templates,
)

NAMES = ["seven", "hot_air balloon", "a rather long name", "x"]
WORDS = [name.replace("_", " ") for name in NAMES]
BIG = {  # alias: side, features, width of the text tower, its blocks, width of the image tower's tokens
    "clip_rn50": (224, 1024, 512, 12, None),
    "clip_rn101": (224, 512, 512, 12, None),
    "clip_vit_b32": (224, 512, 512, 12, 768),
    "clip_vit_b16": (224, 512, 512, 12, 768),
    "clip_vit_l14": (224, 768, 768, 12, 1024),
}


def images(backbone, batch=3):
    return torch.randn(batch, 3, backbone.input_size, backbone.input_size, generator=torch.Generator().manual_seed(0))


def encoded(backbone, sentences):
    """By open_clip's own text path."""
    return F.normalize(backbone.model.encode_text(backbone.tokenize(sentences)), dim=-1)


def test_without_a_change_the_prompted_path_is_encode_text(any_clip):
    prompts = ContextPrompts(any_clip, NAMES, init="a photo of a")
    expected = encoded(any_clip, [f"a photo of a {name}." for name in WORDS])
    assert torch.allclose(any_clip.prompted_text_features(prompts(), prompts.tokens), expected, atol=1e-6)
    assert torch.allclose(any_clip.text_features([f"a photo of a {name}." for name in WORDS]), expected, atol=1e-6)
    tokens = any_clip.tokenize(WORDS)  # at full length too
    assert torch.allclose(
        any_clip.prompted_text_features(any_clip.token_embeddings(tokens), tokens), encoded(any_clip, WORDS), atol=1e-6
    )
    assert any_clip.out_features == 40 and torch.allclose(
        any_clip.features(images(any_clip)), any_clip.model.encode_image(images(any_clip))
    )


@pytest.mark.parametrize("name", BIG)
def test_every_dimension_of_the_big_ones_is_read_from_the_model(name):
    with torch.device("meta"):
        backbone = build_backbone(name, pretrained=False, fold=False, verbose=False)  # folding compares numbers
        side, features, width, blocks, visual = BIG[name]
        assert (backbone.input_size, backbone.out_features, backbone.text_width, len(backbone.text_blocks)) == (
            side,
            features,
            width,
            blocks,
        )
        tokens = torch.zeros(3, 77, dtype=torch.int64)
        tower = backbone.text_tower
        text = backbone.adapter.encode_embeddings(backbone.model, tower, backbone.token_embeddings(tokens), tokens)
        assert text.shape == backbone.model.encode_text(tokens).shape == (3, features)
        assert backbone.features(torch.zeros(2, 3, side, side)).shape == (2, features)
        assert backbone.model.visual.transformer.width == visual if visual else not backbone.spec.tokens
    assert "QuickGELU" in {type(m).__name__ for m in backbone.model.modules()}


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("count, init", [(5, ""), (None, "a photo of a"), (1, "")])
def test_a_sentence_is_the_one_put_together_word_by_word(tiny_clip, position, class_specific, count, init):
    prompts = ContextPrompts(tiny_clip, NAMES, count, init, class_specific, position)
    with torch.no_grad():
        prompts.context.normal_()
    tokenizer, embed = tiny_clip.tokenizer, tiny_clip.model.token_embedding.weight
    sentences = prompts()
    for row, name in enumerate(WORDS):
        context = list(prompts.context[row] if class_specific else prompts.context)
        half = len(context) // 2
        first, last = {"end": (context, []), "middle": (context[:half], context[half:]), "front": ([], context)}[position]
        named = [embed[token] for token in tokenizer.encode(name)]
        slow = [
            embed[tokenizer.sot_token_id],
            *first,
            *named,
            *last,
            embed[tokenizer.encode(".")[0]],
            embed[tokenizer.eot_token_id],
        ]
        assert torch.equal(sentences[row, : len(slow)], torch.stack(slow))
        assert int(prompts.tokens[row].argmax()) == len(slow) - 1
    assert prompts.context.shape == ((len(NAMES),) * class_specific + (prompts.count, tiny_clip.text_width))


def test_words_behind_the_learned_ones_stay(tiny_clip):
    """MaPLe learns two of "a photo of a"."""
    prompts = ContextPrompts(tiny_clip, NAMES, 2, "a_photo_of_a")
    whole = tiny_clip.token_embeddings(tiny_clip.tokenize([f"a photo of a {name}." for name in WORDS]))
    assert torch.equal(prompts(), whole[:, : prompts().shape[1]]) and prompts.context.shape[0] == 2


def test_random_starts_are_small_and_class_specific_ones_differ(tiny_clip):
    one, own = ContextPrompts(tiny_clip, NAMES, 50).context, ContextPrompts(tiny_clip, NAMES, 50, class_specific=True).context
    assert 0.019 < one.std() < 0.021 and 0.019 < own.std() < 0.021 and not torch.equal(own[0], own[1])
    given = ContextPrompts(tiny_clip, NAMES, init="a photo", class_specific=True).context
    assert torch.equal(given[0], given[3])


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"count": 0}, "0 context vectors, expected 1 or more"),
        ({"count": 5, "init": "a photo"}, "5 context vectors, but 'a photo' is 2 tokens; expected 2 or fewer"),
        ({"count": 1, "init": "a photo", "position": "front"}, "expected 2$"),
        ({"count": 4, "position": "start"}, "expected one of end, middle, front"),
        ({"count": 72}, "72 tokens of context and 'hot air balloon' of 7, .* takes 74 in all"),
        ({"count": 1, "init": "a " * 73}, "73 tokens of context"),
    ],
)
def test_invalid_arguments_are_named(tiny_clip, arguments, words):
    with pytest.raises(ValueError, match=words):
        ContextPrompts(tiny_clip, NAMES, **arguments)


def test_an_overlong_name_is_named_and_the_longest_fitting_one_is_not(tiny_clip):
    with pytest.raises(ValueError, match="'seven seven .* of 75"):
        ContextPrompts(tiny_clip, ["one", "seven " * 90], 4)
    longest = ContextPrompts(tiny_clip, ["one", "seven " * 70], 4)
    assert longest.tokens.shape[1] == 77 and longest.tokens[1, 76] == tiny_clip.tokenizer.eot_token_id


def test_templates():
    assert fill_in("art of the {}, {}", "hot_air balloon") == "art of the hot air balloon, hot air balloon"
    assert all("{}" in template for template in ENSEMBLE)
    with pytest.raises(ValueError, match="no place for the class's name"):
        fill_in("a photo", "cat")


def test_the_sets_of_templates():
    assert template_set("ensemble", "my {}.") == ("my {}.", *ENSEMBLE)
    assert template_set("vp", "my {}.") == ("This is a photo of a {}",)
    published = template_set("imagenet", "my {}.")
    assert len(set(published)) == 81 and all(template.count("{}") == 1 for template in published)
    # the order of ILM-VP's and BLM's lists, which decides ties
    assert published[:3] == ("This is a photo of a {}.", "a bad photo of a {}.", "a photo of many {}.")
    varied = varied_templates()
    assert len(set(varied)) == 60 and set(varied) < set(published) and varied[0] == "a photo of a {}."
    assert varied[1] == "a bad photo of a {}." and varied[-1] == "itap of the {}."  # as in PromptSRC's list
    assert published[40] == "a photo of a {}." and published[80] == "a tattoo of the {}." and set(ENSEMBLE) <= set(published)


@pytest.mark.parametrize("method", ["coop", "maple"])
def test_chunks_computed_again_give_the_same_values_and_gradients(make_clip, monkeypatch, method):
    backbone = make_clip("vit")
    prompts = ContextPrompts(backbone, NAMES * 2, 2, "a photo of a")
    model = TextPromptedClassifier(backbone, prompts) if method == "coop" else MultimodalClassifier(backbone, prompts, depth=3)
    trained = [p for p in model.parameters() if p.requires_grad]

    def pass_over():
        logits = model(images(backbone))
        return logits.detach(), torch.autograd.grad(F.cross_entropy(logits, torch.tensor([0, 5, 7])), trained)

    whole, gradients = pass_over()
    monkeypatch.setattr(clip, "CHUNK", 3)
    parts, gradients_of_parts = pass_over()
    assert torch.allclose(whole, parts, atol=1e-5)
    for one, other in zip(gradients, gradients_of_parts):
        assert one.abs().max() > 0 and torch.allclose(one, other, atol=1e-5 * float(one.abs().max()))
    with torch.no_grad():
        assert torch.allclose(whole, model(images(backbone)), atol=1e-5)


def test_conditional_prompts_are_those_of_each_image_alone(make_clip, monkeypatch):
    backbone = make_clip("vit")
    model = ConditionalClassifier(backbone, ContextPrompts(backbone, NAMES, init="a photo of a"))
    features = backbone.image_features(images(backbone))
    slow = []
    for feature in features:
        shifted = model.prompts(model.prompts.context + model.meta_net(feature))
        text = backbone.prompted_text_features(shifted, model.prompts.tokens)
        slow.append(backbone.scale * text @ feature)
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(torch.stack(slow).square().mean(), trained)
    for chunk in (256, 9, 3):  # all at once, two images at a time, less than an image's classes
        monkeypatch.setattr(clip, "CHUNK", chunk)
        logits = model(images(backbone))
        assert torch.allclose(logits, torch.stack(slow), atol=1e-5)
        for one, other in zip(torch.autograd.grad(logits.square().mean(), trained), gradients):
            assert torch.allclose(one, other, atol=1e-5 * float(other.abs().max()))
    assert not torch.allclose(logits[0] / features[0].norm(), model(images(backbone).flip(0))[0])


def kept(model, features):
    """(bytes kept for the backward pass behind the forward one, most of them at any time until the end of the backward pass)"""
    now, most, alive = 0, 0, {}

    def gone(key, size):
        nonlocal now
        now -= size
        alive.pop(key, None)

    def pack(tensor):
        nonlocal now, most
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in alive and not isinstance(tensor, torch.nn.Parameter):
            alive[storage.data_ptr()] = True
            now += storage.nbytes()
            most = max(most, now)
            holder = _Holder(tensor)
            weakref.finalize(holder, gone, storage.data_ptr(), storage.nbytes())
            return holder
        return tensor

    with saved_tensors_hooks(pack, lambda packed: packed.tensor if isinstance(packed, _Holder) else packed):
        logits = model.classify(features)
        behind = now
        logits.square().mean().backward()
    del logits
    gc.collect()
    return behind, most


class _Holder:
    def __init__(self, tensor):
        self.tensor = tensor


def test_what_is_kept_does_not_grow_with_images_times_classes(make_clip, monkeypatch):
    backbone = make_clip("vit")
    model = ConditionalClassifier(backbone, ContextPrompts(backbone, NAMES * 2, init="a photo of a"))
    features = backbone.image_features(images(backbone, 32)).detach()
    monkeypatch.setattr(clip, "CHUNK", 16)  # two images of eight classes
    _, of_a_chunk = kept(model, features[:2])
    _, of_two = kept(model, features[:4])
    behind, of_sixteen = kept(model, features)
    sentences = features.shape[0] * len(NAMES) * 2 * model.prompts.embeddings[0].numel() * 4
    assert of_a_chunk > 20_000
    # A further chunk adds features and logits, not embedded sentences or what the text tower does with them
    assert behind < sentences / 4 and of_sixteen - of_two < 14 * 0.05 * of_a_chunk
    monkeypatch.setattr(clip, "CHUNK", 10_000)
    assert kept(model, features)[1] > 10 * of_a_chunk, "the count sees what one pass over all would keep"


def test_text_features_are_computed_once_until_the_prompts_change(make_clip, monkeypatch):
    backbone = make_clip("vit")
    model, passes = TextPromptedClassifier(backbone, ContextPrompts(backbone, NAMES, 3)), []
    original = backbone.prompted_text_features
    monkeypatch.setattr(backbone, "prompted_text_features", lambda *args: passes.append(1) or original(*args))
    optimizer = torch.optim.SGD([model.prompts.context], lr=0.1)
    with torch.no_grad():
        first = model(images(backbone))
        model(images(backbone))
    assert len(passes) == 1
    model(images(backbone)).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        second = model(images(backbone))
        model(images(backbone))
    assert len(passes) == 3 and not torch.equal(first, second)
    model.prompts.load_state_dict({"context": torch.zeros_like(model.prompts.context)})
    with torch.no_grad():
        assert not torch.equal(model(images(backbone)), second)
        model.prompts.context.data = torch.ones_like(model.prompts.context)
        model(images(backbone))
    assert len(passes) == 5


def test_zero_shot_averages_over_templates(tiny_clip):
    sentences = [[fill_in(template, name) for template in ENSEMBLE] for name in NAMES]
    classifier = FixedClassifier(tiny_clip, sentences)
    slow = [F.normalize(torch.stack([tiny_clip.text_features([s])[0] for s in of]).mean(0), dim=0) for of in sentences]
    expected = tiny_clip.scale * tiny_clip.image_features(images(tiny_clip)) @ torch.stack(slow).T
    assert torch.allclose(classifier(images(tiny_clip)), expected, atol=1e-4) and not classifier.state_dict().keys() & {
        "text_features"
    }


def test_a_thousand_classes_go_through_the_text_tower_in_chunks(make_clip, monkeypatch):
    backbone, sizes = make_clip("vit"), []
    original = backbone.adapter.encode_text
    monkeypatch.setattr(backbone.adapter, "encode_text", lambda model, tokens: sizes.append(len(tokens)) or original(model, tokens))
    FixedClassifier(backbone, [[f"class {i}"] for i in range(1000)])
    assert sizes == [256, 256, 256, 232]


@pytest.mark.parametrize("precision, inside", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision(make_clip, precision, inside):
    backbone, seen = make_clip("vit", precision), []
    for block in (*backbone.text_blocks, *backbone.tokens.blocks):
        block.mlp.c_fc.register_forward_hook(lambda layer, arguments, out: seen.append(out.dtype))
    model = MultimodalClassifier(backbone, ContextPrompts(backbone, NAMES, 2), depth=2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "fp32"):  # an owner's autocast does not reach in
        features = backbone.features(images(backbone)), model.text_features()
    logits = model(images(backbone))
    logits.square().mean().backward()
    assert set(seen) == {inside} and {f.dtype for f in features} == {logits.dtype} == {torch.float32}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in trained)
