"""Each label mapping against a slow, obvious version."""

import time

import pytest
import torch

from dassl_vr.reprogramming import (
    MAPPING_REGISTRY,
    Blm,
    BlmPlus,
    Flm,
    Ilm,
    LabelMapping,
    LinearMapping,
    Rlm,
    bayesian_weights,
    greedy_assignment,
)
from dassl_vr.reprogramming.mappings import LABELS, Words

MAPPINGS = {name: MAPPING_REGISTRY.get(name) for name in MAPPING_REGISTRY.registered_names()}
MAPPINGS = {name: mapping for name, mapping in MAPPINGS.items() if mapping.reads == LABELS}


def greedy_slowly(counts):
    table = [list(row) for row in counts.tolist()]
    num_source, num_target = counts.shape
    free_sources, free_targets = list(range(num_source)), list(range(num_target))
    assigned = [None] * num_target
    while free_targets:
        best = None
        for s in free_sources:
            for t in free_targets:
                if best is None or table[s][t] > table[best[0]][best[1]]:
                    best = (s, t)
        assigned[best[1]] = best[0]
        free_sources.remove(best[0])
        free_targets.remove(best[1])
    return torch.tensor(assigned)


def weights_slowly(counts, smoothing):
    num_source, num_target = counts.shape
    weights = torch.zeros(num_source, num_target, dtype=torch.float64)
    for s in range(num_source):
        row = sum(counts[s, t].item() for t in range(num_target))
        for t in range(num_target):
            weights[s, t] = counts[s, t].item() / (row + smoothing) if row + smoothing else 0.0
    for t in range(num_target):
        total = sum(weights[s, t].item() for s in range(num_source))
        for s in range(num_source):
            weights[s, t] = weights[s, t] / total if total else 1 / num_source
    return weights


def random_counts(seed, num_source, num_target, high):
    return torch.randint(0, high, (num_source, num_target), generator=torch.Generator().manual_seed(seed))


def one_row_has_it_all(num_source, num_target):
    counts = torch.zeros(num_source, num_target, dtype=torch.int64)
    counts[3] = torch.arange(num_target)
    return counts


