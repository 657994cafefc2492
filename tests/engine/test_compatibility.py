"""Every registered trainer on every kind of backbone: a step that moves only what is declared, or one line that says what fits."""

import pytest
import torch

from dassl_vr.backbones import FrozenBackbone, backbone_spec
from dassl_vr.cli.train import main
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.plugins import load_plugins

load_plugins()
OURS = [
    name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("dassl_vr.trainers")
]
BACKBONES = {"cnn": "lite0", "vit": "tiny_vit", "clip": "tiny_clip"}


def fits(name, kind):
    return kind in TRAINER_REGISTRY.get(name).backbone_kinds


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", BACKBONES)
def test_a_trainer_takes_a_step_or_is_refused_in_one_line(tmp_path, tiny_command, repository, capsys, name, kind, trainer_of):
    backbone = BACKBONES[kind]
    if not fits(name, kind):
        assert (
            main(["--trainer", name, "--backbone", backbone, "--output-dir", str(tmp_path / "run"), "DATASET.NAME", "digits"]) == 2
        )
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "cannot be combined with" in error
        for other, its_backbone in BACKBONES.items():
            assert (its_backbone in error.partition("it takes")[2].partition(";")[0]) == fits(name, other)
        listed = error.strip().rpartition("goes with ")[2].split(", ")
        assert set(OURS) & set(listed) == {trainer for trainer in OURS if fits(trainer, kind)}
        return
    assert (repository / "configs" / "trainers" / name / f"{backbone}.yaml").is_file(), "a recipe for each kind that fits"
    trainer = trainer_of(tiny_command(tmp_path / "run", trainer=name, backbone=backbone))
    model = trainer.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer.before_train()
    trainer.close_writer()
    trainer.before_epoch()
    trainer.set_model_mode("train")
    trainer.num_batches = len(trainer.train_loader_x)
    # `_models`, here and in other tests, `_optims` and `_scheds` are the family's names, which users' trainers know
    registered = {id(p) for part in trainer._models.values() for p in part.parameters() if p.requires_grad}
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert {id(p) for p in model.parameters() if p.requires_grad} == registered
    if not registered:
        assert not trainer.get_model_names(), "a zero-shot method registers nothing"
        return
    for trainer.batch_idx in range(2):  # a pattern starts at zero, so a mask generator's first gradient is zero
        trainer.forward_backward(next(iter(trainer.train_loader_x)))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    # A bias in front of a batch norm has no effect, so its gradient is left out
    assert {key for key in trained - moved if not (name == "SMM" and ".generator.body." in key and key.endswith(".bias"))} == set()
    frozen = [m for m in model.modules() if isinstance(m, FrozenBackbone) and m.frozen]
    inside = {id(tensor) for module in frozen for tensor in module.model.state_dict(keep_vars=True).values()}
    assert not any(id(tensor) in inside for key, tensor in model.state_dict(keep_vars=True).items() if key in moved)


def test_a_clip_without_tokens_is_refused_by_those_who_need_them(tmp_path, capsys):
    for name in ("VPT", "MaPLe"):
        assert (
            main(["--trainer", name, "--backbone", "clip_rn50", "--output-dir", str(tmp_path / "run"), "DATASET.NAME", "digits"])
            == 2
        )
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "clip without a plain transformer" in error and "clip_vit_b16" in error
    assert backbone_spec("clip_vit_b16").tokens and not backbone_spec("clip_rn50").tokens
