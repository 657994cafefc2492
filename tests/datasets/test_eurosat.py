import json

import pytest

from dassl_vr.data.datasets.split import SPLIT_NAMES
from dassl_vr.utils.errors import DataError

from .miniatures import EUROSAT_FOLDERS, eurosat


def test_the_split_file_decides(tmp_path, draw, load, capsys):
    eurosat(tmp_path, draw)
    dataset = load("EuroSAT", tmp_path)
    split = json.loads((tmp_path / "eurosat" / "split_zhou_EuroSAT.json").read_text())
    for name, items in zip(SPLIT_NAMES, (dataset.train_x, dataset.val, dataset.test)):
        assert [item.impath for item in items] == [str(tmp_path / "eurosat/2750" / path) for path, *_ in split[name]]
    assert "WARNING: 50/20/30 images" in capsys.readouterr().out  # far from 13500/5400/8100


def test_a_split_of_our_own_is_loudly_not_the_official_one(tmp_path, draw, load, capsys):
    counts = eurosat(tmp_path, draw, with_split=False)
    dataset = load("EuroSAT", tmp_path)
    assert "NOT the official one" in capsys.readouterr().out
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == counts == (50, 20, 30)
    assert dataset.classnames == list(EUROSAT_FOLDERS.values())
    assert not (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").exists()  # nobody may take it for the official one
    for item in dataset.test:
        assert item.classname == EUROSAT_FOLDERS[item.impath.split("/")[-2]]


def test_missing_images_are_named(tmp_path, draw, load):
    eurosat(tmp_path, draw)
    lost = tmp_path / "eurosat/2750/River/River_9.jpg"
    lost.unlink()
    with pytest.raises(DataError, match=r"River_9\.jpg"):
        load("EuroSAT", tmp_path)
