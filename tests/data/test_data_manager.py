import gc
import pickle
import random
import time

import numpy as np
import pytest
import torch

from dassl_vr.data import DataManager, DatasetWrapper, Datum, build_transform
from dassl_vr.data.data_manager import BatchLoader, resolve_num_workers
from dassl_vr.data.samplers import build_sampler
from dassl_vr.utils.errors import DataError
from dassl_vr.utils.files import read_image

from .conftest import FAMILY, VR


def loader_of(cfg, items, num_workers=0, wrapper=DatasetWrapper, transform=None, sampler="RandomSampler"):
    transform = transform or build_transform(cfg)
    return BatchLoader(
        wrapper(cfg, items, transform=transform, is_train=True),
        build_sampler(sampler, cfg, items),
        batch_size=5,
        num_workers=num_workers,
        persistent=True,
        seed=cfg.SEED,
    )


def pictures_of(loader, epoch):
    """{index: picture}"""
    loader.set_epoch(epoch)
    return {int(n): img for batch in loader for n, img in zip(batch["index"], batch["img"])}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[n], second[n]) for n in first)


class ForeignWrapper(DatasetWrapper):
    """As in the family's repositories: reads by path and transforms on its own."""

    def __getitem__(self, idx):
        item = self.data_source[idx]
        img = self._transform_image(self.transform, read_image(item.impath))
        return {"label": item.label, "index": idx, "img": img}


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
        def _transform_image(self, tfm, img0):
            return -super()._transform_image(tfm, img0)

    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_squash",))
    plain, inverted = (pictures_of(loader_of(cfg, image_items, wrapper=w), 0) for w in (DatasetWrapper, Inverted))
    assert_same({n: -img for n, img in plain.items()}, inverted)


def test_the_wrapper_can_be_sent_to_spawned_workers(make_cfg, image_items):
    dataset = loader_of(make_cfg("INPUT.TRANSFORMS", VR), image_items).dataset
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3]["img"], dataset[3]["img"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_one_line_that_names_it(make_cfg, image_items, tmp_path, num_workers):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    items = [*image_items, Datum(str(bad), 0, 0, "a")]
    with pytest.raises(DataError, match=r"bad\.png") as caught:
        list(loader_of(make_cfg("INPUT.TRANSFORMS", VR), items, num_workers))
    assert "\n" not in str(caught.value)


def test_without_transform_items_hold_pil_images(make_cfg, image_items):
    wrapper = DatasetWrapper(make_cfg(), image_items)
    assert wrapper[4]["img"].mode == "RGB"
    with pytest.raises(ValueError, match="K_TRANSFORMS"):
        DatasetWrapper(make_cfg("DATALOADER.K_TRANSFORMS", 2), image_items, is_train=True)


# ------------------------------------------------------------------------------------------------------- DataManager
@pytest.fixture
def make_manager(make_cfg, register):
    def make(train, *pairs, val=None, test=None, train_u=None, **options):
        name = register(train, val, test, train_u)
        return DataManager(make_cfg("DATASET.NAME", name, "INPUT.TRANSFORMS", VR, *pairs), **options)

    return make


def test_the_familys_attributes(make_manager, image_items, array_items):
    manager = make_manager(image_items, "DATALOADER.TRAIN_X.BATCH_SIZE", 8, val=array_items, train_u=array_items)
    assert manager.num_classes == 2 and manager.lab2cname == {0: "a", 1: "b"} and manager.num_source_domains == 0
    assert len(manager.train_loader_x) == 2  # 22 images, the last 6 dropped
    assert len(manager.train_loader_u) == 1 and len(manager.val_loader) == 1 and len(manager.test_loader) == 1
    assert len(manager.split_sha256) == 64
    assert manager.test_loader.dataset.data_source is image_items
    assert make_manager(image_items).val_loader is None


def test_nothing_is_dropped_when_told_so_or_when_there_is_no_full_batch(make_manager, image_items):
    keep = make_manager(image_items, "DATALOADER.TRAIN_X.BATCH_SIZE", 8, "DATALOADER.TRAIN_X.DROP_LAST", False)
    assert sum(len(batch["label"]) for batch in keep.train_loader_x) == 22
    few = make_manager(image_items, "DATALOADER.TRAIN_X.BATCH_SIZE", 64)
    assert [len(batch["label"]) for batch in few.train_loader_x] == [22]


@pytest.mark.parametrize("device, wanted, pinned", [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)])
def test_batches_are_pinned_for_a_gpu_unless_told_otherwise(make_manager, image_items, device, wanted, pinned):
    manager = make_manager(image_items, "DATALOADER.PIN_MEMORY", wanted, device=device)
    for loader in (manager.train_loader_x, manager.test_loader):
        assert loader.pin_memory is pinned and loader._loader.pin_memory is pinned


