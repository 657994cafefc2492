"""Every registered data set loads from a miniature of its layout."""

import pytest

from dassl_vr.config import get_cfg_default
from dassl_vr.config.merge import read_yaml
from dassl_vr.data import DATASET_REGISTRY, DataManager, split_sha256
from dassl_vr.prompting import fill_in
from dassl_vr.utils.errors import DataError

from .miniatures import MINIATURES, TEST_SETS, WITHOUT_ROOT


def test_every_data_set_has_a_miniature_and_a_yaml(plugins, request):
    names = set(DATASET_REGISTRY.registered_names())
    assert names == set(MINIATURES)
    configs = request.config.rootpath / "configs" / "datasets"
    assert {read_yaml(path)["DATASET"]["NAME"].lower() for path in configs.glob("*.yaml")} == {n.lower() for n in names}


@pytest.fixture(params=MINIATURES)
def miniature(request, tmp_path, draw):
    return request.param, tmp_path, MINIATURES[request.param](tmp_path, draw)


def test_it_loads_with_the_right_counts_and_classes(miniature, load):
    name, root, counts = miniature
    dataset = load(name, root)
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == counts
    assert list(dataset.lab2cname) == list(range(dataset.num_classes))
    assert dataset.classnames == [dataset.lab2cname[label] for label in range(dataset.num_classes)]
    assert len(set(dataset.classnames)) == dataset.num_classes
    for item in (dataset.train_x[0], dataset.test[-1]):
        assert item.read().mode == "RGB" and item.classname == dataset.lab2cname[item.label]
    paths = [item.impath for items in (dataset.train_x, dataset.val, dataset.test) for item in items]
    if name in TEST_SETS:
        assert dataset.train_x == dataset.test
    else:
        assert len(set(paths)) == len(paths)


def test_few_shots_and_half_the_classes(miniature, load):
    name, root, _ = miniature
    classes = load(name, root).num_classes
    few = load(name, root, "DATASET.NUM_SHOTS", 2)
    assert len(few.train_x) == 2 * classes and len(few.val) in (0, 2 * classes)
    assert len(few.test) == len(load(name, root).test)
    halves = [load(name, root, "DATASET.SUBSAMPLE_CLASSES", part) for part in ("base", "new")]
    assert [half.num_classes for half in halves] == [(classes + 1) // 2, classes // 2]
    assert halves[0].classnames + halves[1].classnames == load(name, root).classnames


def test_the_split_is_the_same_everywhere_and_for_every_seed(miniature, load, tmp_path_factory):
    name, root, _ = miniature
    reference = split_sha256(load(name, root))
    assert split_sha256(load(name, root, "SEED", 2)) == reference
    assert split_sha256(load(name, root, "SEED", 2, "DATASET.NUM_SHOTS", 2)) != reference
    elsewhere = tmp_path_factory.mktemp("other place") / "data"
    root.rename(elsewhere)
    assert split_sha256(load(name, elsewhere)) == reference
    root.mkdir()


def test_its_facts_are_keys_of_the_configuration(miniature):
    facts = DATASET_REGISTRY.get(miniature[0]).facts
    assert set(facts) <= set(get_cfg_default().DATASET)


def test_its_template_has_one_place_for_the_class(miniature, load):
    name, root, _ = miniature
    cfg = get_cfg_default()
    template = {"TEMPLATE": cfg.DATASET.TEMPLATE, **DATASET_REGISTRY.get(name).facts}["TEMPLATE"]
    assert template.count("{}") == 1 and template.count("{") == template.count("}") == 1
    classname = load(name, root).classnames[-1]
    sentence = fill_in(template, classname)
    assert classname.replace("_", " ") in sentence and sentence.endswith(".") and "  " not in sentence


def test_batches_come_out(miniature):
    name, root, _ = miniature
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.SEED, cfg.VERBOSE = name.upper(), str(root), 0, False
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (16, 16), ("vr_squash", "vr_crop", "vr_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS = 0
    manager = DataManager(cfg)
    assert next(iter(manager.train_loader_x))["img"].shape[1:] == (3, 16, 16)
    assert next(iter(manager.test_loader))["img"].shape[1:] == (3, 16, 16)


@pytest.mark.parametrize("name", sorted(set(MINIATURES) - WITHOUT_ROOT))
def test_missing_data_is_one_line(load, tmp_path, name):
    for root, message in ((tmp_path / "none", "--root"), ("", "--root")):
        with pytest.raises(DataError, match=message) as caught:
            load(name, root)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError) as caught:
        load(name, tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    if DATASET_REGISTRY.get(name).parts:
        by_hand = DATASET_REGISTRY.get(name).parts[0].source.page
        assert "http" in str(caught.value) and ("manually" if by_hand else "DATASET.DOWNLOAD True") in str(caught.value)
