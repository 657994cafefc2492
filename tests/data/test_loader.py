import gc
import random
import time

import numpy as np
import pytest
import torch

from dassl_vr.data import DatasetWrapper, Datum, build_transform
from dassl_vr.utils.errors import DataError

from .conftest import FAMILY, VR, ForeignWrapper, assert_same, loader_of, pictures_of


@pytest.mark.parametrize("names, wrapper", [(VR, DatasetWrapper), (FAMILY, DatasetWrapper), (FAMILY, ForeignWrapper)])
def test_pictures_do_not_depend_on_workers_order_or_history(make_cfg, image_items, names, wrapper):
    cfg = make_cfg("INPUT.TRANSFORMS", names)
    reference = [pictures_of(loader_of(cfg, image_items, wrapper=wrapper), epoch) for epoch in (0, 1)]
    assert not torch.equal(reference[0][0], reference[1][0])
    for num_workers in (1, 2):
        loader = loader_of(cfg, image_items, num_workers, wrapper)  # the workers stay from epoch to epoch
        for epoch in (1, 0):
            assert_same(pictures_of(loader, epoch), reference[epoch])
    sequential = loader_of(cfg, image_items, wrapper=wrapper, sampler="SequentialSampler")
    next(iter(sequential))  # an epoch given up half-way leaves nothing behind
    torch.manual_seed(99)
    assert_same(pictures_of(sequential, 1), reference[1])
    assert not torch.equal(pictures_of(loader_of(make_cfg("SEED", 4, "INPUT.TRANSFORMS", names), image_items), 0)[0],
                           reference[0][0])  # fmt: skip


@pytest.mark.parametrize("names", [VR, FAMILY])
def test_an_item_of_the_wrapper_is_what_the_loader_gives(make_cfg, image_items, names):
    loader = loader_of(make_cfg("INPUT.TRANSFORMS", names), image_items)
    pictures = pictures_of(loader, 2)
    for n in (0, 7, 21):
        item = loader.dataset[n]
        torch.testing.assert_close(item["img"], pictures[n], rtol=0, atol=0)
        assert (item["index"], item["label"], item["impath"]) == (n, n % 2, image_items[n].impath)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_iterating_moves_no_global_generator(make_cfg, image_items, num_workers):
    loader = loader_of(make_cfg("INPUT.TRANSFORMS", FAMILY), image_items, num_workers)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(()).item()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    list(loader)
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == expected


def test_batches(make_cfg, image_items):
    loader = loader_of(make_cfg("INPUT.TRANSFORMS", VR), image_items)
    batches = list(loader)
    assert len(loader) == len(batches) == 5 and loader.batch_size == 5 and len(loader.dataset) == 22
    first = batches[0]
    assert first["img"].shape == (5, 3, 32, 32) and first["img"].dtype == torch.float32
    assert first["label"].tolist() == [n % 2 for n in first["index"].tolist()]
    assert first["impath"] == [image_items[n].impath for n in first["index"].tolist()]
    assert first["domain"].tolist() == [0] * 5


@pytest.mark.parametrize("names", [VR, FAMILY])
def test_several_transforms_and_repetitions(make_cfg, image_items, names):
    once = make_cfg("INPUT.TRANSFORMS", names)
    cfg = make_cfg("INPUT.TRANSFORMS", names, "DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True)
    transforms = [build_transform(cfg), build_transform(cfg)]
    loader = loader_of(cfg, image_items, transform=transforms)
    batch = next(iter(loader))
    assert isinstance(batch["img"], list) and len(batch["img"]) == len(batch["img2"]) == 2
    versions = [*batch["img"], *batch["img2"]]
    for n, one in enumerate(versions):
        assert all(not torch.equal(one, other) for other in versions[:n])
    # the first of several is the only one of one
    assert torch.equal(next(iter(loader_of(once, image_items)))["img"], versions[0])
    plain = build_transform(make_cfg("INPUT.TRANSFORMS", ("vr_squash", "normalize")), is_train=False)
    first = image_items[int(batch["index"][0])]
    assert torch.equal(batch["img0"][0], plain(first.read()))
    item = loader.dataset[int(batch["index"][0])]
    assert torch.equal(item["img2"][1], batch["img2"][1][0]) and torch.equal(item["img0"], batch["img0"][0])


def test_any_callable_is_a_transform(make_cfg, image_items):
    def white(img):
        return torch.full((3, 4, 4), torch.rand(()).item())

    cfg = make_cfg()
    first = pictures_of(loader_of(cfg, image_items, transform=white), 0)
    assert first[0].shape == (3, 4, 4) and not torch.equal(first[0], first[1])
    assert_same(first, pictures_of(loader_of(cfg, image_items, 2, transform=white), 0))


def test_a_wrapper_that_overrides_the_transforming_is_asked(make_cfg, image_items):
    class Inverted(DatasetWrapper):
        def _transform_image(self, tfm, img0):  # the family's name
            return -super()._transform_image(tfm, img0)

    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_squash",))
    plain, inverted = (pictures_of(loader_of(cfg, image_items, wrapper=w), 0) for w in (DatasetWrapper, Inverted))
    assert_same({n: -img for n, img in plain.items()}, inverted)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_one_line_that_names_it(make_cfg, image_items, tmp_path, num_workers):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    items = [*image_items, Datum(str(bad), 0, 0, "a")]
    with pytest.raises(DataError, match=r"bad\.png") as caught:
        list(loader_of(make_cfg("INPUT.TRANSFORMS", VR), items, num_workers))
    assert "\n" not in str(caught.value)


def test_workers_end_at_once_with_a_loader_in_a_cycle_of_references(make_cfg, image_items):
    loader = loader_of(make_cfg("INPUT.TRANSFORMS", VR), image_items, num_workers=1)
    list(loader)
    loader.owner = [loader]
    started = time.monotonic()
    del loader
    gc.collect()
    assert time.monotonic() - started < 4  # torch would wait for 5 seconds
