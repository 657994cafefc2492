import pytest
import torch

from dassl_vr.data import DataManager
from dassl_vr.data.manager import resolve_num_workers
from dassl_vr.utils.errors import DataError

from .conftest import VR, ForeignWrapper, assert_same, pictures_of


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


def test_the_last_batch_is_kept_on_request_or_if_it_is_the_only_one(make_manager, image_items):
    keep = make_manager(image_items, "DATALOADER.TRAIN_X.BATCH_SIZE", 8, "DATALOADER.TRAIN_X.DROP_LAST", False)
    assert sum(len(batch["label"]) for batch in keep.train_loader_x) == 22
    few = make_manager(image_items, "DATALOADER.TRAIN_X.BATCH_SIZE", 64)
    assert [len(batch["label"]) for batch in few.train_loader_x] == [22]


@pytest.mark.parametrize("device, wanted, pinned", [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)])
def test_batches_are_pinned_for_a_gpu_if_the_key_says_so(make_manager, image_items, monkeypatch, device, wanted, pinned):
    monkeypatch.setattr("dassl_vr.data.manager.pins_memory", lambda device: device.type == "cuda")
    manager = make_manager(image_items, "DATALOADER.PIN_MEMORY", wanted, device=device)
    for loader in (manager.train_loader_x, manager.test_loader):
        assert loader.pin_memory is pinned


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


def test_the_summary_lists_what_was_loaded(make_manager, image_items, capsys):
    make_manager(image_items, "VERBOSE", True)
    text = capsys.readouterr().out
    assert "# train_x" in text and "22" in text and "vr_crop" in text


def test_number_of_workers(image_items, array_items):
    assert resolve_num_workers(3, array_items) == 3
    assert resolve_num_workers(-1, array_items) == 0
    assert 1 <= resolve_num_workers(-1, image_items) <= 4
