import random
from collections import Counter

import pytest

from dassl_vr.data import Datum
from dassl_vr.data.samplers import SAMPLER_REGISTRY, build_sampler
from dassl_vr.utils.errors import ConfigError

ITEMS = [Datum(f"{n}", label=n % 5, domain=n % 3) for n in range(60)]


@pytest.mark.parametrize("name", SAMPLER_REGISTRY.registered_names())
def test_order_is_a_function_of_seed_and_epoch(make_cfg, name):
    def orders(cfg, epochs, stream=0):
        sampler = build_sampler(name, cfg, ITEMS, batch_size=12, n_domain=3, n_ins=4, stream=stream)
        result = []
        for epoch in epochs:
            random.random()
            sampler.set_epoch(epoch)
            result.append(list(sampler))
            assert len(sampler) == len(result[-1])
        return result

    first, second, again = orders(make_cfg(), [0, 1, 0])
    assert first == again == orders(make_cfg(), [0])[0]
    shuffled = name != "SequentialSampler"
    assert (first != second) == shuffled
    assert (first != orders(make_cfg("SEED", 4), [0])[0]) == shuffled
    assert (first != orders(make_cfg(), [0], stream=1)[0]) == shuffled


def test_random_and_sequential_give_everything_once(make_cfg):
    assert list(build_sampler("SequentialSampler", make_cfg(), ITEMS)) == list(range(60))
    assert sorted(build_sampler("RandomSampler", make_cfg(), ITEMS)) == list(range(60))


@pytest.mark.parametrize("name, n_domain, domains", [("RandomDomainSampler", 2, 2), ("SeqDomainSampler", 0, 3)])
def test_domain_samplers_fill_batches_evenly_without_repeating(make_cfg, name, n_domain, domains):
    order = list(build_sampler(name, make_cfg(), ITEMS, batch_size=12, n_domain=n_domain))
    assert len(order) == len(set(order)) and len(order) % 12 == 0 and len(order) >= 24
    for start in range(0, len(order), 12):
        counts = Counter(ITEMS[index].domain for index in order[start : start + 12])
        assert set(counts.values()) == {12 // domains} and len(counts) == domains


def test_class_sampler_fills_batches_with_whole_groups(make_cfg):
    order = list(build_sampler("RandomClassSampler", make_cfg(), ITEMS, batch_size=12, n_ins=4))
    assert len(order) == len(set(order))
    for start in range(0, len(order), 12):
        counts = Counter(ITEMS[index].label for index in order[start : start + 12])
        assert set(counts.values()) == {4} and len(counts) == 3


def test_class_sampler_repeats_images_of_a_small_class(make_cfg):
    items = [Datum("a", 0), *(Datum(f"{n}", 1) for n in range(8))]
    order = list(build_sampler("RandomClassSampler", make_cfg(), items, batch_size=8, n_ins=4))
    assert order.count(0) == 4


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("RandomSampla", {}, "did you mean 'RandomSampler'"),
        ("SeqDomainSampler", {"batch_size": 10}, "not a multiple of 3 domains"),
        ("RandomDomainSampler", {"batch_size": 8, "n_domain": 4}, r"holds 3 domain\(s\)"),
        ("SeqDomainSampler", {"batch_size": 300}, "has 20 image"),
        ("RandomClassSampler", {"batch_size": 24, "n_ins": 4}, "asks for 6 classes"),
        ("RandomClassSampler", {"batch_size": 2, "n_ins": 4}, "asks for 0 classes"),
    ],
)
def test_impossible_samplers_are_one_line(make_cfg, name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_sampler(name, make_cfg(), ITEMS, **options)
