import pytest

from dassl_vr.config import get_cfg_default, merge_list, merge_mapping, read_yaml, to_yaml, validate_cfg
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
        ("OPTIM.MAX_EPOCH", "0", "must be above 0"),
        ("OPTIM.LR", "-1", "must not be negative"),
        ("INPUT.SIZE", "(224,)", "height and width"),
        ("INPUT.PIXEL_MEAN", "[0.5]", "three"),
        ("OPTIM.STEPSIZE", "()", "STEPSIZE"),
        ("TEST.FINAL_MODEL", "best_test", "last_step, best_val"),
        ("OUTPUT_DIR", "", "OUTPUT_DIR"),
    ],
)
def test_values_that_cannot_be(cfg, key, value, words):
    merge_list(cfg, [key, value])
    with pytest.raises(ConfigError, match=words):
        validate_cfg(cfg)


def test_a_key_given_twice_is_refused(tmp_path):
    (tmp_path / "twice.yaml").write_text("OPTIM:\n  LR: 0.1\nOPTIM:\n  GAMMA: 0.5\n")
    with pytest.raises(ConfigError, match="'OPTIM' is given twice"):
        read_yaml(tmp_path / "twice.yaml")
