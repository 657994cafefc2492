"""Every YAML that ships: read, merged, resolved, and its head says how to run it."""

import re
from pathlib import Path

import pytest
import yaml

from dassl_vr.config import get_cfg_default, merge_mapping, read_yaml, validate_cfg
from dassl_vr.config.validate import leaves, lookup
from dassl_vr.data import DATASET_REGISTRY
from dassl_vr.engine import TRAINER_REGISTRY, build_trainer, resolve_cfg
from dassl_vr.methods import FeatureLearning
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import INPUT_REGISTRY

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TRAINER_FILES = sorted((CONFIGS / "trainers").rglob("*.yaml"))
DATASET_FILES = sorted((CONFIGS / "datasets").rglob("*.yaml"))
PAPER_FILES = [p for p in TRAINER_FILES if re.fullmatch(r"(SMM|VR)/(rn18|rn50|vit_b32)(_pad)?", f"{p.parent.name}/{p.stem}")]
load_plugins()


# Trainer -> the script that its heads name
SCRIPTS = {
    **{"SMM": "smm", "VR": "vr", "VP": "vp", "VPT": "vpt", "CoOp": "coop", "CoCoOp": "cocoop", "MaPLe": "maple"},
    **{"KgCoOp": "kgcoop", "PromptSRC": "promptsrc"},
    **{"LinearProbe": "linear_probe", "FullFT": "full_ft", "ZeroshotCLIP": "zeroshot", "LoRA": "lora", "CLIPLoRA": "clip_lora"},
    **{"TipAdapterF": "tip_adapter_f", "TaskRes": "taskres", "LPPP": "lppp"},
}
# CoOp's own train.py, in whose checkout our recipes load too, declares "" here
REPEATED_FOR_A_REASON = {
    f"CoCoOp/{name}": {"TRAINER.COCOOP.CTX_INIT"}
    for name in (*("clip_rn50", "clip_rn101", "clip_vit_b32", "clip_vit_b16", "tiny_clip"),)
}


def relative(path):
    return str(path.relative_to(CONFIGS))


def merged(path):
    """The defaults and one YAML on top."""
    cfg = get_cfg_default()
    merge_mapping(cfg, read_yaml(path), str(path))
    return cfg


def test_there_are_recipes_for_every_trainer():
    ours = {path.stem for path in CONFIGS.parent.glob("trainers/*.py")}
    names = {name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.split(".")[-1] in ours}
    assert {path.parent.name for path in TRAINER_FILES} == names
    assert DATASET_FILES


@pytest.mark.parametrize("path", TRAINER_FILES, ids=relative)
def test_trainer_recipe(path):
    cfg = merged(path)
    cfg.TRAINER.NAME, cfg.DATASET.NAME = path.parent.name, "digits"
    validate_cfg(cfg)
    resolve_cfg(cfg)
    assert min(cfg.INPUT.SIZE) > 0


@pytest.mark.parametrize("path", TRAINER_FILES, ids=relative)
def test_the_head_gives_the_command_and_the_figure_to_expect(path):
    head = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    script = SCRIPTS[path.parent.name]
    method = rf"({'|'.join(INPUT_REGISTRY.registered_names())}) " if path.parent.name == "VR" else ""
    command = re.search(rf"bash scripts/{script}\.sh {method}(\w+) (\S+)", head)
    assert command, "the command of this trainer and recipe"
    assert path.stem in (command.group(command.lastindex), f"{command.group(command.lastindex)}_{command.group(1)}")
    assert command.group(command.lastindex - 1) in {file.stem for file in DATASET_FILES}
    sources = (
        r"not measured",
        r"Averaged test accuracy in the paper \(Cai et al\., Table [12]: ",
        r"Test accuracy on digits, seeds 1 2 3: .*\d\. Measured by the command in docs/comparisons\.md",
        r"Accuracy on validation images, .*\(docs/recipe\.md has the command\)",
    )
    assert any(re.search(source, head) for source in sources), "a figure and where it comes from, or 'not measured'"


@pytest.mark.parametrize("path", [*TRAINER_FILES, *DATASET_FILES], ids=relative)
def test_no_value_repeats_a_default(path):
    """Except a trainer's that a data set's YAML, which comes first, may have changed."""
    of_data_sets = {key for file in DATASET_FILES for key, _ in leaves(read_yaml(file))} if path in TRAINER_FILES else set()
    defaults, content = get_cfg_default(), read_yaml(path)
    cfg = merged(path)
    repeated = {key for key, _ in leaves(content) if lookup(cfg, key) == lookup(defaults, key)} - of_data_sets
    assert repeated == set(REPEATED_FOR_A_REASON.get(f"{path.parent.name}/{path.stem}", ()))


