"""AutoVP's maps, and the mappings that read sentences, each against its definition written out."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.reprogramming import Flm
from dassl_vr.reprogramming.assignment import greedy_assignment, greedy_sets, most_similar_sets
from dassl_vr.reprogramming.mappings import Words
from dassl_vr.reprogramming.mappings.described import AttrVr, Described, Reparameterized, Reweighted
from dassl_vr.reprogramming.mappings.k_to_one import FrequencyMap, SemanticMap


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------------ AutoVP's maps
def sets_slowly(counts, each):
    """The largest count is taken, the first in row-major order of equal ones, while its row is free and its column has room."""
    table, sets, used = counts.clone().double(), [[] for _ in range(counts.shape[1])], set()
    while any(len(one) < each for one in sets):
        source, target = divmod(int(table.argmax()), counts.shape[1])
        table[source, target] = -1
        if source not in used and len(sets[target]) < each:
            sets[target].append(source)
            used.add(source)
    return torch.tensor(sets)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("each, high", [(1, 3), (3, 2), (3, 50), (5, 4)])
def test_greedy_sets_equal_the_slow_obvious_ones(seed, each, high):
    counts = torch.randint(0, high, (30, 6), generator=generator(seed))
    assert torch.equal(greedy_sets(counts, each), sets_slowly(counts, each))
    if each == 1:
        assert torch.equal(greedy_sets(counts, 1)[:, 0], greedy_assignment(counts))


def test_the_frequency_map_takes_the_mean_of_its_sources():
    logits, labels = torch.randn(40, 12, generator=generator()), torch.arange(40) % 3
    mapping = FrequencyMap(12, 3, 4)
    with pytest.raises(RuntimeError, match="was not computed"):
        mapping(logits)
    mapping.reset()
    mapping.observe(logits, labels)
    mapping.update()
    assert sorted(mapping.source_index.flatten().tolist()) == list(range(12))
    for target, sources in enumerate(mapping.source_index.tolist()):
        torch.testing.assert_close(mapping(logits)[:, target], logits[:, sources].mean(1))
    assert [edge[:2] for edge in mapping.edges(2)[:2]] == [(0, int(source)) for source in mapping.source_index[0, :2]]
    other = FrequencyMap(12, 3, 4)
    other.load_state_dict(mapping.state_dict())
    assert torch.equal(other(logits), mapping(logits))


def test_one_source_each_is_the_frequent_label_mapping():
    logits, labels = torch.randn(40, 12, generator=generator()), torch.arange(40) % 3
    results = []
    for mapping in (FrequencyMap(12, 3, 1), Flm(12, 3)):
        mapping.reset()
        mapping.observe(logits, labels)
        mapping.update()
        results.append(mapping(logits))
    assert torch.equal(*results)


@pytest.mark.parametrize("each", [0, 5])
def test_an_impossible_number_of_sources(each):
    with pytest.raises(ValueError, match=f"{each} source classes for each of 3 target classes: expected 1 to 4 of the 12"):
        FrequencyMap(12, 3, each)


def test_the_most_similar_names_are_taken_in_turns():
    similarity = torch.tensor([[0.9, 0.8, 0.1, 0.5], [0.95, 0.7, 0.2, 0.6]])
    assert most_similar_sets(similarity, 2).tolist() == [[0, 3], [1, 2]]
    assert most_similar_sets(similarity, 1).tolist() == [[0], [1]]


def words(classnames=(), sources=(), encode=None, banks=()):
    return Words(classnames, sources, encode, lambda: [*banks])


def test_the_semantic_map_compares_names():
    features = {"tom cat": [1.0, 0.0], "dog": [0.0, 1.0], "lion": [0.9, 0.1], "wolf": [0.1, 0.9], "car": [-1.0, 0.0]}
    mapping = SemanticMap(3, 2)
    with pytest.raises(RuntimeError, match="SemanticMap: call prepare"):
        mapping(torch.zeros(1, 3))
    mapping.prepare(words(["tom_cat", "dog"], ["car", "wolf", "lion"], lambda names: torch.tensor([features[n] for n in names])))
    assert mapping(torch.tensor([[0.0, 1.0, 2.0]])).tolist() == [[2.0, 1.0]]


# ---------------------------------------------------------------------------------------------------------------- sentences
C, M, D = 4, 5, 8


def bank(name):
    return [[f"{name} {c} {m}" for m in range(M)] for c in range(C)]


def encode(sentences):
    """Features that depend on the sentence alone."""
    rows = [torch.randn(D, generator=generator(sum(map(ord, s)) * 31 + ord(s[0]))) for s in sentences]
    return F.normalize(torch.stack(rows), dim=-1)


def prepared(cls, *arguments, banks=2):
    mapping = cls(D, C, M, banks, *arguments)
    mapping.prepare(words([*"abcd"], encode=encode, banks=[bank("des"), bank("other")][:banks]))
    return mapping


def image_features(batch=6):
    return 20 * F.normalize(torch.randn(batch, D, generator=generator(7)), dim=-1)


def sentence_logits(x, name):
    return torch.stack([x @ encode(bank(name)[c]).T for c in range(C)], dim=1)  # (B, C, M)


@pytest.mark.parametrize("nearest, balance", [(3, 0.5), (1, 0.2), (5, 1.0)])
def test_attrvr_is_the_balanced_mean_of_the_nearest_sentences(nearest, balance):
    x = image_features()
    expected = 0
    for name, weight in (("des", balance), ("other", 1 - balance)):
        ordered = sentence_logits(x, name).sort(dim=-1, descending=True).values
        expected = expected + weight * ordered[..., :nearest].mean(dim=-1)
    torch.testing.assert_close(prepared(AttrVr, nearest, balance)(x), expected)
    one = prepared(AttrVr, nearest, balance, banks=1)(x)
    torch.testing.assert_close(one, sentence_logits(x, "des").topk(nearest, dim=-1).values.mean(-1))


def test_rvp_folded_is_rvp_unfolded():
    mapping, x = prepared(Reparameterized), image_features()
    mapping.P.data.normal_(generator=generator(1))
    mapping.E.data.normal_(generator=generator(2))
    logits = torch.cat([sentence_logits(x, "des"), sentence_logits(x, "other")], dim=-1)  # (B, C, 2 M)
    classes = (logits * mapping.P.softmax(dim=1)).sum(-1)
    expected = classes @ (torch.eye(C) + mapping.E)
    torch.testing.assert_close(mapping.train()(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mapping.eval()(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x @ mapping.head(), expected, atol=1e-5, rtol=1e-5)
    assert mapping.head().shape == (D, C)


def test_rvp_starts_as_the_mean_of_the_sentences():
    x = image_features()
    logits = torch.cat([sentence_logits(x, "des"), sentence_logits(x, "other")], dim=-1)
    torch.testing.assert_close(prepared(Reparameterized)(x), logits.mean(-1))


@pytest.mark.parametrize(("banks", "nearest"), [(1, 3), (2, 4), (2, 1)])
def test_dvp_weighs_a_class_s_sentences_by_how_often_they_are_near(banks, nearest):
    x, labels = image_features(40), torch.arange(40) % (C - 1)  # the last class has no image
    logits = torch.cat([sentence_logits(x, name) for name in ("des", "other")[:banks]], dim=-1)  # (B, C, M)
    counts = torch.zeros(C, banks * M)
    for image, label in zip(logits, labels.tolist()):
        for sentence in image[label].argsort(descending=True)[:nearest].tolist():
            counts[label, sentence] += 1
    mapping = prepared(Reweighted, nearest, banks=banks)
    with pytest.raises(RuntimeError, match="was not computed"):
        mapping(x)
    mapping.reset()
    mapping.observe(x[:25], labels[:25])
    halves = [mapping.observed["counts"]]
    mapping.reset()
    mapping.observe(x[25:], labels[25:])
    mapping.load_observed({"counts": mapping.observed["counts"] + halves[0]})  # as of two processes
    mapping.update()
    counts[-1] = 1
    expected = (logits * (counts / counts.sum(dim=1, keepdim=True))).sum(dim=-1)
    torch.testing.assert_close(mapping(x), expected)
    assert mapping.refresh == "epoch" and not mapping.observed
    other = Reweighted(D, C, M, banks, nearest)
    other.load_state_dict(mapping.state_dict())
    assert torch.equal(other(x), mapping(x))


@pytest.mark.parametrize("cls", [AttrVr, Reparameterized])
def test_the_state_holds_what_the_sentences_say(cls):
    mapping, x = prepared(cls), image_features()
    other = cls(D, C, M, 2)
    with pytest.raises(RuntimeError, match=rf"{cls.__name__}: call prepare"):
        other(x)
    other.load_state_dict(mapping.state_dict())
    assert torch.equal(other(x), mapping(x))


def test_impossible_sentences():
    with pytest.raises(ValueError, match="NEAREST is 6, expected 1 to 5"):
        AttrVr(D, C, M, 2, 6)
    with pytest.raises(ValueError, match="NEAREST is 11, expected 1 to 10, the number of sentences per class"):
        Reweighted(D, C, M, 2, 11)
    with pytest.raises(ValueError, match="BALANCE is 1.5"):
        AttrVr(D, C, M, 2, 3, 1.5)
    with pytest.raises(ValueError, match="change SENTENCES"):
        Described(D, C, 0)
    with pytest.raises(ValueError, match="expected 2 banks with 5 sentences for each of 4 classes"):
        AttrVr(D, C, M, 2).prepare(words([*"abcd"], encode=encode, banks=[bank("des")]))
