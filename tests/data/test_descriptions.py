"""Banks of sentences: shipped, published, the user's own."""

import json

import pytest

from dassl_vr.config import get_cfg_default
from dassl_vr.data.datasets import DATASET_REGISTRY
from dassl_vr.data.descriptions import PUBLISHED, SHIPPED, descriptions_of, fetch_descriptions, published_parts, read_bank
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.errors import DataError

load_plugins()
LONG = "a sentence of twenty characters"


def cfg_of(name, seed=1, root=""):
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.DOWNLOAD, cfg.SEED = name, str(root), False, seed
    return cfg


def written(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_banks_have_sentences_for_every_class(name):
    from dassl_vr.datasets.fashion_mnist import CLASSNAMES

    classnames = CLASSNAMES if name == "FashionMNIST" else [*"0123456789"]
    banks = descriptions_of(cfg_of(name), (), classnames, 4)
    assert len(banks) == 2 and all(len(set(sentences)) == 4 for bank in banks for sentences in bank)
    assert all(name.lower() in s.lower() for bank in banks for name, sentences in zip(classnames, bank) for s in sentences)


def test_names_of_published_and_shipped_banks_are_those_of_data_sets():
    assert {*PUBLISHED, *SHIPPED} <= {*DATASET_REGISTRY.registered_names()}


def test_sentences_are_drawn_with_the_seed(tmp_path):
    file = written(tmp_path / "bank.json", {"One_Class": [f"{LONG} {n}" for n in range(30)] + ["short"], "two": [LONG]})
    draw = lambda seed: descriptions_of(cfg_of("digits", seed), (file,), ["one class", "two"], 20)[0]  # noqa: E731
    assert draw(1) == draw(1) != draw(2)
    assert len(set(draw(1)[0])) == 20 and "short" not in draw(1)[0]
    assert draw(1)[1] == [LONG] * 20


@pytest.mark.parametrize(
    "content, message",
    [
        ({"a": [LONG]}, "no sentences of 20 characters and more for 1 of 2 classes, b; add some"),
        ({"a": [LONG], "b": ["short"]}, "for 1 of 2 classes, b;"),
        ({"a": LONG}, r"expected .*; expected \{class: \[sentences\]\}"),
        ([], "expected named entries"),
    ],
)
def test_a_wrong_bank_ends_in_one_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_bank(written(tmp_path / "bank.json", content), ["a", "b"])
    assert "\n" not in str(caught.value) and "bank.json" in str(caught.value)


def test_a_bank_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none.json: cannot be read"):
        read_bank(tmp_path / "none.json", ["a"])
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(DataError, match=r"no.json: not valid JSON"):
        read_bank(tmp_path / "no.json", ["a"])
    with pytest.raises(DataError, match=r"dtd_des.json is missing; it comes from https://.*/gpt3/dtd_des.json"):
        descriptions_of(cfg_of("dtd", root=tmp_path), (), ["banded"], 20)
    with pytest.raises(DataError, match="SVHN: there are no descriptions for it"):
        descriptions_of(cfg_of("svhn", root=tmp_path), (), ["1"], 20)


def test_published_banks_lie_in_the_data_set_s_directory(tmp_path):
    for part in published_parts("DescribableTextures"):
        written(tmp_path / part.provides, {"banded": [LONG]})
    paths = fetch_descriptions("DescribableTextures", tmp_path, download=False)
    assert [path.name for path in paths] == ["dtd_des.json", "dtd_dist.json"]
    assert all(part.source.md5 and part.source.urls for name in PUBLISHED for part in published_parts(name))