def test_the_data_sets_limit_bounds_the_batch(make_manager, image_items):
    for limit, expected in ((4, 4), (0, 8), (100, 8)):
        keys = ("DATALOADER.TRAIN_X.BATCH_SIZE", 8, "DATASET.BATCH_LIMIT", limit)
        assert make_manager(image_items, *keys).train_loader_x.batch_size == expected


def test_the_mapping_pass_takes_every_training_image_with_draws_of_its_own(make_manager, image_items):
    manager = make_manager(image_items, "DATALOADER.TRAIN_X.BATCH_SIZE", 8)
    mapped = {}
    for epoch in (0, 3):
        manager.set_epoch(epoch)
        assert [n for batch in manager.train_loader_all for n in batch["index"].tolist()] == list(range(22))
        mapped[epoch], trained = pictures_of(manager.train_loader_all, epoch), pictures_of(manager.train_loader_x, epoch)
        assert len(trained) == 16
        assert sum(torch.equal(mapped[epoch][n], trained[n]) for n in trained) <= 2  # two random crops may be the same
    assert sum(torch.equal(mapped[0][n], mapped[3][n]) for n in mapped[0]) <= 2
    manager = make_manager(image_items)
    manager.set_epoch(3)  # before the loader is made
    assert_same(mapped[3], pictures_of(manager.train_loader_all, 3))


def test_without_augmentation_the_mapping_pass_sees_what_training_sees(make_manager, image_items):
    manager = make_manager(image_items, "INPUT.TRANSFORMS", ["normalize"])
    mapped, trained = pictures_of(manager.train_loader_all, 0), pictures_of(manager.train_loader_x, 0)
    assert_same(trained, {n: mapped[n] for n in trained})


def test_all_training_images_with_the_test_transform(make_manager, image_items):
    manager = make_manager(image_items)
    manager.set_epoch(4)
    plain = torch.cat([batch["img"] for batch in manager.train_loader_plain])
    tested = torch.cat([batch["img"] for batch in manager.test_loader])  # of the same images
    assert torch.equal(plain, tested) and len(plain) == 22


def test_the_mapping_pass_sees_one_view_where_training_sees_several(make_manager, image_items):
    manager = make_manager(image_items, "DATALOADER.K_TRANSFORMS", 2)
    batch, mapped = next(iter(manager.train_loader_x)), next(iter(manager.train_loader_all))
    assert isinstance(batch["img"], list) and torch.is_tensor(mapped["img"])
    assert mapped["img"][0].shape == batch["img"][0][0].shape


def test_labelled_and_unlabelled_images_go_their_own_ways(make_manager, array_items):
    manager = make_manager(array_items, train_u=array_items)
    labelled, unlabelled = next(iter(manager.train_loader_x)), next(iter(manager.train_loader_u))
    assert labelled["index"].tolist() != unlabelled["index"].tolist()
    by_index = [dict(zip(b["index"].tolist(), b["img"])) for b in (labelled, unlabelled)]
    assert any(not torch.equal(by_index[0][n], by_index[1][n]) for n in by_index[0])


def test_custom_transforms_and_wrapper(make_manager, image_items):
    manager = make_manager(
        image_items,
        custom_tfm_train=lambda img: torch.zeros(1),
        custom_tfm_test=lambda img: torch.ones(1),
        dataset_wrapper=ForeignWrapper,
    )
    assert next(iter(manager.train_loader_x))["img"].sum() == 0
    assert next(iter(manager.test_loader))["img"].mean() == 1
    assert isinstance(manager.train_loader_x.dataset, ForeignWrapper)


def test_empty_splits_are_one_line(make_manager, image_items):
    with pytest.raises(DataError, match="no test images"):
        make_manager(image_items, test=[])
    with pytest.raises(DataError, match="no training images"):
        make_manager([])


def test_the_summary_tells_what_was_loaded(make_manager, image_items, capsys):
    make_manager(image_items, "VERBOSE", True)
    text = capsys.readouterr().out
    assert "# train_x" in text and "22" in text and "vr_crop" in text


def test_number_of_workers(image_items, array_items):
    assert resolve_num_workers(3, array_items) == 3
    assert resolve_num_workers(-1, array_items) == 0
    assert 1 <= resolve_num_workers(-1, image_items) <= 4


def test_workers_end_at_once_with_a_loader_in_a_cycle_of_references(make_cfg, image_items):
    loader = loader_of(make_cfg("INPUT.TRANSFORMS", VR), image_items, num_workers=1)
    list(loader)
    loader.owner = [loader]
    started = time.monotonic()
    del loader
    gc.collect()
    assert time.monotonic() - started < 4  # torch would wait for 5 seconds
