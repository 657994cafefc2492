"""What the family's data sets find in their base class."""

import random
import shutil

import pytest

from dassl_vr.data import Datum
from dassl_vr.data.datasets.base_dataset import draw_shots
from dassl_vr.family.datasets import DatasetBase
from dassl_vr.utils.errors import ConfigError


@pytest.fixture
def base():
    items = [Datum("a", 1, 1, "y"), Datum("b", 0, 0, "x"), Datum("c", 0, 0, "x")]
    return DatasetBase(train_x=items, test=items)


def test_grouping(base):
    assert {label: [item.impath for item in items] for label, items in base.split_dataset_by_label(base.train_x).items()} == {
        1: ["a"],
        0: ["b", "c"],
    }
    assert list(base.split_dataset_by_domain(base.train_x)) == [1, 0]


def test_domains_are_checked(base):
    base.domains = ["art", "photo"]
    base.check_input_domains(["art"], ["photo"])
    with pytest.raises(ConfigError, match="did you mean 'photo'"):
        base.check_input_domains(["art"], ["foto"])
    with pytest.raises(ConfigError, match="SOURCE_DOMAINS is empty"):
        base.check_input_domains([], ["art"])


def test_few_shots_come_from_the_global_generator(base):
    random.seed(5)
    drawn = base.generate_fewshot_dataset(base.train_x, num_shots=1)
    assert drawn == draw_shots(base.train_x, 1, random.Random(5)) and [item.label for item in drawn] == [1, 0]
    assert base.generate_fewshot_dataset(base.train_x) is base.train_x


def test_repeat_draws_as_many_as_asked(base):
    drawn, other = base.generate_fewshot_dataset(base.train_x, base.train_x, num_shots=5, repeat=True)
    assert [item.label for item in drawn] == [1] * 5 + [0] * 5 and len(other) == 10


def test_download_data_unpacks_beside_the_archive(base, tmp_path):
    (tmp_path / "content" / "d").mkdir(parents=True)
    (tmp_path / "content" / "d" / "x.txt").write_text("x")
    (tmp_path / "there").mkdir()
    shutil.make_archive(str(tmp_path / "there" / "a"), "zip", tmp_path / "content")
    # the file is there already, so nothing is fetched
    base.download_data("https://nowhere.invalid/a.zip", tmp_path / "there" / "a.zip", False)
    assert (tmp_path / "there" / "d" / "x.txt").read_text() == "x"
