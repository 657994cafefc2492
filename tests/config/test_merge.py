import os

import pytest
from yacs.config import CfgNode as CN

from dassl_vr.config import get_cfg_default, merge_list, merge_mapping, read_yaml, to_yaml, validate_cfg
from dassl_vr.config.ranges import NAMES, RANGES, is_number
from dassl_vr.config.validate import leaves
from dassl_vr.utils.errors import ConfigError


@pytest.fixture
def cfg():
    return get_cfg_default()


def test_values_are_converted_where_nothing_is_lost(cfg):
    pairs = ["OPTIM.LR", "1", "OPTIM.WEIGHT_DECAY", "1e-3", "OPTIM.MAX_EPOCH", "2.0", "INPUT.SIZE", "[96, 96]"]
    merge_list(cfg, [*pairs, "USE_CUDA", "false", "DATASET.NAME", "123", "OPTIM.STEPSIZE", "(0.5, 0.72)"])
    assert cfg.OPTIM.LR == 1.0 and isinstance(cfg.OPTIM.LR, float)
    assert cfg.OPTIM.WEIGHT_DECAY == 1e-3
    assert cfg.OPTIM.MAX_EPOCH == 2 and isinstance(cfg.OPTIM.MAX_EPOCH, int)
    assert cfg.INPUT.SIZE == (96, 96) and isinstance(cfg.INPUT.SIZE, tuple)
    assert cfg.USE_CUDA is False
    assert cfg.DATASET.NAME == "123"


def test_yaml_texts_of_the_family_are_read(cfg, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text('INPUT:\n  SIZE: (224, 224)\n  TRANSFORMS: ["normalize"]\nOPTIM:\n  LR: 1e-3\n')
    merge_mapping(cfg, read_yaml(path), str(path))
    assert cfg.INPUT.SIZE == (224, 224)
    assert cfg.INPUT.TRANSFORMS == ("normalize",)
    assert cfg.OPTIM.LR == 1e-3


def test_all_problems_are_named_at_once_and_nothing_is_merged(cfg):
    before = cfg.clone()
    with pytest.raises(ConfigError) as caught:
        merge_list(cfg, ["OPTIM.LR", "7", "OPTIM.MAX_EPOCHS", "3", "SEED", "many", "USE_CUDA", "1"])
    message = str(caught.value)
    assert "'OPTIM.MAX_EPOCHS' (did you mean 'OPTIM.MAX_EPOCH'?)" in message
    assert "'SEED' takes a whole number" in message and "'many'" in message
    assert "'USE_CUDA' takes True or False" in message
    assert "\n" not in message
    assert cfg == before


def test_a_key_and_its_parent_cannot_both_have_a_value(cfg):
    with pytest.raises(ConfigError, match="OPTIM"):
        merge_list(cfg, ["OPTIM", "x", "OPTIM.LR", "1"])


def test_a_key_without_a_value(cfg):
    with pytest.raises(ConfigError, match="'SEED' has no value"):
        merge_list(cfg, ["OPTIM.LR", "1", "SEED"])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("recipe.py", "import os", "only .yaml and .yml"),
        ("recipe.yaml", "- 1\n- 2\n", "found a list"),
        ("recipe.yaml", "OPTIM: [", "not valid YAML"),
        ("recipe.yaml", "!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_yaml(path)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_dump_reads_back(cfg, tmp_path):
    merge_list(cfg, ["INPUT.SIZE", "(32, 32)", "DATASET.NAME", "Größe: 1"])
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(cfg), encoding="utf-8")
    again = get_cfg_default()
    merge_mapping(again, read_yaml(path), str(path))
    assert again == cfg


def test_dump_is_read_by_plain_yacs(cfg, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(cfg))
    again = get_cfg_default()
    again.merge_from_file(str(path))
    assert again == cfg


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("OPTIM.NAME", "adamm", "did you mean 'adam'"),
        ("OPTIM.MAX_EPOCH", "-1", "must not be negative"),
        ("OPTIM.BATCHES_PER_SHOT", "0", "must be above 0"),
        ("OPTIM.LR", "-1", "must not be negative"),
        ("INPUT.SIZE", "(224,)", "a list of 2 numbers"),
        ("INPUT.PIXEL_MEAN", "[0.5]", "a list of 3 numbers"),
        ("OPTIM.STEPSIZE", "()", "STEPSIZE"),
        ("TEST.FINAL_MODEL", "best_test", "last_step, best_val"),
        ("OUTPUT_DIR", "", "OUTPUT_DIR"),
    ],
)
def test_values_that_cannot_be(cfg, key, value, words):
    merge_list(cfg, [key, value])
    with pytest.raises(ConfigError, match=words):
        validate_cfg(cfg)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("OPTIM.MAX_EPOCH", "1000000000000", "must be 1000000 or less"),
        ("INPUT.SIZE", "(1600000, 1600000)", "must be 8192 or less"),
        ("INPUT.SIZE", "(64.0, 64.0)", "whole numbers"),
        ("INPUT.SIZE", "(True, 64)", "whole numbers"),
        ("OPTIM.LR", "1e999", "must be a finite number"),
        ("OPTIM.STEPSIZE", "(1e999,)", "each entry must be a finite number"),
        ("OPTIM.WARMUP_EPOCH", "-100", "must be -1 or more"),
        ("OPTIM.MOMENTUM", "1", "must be below 1"),
        ("INPUT.RGS_P", "1.5", "must be 1 or less"),
        ("INPUT.PIXEL_STD", "[0, 1, 1]", "each entry must be above 0"),
        ("INPUT.PIXEL_STD", "[1e-30, 1, 1]", "each entry must be 1e-06 or more"),
        ("INPUT.GB_K", "4", "must be odd"),
        ("INPUT.TRANSFORMS", "(1, 2)", "takes names"),
        ("DATASET.GREY_BITS", "5", "takes one of 0, 8"),
    ],
)
def test_numbers_out_of_range(cfg, key, value, words):
    merge_list(cfg, [key, value])
    with pytest.raises(ConfigError, match=words):
        validate_cfg(cfg)


