import random

import numpy as np
import torch

from dassl_vr.data.augment_rng import SampleKeys, derive_seed, generators, hash64, integers, seeded_generators, uniform


def keys(index, **other):
    return SampleKeys(**{"seed": 1, "epoch": 2, "index": np.asarray(index), **other})


def test_values_are_the_same_in_all_versions_and_on_all_machines():
    assert derive_seed("a", 1) == 12444202034427101082
    assert hash64(keys([0, 7]), "x").tolist() == [145659418831780941, 622416357301925340]


def test_a_sample_draws_the_same_in_any_company():
    together = uniform(keys(range(50)), "flip")
    assert uniform(keys([31]), "flip")[0] == together[31]
    assert np.array_equal(uniform(keys(range(49, -1, -1)), "flip"), together[::-1])


def test_every_part_of_the_key_matters():
    draws = [
        tuple(hash64(keys(range(4), **other), purpose))
        for other, purpose in [
            ({}, "a"),
            ({}, "b"),
            ({"seed": 2}, "a"),
            ({"epoch": 3}, "a"),
            ({"repetition": 1}, "a"),
            ({"stream": 1}, "a"),
        ]
    ]
    assert len({value for draw in draws for value in draw}) == 6 * 4


def test_draws_are_uniform_and_uncorrelated_from_sample_to_sample_and_epoch_to_epoch():
    count = 20000
    draws = integers(keys(range(count)), "crop", 33)
    expected = count / 33
    chi_square = ((np.bincount(draws, minlength=33) - expected) ** 2 / expected).sum()
    assert draws.min() == 0 and draws.max() == 32
    assert chi_square < 70  # 32 degrees of freedom: above it once in ten thousand
    this, other = uniform(keys(range(count)), "x"), uniform(keys(range(count), epoch=3), "x")
    for a, b in ((this[1:], this[:-1]), (this, other)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_generators_belong_to_samples():
    first, second = (torch.rand(3, generator=g) for g in generators(keys([5, 6]), "noise"))
    (again,) = (torch.rand(3, generator=g) for g in generators(keys([6]), "noise"))
    assert torch.equal(second, again) and not torch.equal(first, second)


def draw_of_each():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_seeded_generators_leave_no_trace():
    for module_seed in (random.seed, np.random.seed, torch.manual_seed):
        module_seed(0)
    expected = [draw_of_each() for _ in range(2)]
    for module_seed in (random.seed, np.random.seed, torch.manual_seed):
        module_seed(0)
    got = [draw_of_each()]
    try:
        with seeded_generators(2**64 - 1):
            inside = draw_of_each()
            raise KeyError
    except KeyError:
        got.append(draw_of_each())
    with seeded_generators(2**64 - 1):
        assert draw_of_each() == inside
    assert got == expected