MATRICES = {
    **{f"random {seed}": random_counts(seed, 17, 9, 50) for seed in range(5)},
    **{f"many ties {seed}": random_counts(seed, 12, 12, 3) for seed in range(5)},
    "mostly zero": (random_counts(0, 30, 10, 100) > 95).long() * 7,
    "empty classes": random_counts(1, 14, 7, 9) * torch.tensor([1, 0, 1, 0, 0, 1, 1]),
    "nothing seen": torch.zeros(8, 5, dtype=torch.int64),
    "all equal": torch.full((9, 6), 4),
    "one class": random_counts(2, 11, 1, 5),
    "one of each": torch.tensor([[3]]),
    "every sample in one source": one_row_has_it_all(10, 6),
    "real numbers": torch.rand(13, 8, generator=torch.Generator().manual_seed(5)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_greedy_assignment_equals_the_loop(name):
    counts = MATRICES[name]
    assigned = greedy_assignment(counts)
    assert assigned.dtype == torch.int64
    assert torch.equal(assigned, greedy_slowly(counts))
    assert len(set(assigned.tolist())) == counts.shape[1]


def test_greedy_assignment_over_several_chunks_of_its_walk():
    counts = random_counts(7, 120, 6, 4)  # 540 entries above zero, many equal
    counts[5] += 10  # which all ask for the same source first
    assert torch.equal(greedy_assignment(counts), greedy_slowly(counts))


@pytest.mark.parametrize("num_source", [1000, 21_000])
def test_greedy_assignment_is_fast(num_source):
    samples = torch.randint(0, num_source * 397, (20_000,), generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(samples, minlength=num_source * 397).view(num_source, 397)
    begin = time.perf_counter()
    greedy_assignment(counts)
    assert time.perf_counter() - begin < 3


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="negative"):
        greedy_assignment(torch.tensor([[1, -1], [0, 2]]))


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("smoothing", [0.0, 1.0, 5.0])
def test_bayesian_weights_equal_the_formula(name, smoothing):
    counts = MATRICES[name]
    weights = bayesian_weights(counts, smoothing)
    assert torch.allclose(weights.double(), weights_slowly(counts, smoothing), atol=1e-7)
    assert torch.allclose(weights.sum(0), torch.ones(counts.shape[1]))


def batches(num_source, num_target, seed=0, sizes=(8, 8, 3)):
    generator = torch.Generator().manual_seed(seed)
    for size in sizes:
        yield (
            2 * torch.randn(size, num_source, generator=generator),
            torch.randint(0, num_target, (size,), generator=generator),
        )


def counted_slowly(num_source, num_target):
    counts = torch.zeros(num_source, num_target, dtype=torch.int64)
    for logits, labels in batches(num_source, num_target):
        for row, label in zip(logits.tolist(), labels.tolist()):
            counts[row.index(max(row)), label] += 1
    return counts


def fitted(mapping):
    names = [
        [f"{kind} {n}" for n in range(number)] for kind, number in (("target", mapping.num_target), ("source", mapping.num_source))
    ]
    mapping.prepare(Words(*names, lambda texts: torch.randn(len(texts), 4, generator=torch.Generator().manual_seed(0)), list))
    mapping.reset()
    for logits, labels in batches(mapping.num_source, mapping.num_target):
        mapping.observe(logits, labels)
    mapping.update()
    return mapping


@pytest.mark.parametrize("cls", [Flm, Ilm])
@pytest.mark.parametrize("num_source, num_target", [(20, 6), (6, 6), (9, 1)])
def test_frequent_mappings_are_the_greedy_assignment_on_the_counts(cls, num_source, num_target):
    mapping = fitted(cls(num_source, num_target))
    expected = greedy_slowly(counted_slowly(num_source, num_target))
    assert torch.equal(mapping.source_index, expected)
    logits = torch.randn(5, num_source)
    assert torch.equal(mapping(logits), torch.stack([logits[:, s] for s in expected.tolist()], dim=1))
    assert mapping.edges() == [(target, source, 1.0) for target, source in enumerate(expected.tolist())]


@pytest.mark.parametrize("num_source, num_target", [(20, 6), (6, 6), (9, 1)])
def test_blm_weighs_the_source_logits(num_source, num_target):
    mapping = fitted(Blm(num_source, num_target))
    weights = weights_slowly(counted_slowly(num_source, num_target), 1.0).float()
    logits = torch.randn(5, num_source)
    assert torch.allclose(mapping.weights, weights, atol=1e-7)
    assert torch.allclose(mapping(logits), logits @ weights, atol=1e-6)
    assert [source for _, source, _ in mapping.edges()] == mapping.weights.argmax(0).tolist()
    for target, source, share in mapping.edges(most=3):
        assert share == pytest.approx(float(weights[source, target]), abs=1e-6)
    assert len(mapping.edges(most=3)) == 3 * num_target


@pytest.mark.parametrize("num_source, num_target, top_k", [(50, 40, 6), (20, 13, 1), (20, 14, 2), (9, 1, 1)])
def test_blm_plus_sums_the_top_probabilities(num_source, num_target, top_k):
    sums = torch.zeros(num_source, num_target, dtype=torch.float64)
    for logits, labels in batches(num_source, num_target):
        for row, label in zip(logits.double().softmax(1).tolist(), labels.tolist()):
            for source in sorted(range(num_source), key=lambda s: -row[s])[:top_k]:
                sums[source, label] += row[source]
    mapping = fitted(BlmPlus(num_source, num_target))
    assert mapping.top_k == top_k
    assert torch.allclose(mapping.weights.double(), weights_slowly(sums, 1.0), atol=1e-7)


def test_a_second_pass_forgets_the_first():
    mapping = fitted(Ilm(20, 6))
    once = mapping.source_index.clone()
    assert torch.equal(fitted(mapping).source_index, once)
    assert mapping.counts is None


def test_rlm_is_an_injective_map_of_the_seed():
    mapping = Rlm(1000, 50, seed=3)
    assert len(set(mapping.source_index.tolist())) == 50
    assert torch.equal(mapping.source_index, Rlm(1000, 50, seed=3).source_index)
    assert not torch.equal(mapping.source_index, Rlm(1000, 50, seed=4).source_index)
    before = torch.random.get_rng_state()
    Rlm(10, 5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_linear_mapping_is_trainable_and_may_have_more_targets():
    mapping = LinearMapping(4, 7)
    assert mapping(torch.randn(2, 4)).shape == (2, 7)
    assert sum(p.numel() for p in mapping.parameters()) == 4 * 7 + 7
    assert [target for target, *_ in mapping.edges()] == list(range(7))


@pytest.mark.parametrize("name", MAPPINGS)
def test_state_has_a_fixed_shape_and_restores_the_mapping(name):
    fresh, mapping = MAPPINGS[name](30, 8), fitted(MAPPINGS[name](30, 8))
    mapping.reset()  # in the middle of a pass the state must not grow
    shapes = {key: value.shape for key, value in fresh.state_dict().items()}
    assert {key: value.shape for key, value in mapping.state_dict().items()} == shapes
    fresh.load_state_dict(mapping.state_dict())
    logits = torch.randn(5, 30)
    assert torch.equal(fresh(logits), mapping(logits))


@pytest.mark.parametrize(
    "name, refresh",
    [("rlm", "never"), ("flm", "start"), ("ilm", "epoch"), ("blm", "epoch"), ("blm+", "epoch"), ("linear", "never")],
)
def test_when_each_is_recomputed(name, refresh):
    assert MAPPINGS[name].refresh == refresh


@pytest.mark.parametrize("name", sorted(set(MAPPINGS) - {"linear"}))
def test_too_few_source_classes_are_refused(name):
    with pytest.raises(ValueError, match="11 target classes for 10 source classes"):
        MAPPINGS[name](10, 11)


@pytest.mark.parametrize("name", sorted(set(MAPPINGS) - {"linear", "rlm", "semantic"}))
def test_statistics_out_of_turn_are_refused(name):
    with pytest.raises(RuntimeError, match="before reset"):
        MAPPINGS[name](10, 5).observe(torch.randn(2, 10), torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="before reset"):
        MAPPINGS[name](10, 5).update()


@pytest.mark.parametrize("name", MAPPINGS)
def test_gradients_reach_the_source_logits(name):
    logits = torch.randn(3, 30, requires_grad=True)
    fitted(MAPPINGS[name](30, 8))(logits).sum().backward()
    assert logits.grad.abs().sum() > 0


def test_a_state_of_another_mapping_is_refused():
    mapping = Ilm(5, 3)
    for index in ([0, 1, 5], [-1, 0, 1]):
        with pytest.raises(RuntimeError, match="source_index"):
            mapping.load_state_dict({"source_index": torch.tensor(index)})
    assert mapping.source_index.tolist() == [-1, -1, -1]
    good = torch.ones(5, 3, dtype=torch.int64)
    for counts in (5, torch.ones(()), good.double(), good[:, :2], -good):
        with pytest.raises(ValueError, match="counts"):
            mapping.load_observed({"counts": counts})
    mapping.load_observed({"counts": good})
    assert torch.equal(mapping.observed["counts"], good)


@pytest.mark.parametrize("name", ["flm", "ilm", "blm", "blm+"])
def test_a_mapping_that_was_not_computed_says_what_to_call(name):
    mapping = MAPPINGS[name](30, 8)
    for unready in (mapping, MAPPINGS[name](30, 8)):
        with pytest.raises(RuntimeError, match=r"reset\(\), observe\(logits, labels\).*update\(\)"):
            unready(torch.randn(5, 30))
        unready.load_state_dict(mapping.state_dict())  # of one that was not computed either
    mapping.load_state_dict(fitted(MAPPINGS[name](30, 8)).state_dict())
    assert mapping(torch.randn(5, 30)).shape == (5, 8)


def test_a_mapping_of_forward_alone_has_working_defaults():
    class Sums(LabelMapping):
        def forward(self, logits):
            return logits[:, : self.num_target]

    mapping = fitted(Sums.from_cfg(None, 30, 8))
    assert mapping(torch.ones(2, 30)).shape == (2, 8) and mapping.edges() == [] and mapping.observed == {}
    assert mapping.refresh == "never" and not mapping.takes_new_classes


def test_a_mapping_that_observes_is_computed_before_each_epoch_unless_it_says_otherwise():
    class Observing(LabelMapping):
        def observe(self, logits, labels):
            pass

    class Once(Observing):
        refresh = "start"

    assert (Observing.refresh, Once.refresh) == ("epoch", "start")