def test_every_number_has_a_range(cfg):
    cfg.pop("TRAINER")  # a trainer states its own
    numbers = {key for key, value in leaves(cfg) if is_number(value) or (isinstance(value, (list, tuple)) and key not in NAMES)}
    assert numbers == set(RANGES) | {"DATASET.GREY_BITS"}  # which has choices
    for key in numbers:
        with pytest.raises(ConfigError, match=key):
            broken = get_cfg_default()
            *parents, leaf = key.split(".")
            node = broken
            for parent in parents:
                node = node[parent]
            node[leaf] = float("nan") if is_number(node[leaf]) else (float("nan"),) * max(len(node[leaf]), 1)
            validate_cfg(broken)


def test_defaults_are_in_range(cfg):
    validate_cfg(cfg)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2**64, (1, float("inf")), "a\0b"])
def test_keys_of_plug_ins_hold_no_nonsense(cfg, value):
    cfg.TRAINER.MINE = CN({"KEY": value})
    with pytest.raises(ConfigError, match="TRAINER.MINE.KEY"):
        validate_cfg(cfg)


@pytest.mark.parametrize("value", ["9" * 30, "0x" + "f" * 5000, "9" * 5000, "-" * 5000 + "1", "[" * 5000, "(1, " + "9" * 30 + ")"])
def test_numbers_beyond_all_bounds_are_one_short_line(cfg, value):
    for key in ("OPTIM.MAX_EPOCH", "OPTIM.LR", "INPUT.SIZE"):
        with pytest.raises(ConfigError, match=key) as caught:
            merge_list(cfg, [key, value])
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"SEED: 2024-99-99\n", "not valid YAML"),
        (b"SEED: !!bool x\n", "not valid YAML"),
        (b"SEED: " + b"9" * 5000 + b"\n", "not valid YAML"),
        (b"SEED: " + b"[" * 5000, "not valid YAML"),
        (b"SEED: \0\n", "not valid YAML"),
        (b"SEED: caf\xe9\n", "not valid YAML"),
        (b"? [1, 2]\n: 3\n", "not valid YAML"),
        (b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9 if n else [b"1"])) for n in range(9)), "aliases"),
        (b"a: &a [*a]\n", "aliases"),
        (b"#" * 2_000_000, "bytes"),
    ],
)
def test_files_that_are_no_yaml(tmp_path, text, words):
    (tmp_path / "odd.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_yaml(tmp_path / "odd.yaml")
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_files(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, words in (
        ("folder.yaml", "not a regular file"),
        ("pipe.yaml", "not a regular file"),
        ("x" * 300 + ".yaml", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_yaml(tmp_path / path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "windows.yaml").write_bytes(b"\xef\xbb\xbfSEED: 1\r\n")
    assert read_yaml(tmp_path / "windows.yaml") == {"SEED": 1}


def test_a_key_given_twice_is_refused(tmp_path):
    (tmp_path / "twice.yaml").write_text("OPTIM:\n  LR: 0.1\nOPTIM:\n  GAMMA: 0.5\n")
    with pytest.raises(ConfigError, match="'OPTIM' is given twice"):
        read_yaml(tmp_path / "twice.yaml")
