"""Every label mapping under both visual-reprogramming trainers: computed at the right time, saved, found again."""

import json

import pytest
import torch

from dassl_vr.cli.train import build_parser, main, settle, setup_cfg
from dassl_vr.engine import build_trainer
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import MAPPINGS
from dassl_vr.utils import set_random_seed

load_plugins()


def trainer_of(arguments):
    cfg = setup_cfg(build_parser().parse_args(arguments))
    settle(cfg)
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("trainer", ["SMM", "VR"])
def test_trained_saved_and_found_again(tmp_path, tiny_command, trainer, mapping):
    out = tmp_path / "run"
    settings = [f"TRAINER.{trainer}.MAPPING", mapping, "OPTIM.MAX_EPOCH", "2", "TEST.TRAIN_GAP", "False"]
    assert main(tiny_command(out, *settings, trainer=trainer)) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["mapping"] == mapping
    assert main(["--eval-only", "--model-dir", str(out), "--output-dir", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "results.json").read_text())["accuracy"] == results["accuracy"]


@pytest.mark.parametrize(("mapping", "passes"), [("rlm", 0), ("flm", 1), ("ilm", 3), ("blm", 3), ("blm+", 3), ("linear", 0)])
def test_passes_over_the_training_images(tmp_path, tiny_command, mapping, passes):
    trainer = trainer_of(tiny_command(tmp_path / "run", "TRAINER.VR.MAPPING", mapping, "TEST.NO_TEST", "True", trainer="VR"))
    counted = []
    refresh = trainer.refresh_mapping
    trainer.refresh_mapping = lambda: (counted.append(trainer.epoch), refresh())
    trainer.train()
    trainer.close_writer()
    assert counted == list(range(passes))


def test_random_map_follows_the_seed(tmp_path, tiny_command):
    def sources(seed):
        trainer = trainer_of(tiny_command(tmp_path / "run", "TRAINER.SMM.MAPPING", "rlm", seed=seed))
        return trainer.model.f_out.strongest_source().tolist()

    assert sources(1) == sources(1) != sources(2)


@pytest.mark.parametrize("mapping", ["flm", "ilm"])
def test_frequent_map_equals_the_slow_obvious_one(tmp_path, tiny_command, mapping):
    """Counted image by image on the prompted (or plain) training images, then assigned by the obvious loop."""
    for mapping_on in ("prompted", "plain") if mapping == "flm" else ("prompted",):
        more = ["TRAINER.VR.MAPPING", mapping, "TRAINER.VR.MAPPING_ON", mapping_on]
        trainer = trainer_of(tiny_command(tmp_path / mapping_on, *more, trainer="VR"))
        model = trainer.model
        with torch.no_grad():
            model.f_in.delta.normal_()
        trainer.set_model_mode("eval")
        counts = torch.zeros(1000, 10)
        for batch in trainer.dm.train_loader_all:
            for image, label in zip(batch["img"], batch["label"], strict=True):
                x = image[None] if mapping_on == "plain" else model.f_in(image[None])
                counts[model.backbone.logits(x).argmax(), label] += 1
        expected = [-1] * 10
        free = set(range(1000))
        while -1 in expected:
            cells = [(-counts[s, t], s, t) for s in free for t in range(10) if expected[t] < 0]
            _, source, target = min(cells)
            expected[target] = source
            free.remove(source)
        trainer.refresh_mapping()
        assert model.f_out.strongest_source().tolist() == expected