@pytest.mark.parametrize("path", TRAINER_FILES, ids=relative)
def test_trainer_recipe_loads_under_plain_yacs(path):
    get_cfg_default().merge_from_file(str(path))


@pytest.mark.parametrize("path", DATASET_FILES, ids=relative)
def test_dataset_recipe_names_a_registered_data_set_and_nothing_of_a_trainer(path):
    content = yaml.safe_load(path.read_text())
    assert set(content) == {"DATASET"}
    assert content["DATASET"]["NAME"] in DATASET_REGISTRY


@pytest.mark.parametrize("path", PAPER_FILES, ids=relative)
def test_the_papers_recipe(path):
    """Section 5 and its code: nothing dropped, no weight decay, Adam, the decay at epochs 100 and 144 of 200."""
    cfg = merged(path)
    pad = path.stem.endswith("_pad")
    assert cfg.OPTIM.WEIGHT_DECAY == 0 and cfg.OPTIM.LR == 0.01 and cfg.OPTIM.MAX_EPOCH == 200
    assert not cfg.DATALOADER.TRAIN_X.DROP_LAST
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 256
    assert cfg.INPUT.TRANSFORMS[0] == ("vr_pad" if pad else "vr_squash")
    if not pad:
        assert cfg.INPUT.MARGIN == 32
    assert ((384, 384) if path.stem.startswith("vit") else (224, 224)) == cfg.INPUT.SIZE


def command_line_cfg(*arguments):
    from dassl_vr.cli.train import build_parser, setup_cfg

    return setup_cfg(build_parser().parse_args([str(argument) for argument in arguments]))


def to_build():
    """All recipes, the later ones of each large backbone in the slow tier; that of 1.2 GB is never built."""
    seen = {"vit_l16_384"}
    for path in TRAINER_FILES:
        backbone = read_yaml(path)["MODEL"]["BACKBONE"]["NAME"]
        if path.stem != "vit_l16_384":
            small = backbone.startswith(("tiny", "lite"))
            yield pytest.param(path, id=relative(path), marks=[] if small or backbone not in seen else [pytest.mark.slow])
            seen.add(backbone)


@pytest.mark.parametrize("path", [*to_build()])
def test_trainer_is_built_on_small_data(path, tmp_path):
    """At the recipe's own image size, with random weights."""
    cfg = command_line_cfg("--trainer", path.parent.name, "--config-file", path, "--seed", 0, "--output-dir", tmp_path / "run")
    merge_mapping(
        cfg,
        {"DATASET": {"NAME": "digits", "NUM_SHOTS": 1}, "MODEL": {"BACKBONE": {"PRETRAINED": False}}, "VERBOSE": False},
        "test",
    )
    validate_cfg(cfg)
    resolve_cfg(cfg)
    trainer = build_trainer(cfg)
    trained, frozen = trainer.count_parameters()
    if path.parent.name == "FullFT":
        assert 0 < frozen < trained  # the source classifier, or the text tower, is no part of it
    else:
        assert (0 if path.parent.name == "ZeroshotCLIP" else 1) <= trained < frozen
    batch = next(iter(trainer.train_loader_x))
    if isinstance(trainer, FeatureLearning):
        assert batch["features"].shape[1:] == (trainer.model.backbone.out_features,)
    else:
        assert batch["img"].shape[1:] == (3, *cfg.INPUT.SIZE)


@pytest.mark.parametrize("name", ["dtd", "oxfordpets"])
@pytest.mark.parametrize("path", [p for p in TRAINER_FILES if p.name.startswith("rn18")], ids=relative)
def test_batch_64_where_the_paper_has_it_whatever_the_recipe_says(path, name, tmp_path):
    cfg = command_line_cfg("--config-file", path, "DATASET.NAME", name)
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE >= 64 and cfg.DATASET.BATCH_LIMIT == 64
    other = command_line_cfg("--config-file", path, "DATASET.NAME", "eurosat")
    assert other.DATASET.BATCH_LIMIT == 0


@pytest.mark.parametrize(("limit", "batch"), [(0, 32), (8, 8), (64, 32)])
def test_the_data_sets_limit_bounds_the_batch(limit, batch, tmp_path):
    from dassl_vr.data import DataManager

    more = ["SEED", 0, "VERBOSE", False, "DATASET.NUM_SHOTS", 4]
    recipe = CONFIGS / "trainers/SMM/lite0.yaml"
    cfg = command_line_cfg("--trainer", "SMM", "--config-file", recipe, "DATASET.NAME", "digits", *more)
    cfg.DATASET.BATCH_LIMIT = limit
    resolve_cfg(cfg)
    assert len(next(iter(DataManager(cfg).train_loader_x))["label"]) == batch
