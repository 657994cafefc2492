"""Which samples make a batch, and which of them are whose."""

import pytest

from dassl_vr.data.batches import DROP, KEEP, MERGE, BatchSampler
from dassl_vr.data.samplers import build_sampler


def parts(number, size, last_of_one, drop_last=False, first=0, in_step=True):
    sampler = BatchSampler(range(number), size, drop_last, in_step, last_of_one)
    sampler.first = first
    found = sampler.parts()
    assert len(sampler) == len(found) + first and (not in_step or first or sampler.total() == sum(map(len, found)))
    return [list(part) for part in found]


@pytest.mark.parametrize(
    ("number", "size", "last_of_one", "lengths"),
    [
        (65, 32, KEEP, [32, 32, 1]),
        (65, 32, MERGE, [32, 33]),
        (65, 32, DROP, [32, 32]),
        *[(66, 32, how, [32, 32, 2]) for how in (KEEP, MERGE, DROP)],
        *[(64, 32, how, [32, 32]) for how in (KEEP, MERGE, DROP)],
        *[(1, 32, how, [1]) for how in (KEEP, MERGE, DROP)],  # the only one
        *[(3, 1, how, [1, 1, 1]) for how in (KEEP, MERGE, DROP)],  # as asked for
        (3, 2, MERGE, [3]),
        (3, 2, DROP, [2]),
        *[(0, 2, how, []) for how in (KEEP, MERGE, DROP)],
    ],
)
def test_a_last_batch_of_one(number, size, last_of_one, lengths):
    found = parts(number, size, last_of_one)
    assert list(map(len, found)) == lengths
    assert [index for part in found for index in part] == list(range(sum(lengths))), "in order, none twice"


def test_it_continues_at_the_merged_batch():
    assert parts(65, 32, MERGE, first=1) == [list(range(32, 65))] and parts(65, 32, MERGE, first=2) == []
    assert parts(65, 32, MERGE, drop_last=True) == parts(64, 32, KEEP)


@pytest.mark.parametrize("last_of_one", [KEEP, MERGE, DROP])
def test_several_processes_have_the_batches_of_one(monkeypatch, last_of_one):
    alone = parts(65, 32, last_of_one)
    monkeypatch.setattr("dassl_vr.utils.distributed.world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("dassl_vr.utils.distributed.rank", lambda rank=rank: rank)
        sampler = BatchSampler(range(65), 32, False, True, last_of_one)
        found = sampler.parts()
        assert len(sampler) == len(found) == len(alone), "all take the same steps"
        shares.append([list(part)[: part.real] for part in found])
    assert [sorted(first + second) for first, second in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("last_of_one", [KEEP, MERGE, DROP])
def test_a_sampler_whose_order_has_another_length_in_each_epoch(make_cfg, array_items, last_of_one):
    sampler = build_sampler("RandomClassSampler", make_cfg(), array_items, batch_size=4, n_ins=2)
    batches = BatchSampler(sampler, 3, False, True, last_of_one)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        assert len(batches.parts()) == len(batches)
