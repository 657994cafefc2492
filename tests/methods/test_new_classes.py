"""What a trainer says about other classes than those trained on is true of what it trains."""

import pytest

from dassl_vr.backbones.from_cfg import backbone_from_cfg
from dassl_vr.cli.train import build_parser, setup_cfg
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.plugins import load_plugins
from dassl_vr.runs import settle

load_plugins()
OURS = [
    name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("dassl_vr.trainers")
]
FURTHER = [
    ("CoOp", ["TRAINER.COOP.CSC", "True"]),
    ("SMM", ["TRAINER.SMM.MAPPING", "ilm"]),
    ("VPT", ["TRAINER.VPT.MAPPING", "head"]),
]


@pytest.mark.parametrize(("name", "settings"), [*((name, []) for name in OURS), *FURTHER])
def test_what_is_saved_depends_on_the_number_of_classes_unless_it_takes_new_ones(tmp_path, repository, name, settings):
    recipe = str(repository / f"configs/trainers/{name}/tiny_clip.yaml")
    words = ["--trainer", name, "--config-file", recipe, "--output-dir", str(tmp_path), "--seed", "1", "DATASET.NAME", "digits"]
    cfg = setup_cfg(build_parser().parse_args([*words, *settings]))
    settle(cfg)
    trainer = TRAINER_REGISTRY.get(name)

    def shapes(classnames):
        network = trainer.build_network(cfg, backbone_from_cfg(cfg, frozen=trainer.freeze_backbone), classnames)
        parts = trainer.trained_parts(cfg, network)
        return {(part, key): value.shape for part, (module, _) in parts.items() for key, value in module.state_dict().items()}

    assert (shapes(["one", "two", "three"]) == shapes(["one", "two", "three", "four"])) == trainer.takes_new_classes(cfg)
