"""Every label mapping under both visual-reprogramming trainers: computed at the right time, saved, found again."""

import json

import pytest
import torch

from dassl_vr.backbones.tiny import vit_classes
from dassl_vr.cli.train import main
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import MAPPING_REGISTRY, greedy_assignment
from dassl_vr.reprogramming.mappings import FEATURES, LABELS

load_plugins()
ON_ANY_BACKBONE = [name for name in MAPPING_REGISTRY.registered_names() if MAPPING_REGISTRY.get(name).reads in (LABELS, FEATURES)]

SOURCES = len(vit_classes())


def sources_of(mapping):
    return torch.tensor([source for _, source, _ in mapping.edges()])


@pytest.mark.parametrize("mapping", ON_ANY_BACKBONE)
@pytest.mark.parametrize("trainer", ["SMM", "VR"])
def test_trained_saved_and_found_again(tmp_path, tiny_command, trainer, mapping):
    out = tmp_path / "run"
    node = f"TRAINER.{trainer}"
    settings = [f"{node}.MAPPING", mapping, f"{node}.NAMES_BY", "tiny_clip", f"{node}.SOURCES_EACH", "4"]
    settings += ["OPTIM.MAX_EPOCH", "2", "TEST.TRAIN_GAP", "False"]
    assert main(tiny_command(out, *settings, trainer=trainer)) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["mapping"] == mapping
    assert main(["--eval-only", "--model-dir", str(out), "--output-dir", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "results.json").read_text())["accuracy"] == results["accuracy"]


def test_mapping_pass_sees_every_sample_in_evaluation_mode(tmp_path, tiny_command, trainer_of):
    trainer = trainer_of(tiny_command(tmp_path / "run"))
    statistics = {k: v.clone() for k, v in trainer.model.f_in.generator.state_dict().items() if "running" in k}
    seen = []
    observe = trainer.model.f_out.observe
    trainer.model.f_out.observe = lambda logits, labels: (seen.append(labels), observe(logits, labels))
    trainer.refresh_mapping()
    assert sorted(torch.cat(seen).tolist()) == sorted(item.label for item in trainer.dm.dataset.train_x)
    for key, value in statistics.items():
        assert torch.equal(trainer.model.f_in.generator.state_dict()[key], value), "no BatchNorm statistic moved"


PASSES = {  # over all training images in three epochs
    "exact": {"rlm": 0, "flm": 1, "ilm": 3, "blm": 3, "blm+": 3, "linear": 0},
    "reuse": {"flm": 1, "ilm": 1, "blm": 1, "blm+": 1, "linear": 0},
}


@pytest.mark.parametrize(("kind", "mapping", "passes"), [(kind, *row) for kind, rows in PASSES.items() for row in rows.items()])
def test_passes_over_the_training_images(tmp_path, tiny_command, kind, mapping, passes, trainer_of):
    settings = ["TRAINER.VR.MAPPING", mapping, "TRAINER.VR.MAPPING_PASS", kind, "TEST.NO_TEST", "True"]
    trainer = trainer_of(tiny_command(tmp_path / "run", *settings, trainer="VR"))
    counted = []
    refresh = trainer.refresh_mapping
    trainer.refresh_mapping = lambda: (counted.append(trainer.epoch), refresh())
    trainer.train()
    trainer.close_writer()
    assert counted == list(range(passes))


@pytest.mark.parametrize("drop_last", [True, False])
def test_reuse_takes_what_training_saw_in_the_epoch_before(tmp_path, tiny_command, drop_last, trainer_of):
    settings = ["TRAINER.SMM.MAPPING_PASS", "reuse", "TEST.NO_TEST", "True", "DATALOADER.TRAIN_X.DROP_LAST", drop_last]
    trainer = trainer_of(tiny_command(tmp_path / "run", *settings))
    mapping = trainer.model.f_out
    seen = {}  # epoch -> (number of training images, (source, target) counts of arg-max classes)
    step = trainer.forward_backward

    def watched(batch):
        total, counts = seen.get(trainer.epoch, (0, torch.zeros(SOURCES, 10)))
        logits = []
        logits_of = trainer.model.backbone.logits
        trainer.model.backbone.logits = lambda x: (logits.append(logits_of(x)), logits[-1])[1]
        try:
            summary = step(batch)
        finally:
            del trainer.model.backbone.logits
        for source, target in zip(logits[0].argmax(1), batch["label"], strict=True):
            counts[source, target] += 1
        seen[trainer.epoch] = total + len(batch["label"]), counts
        return summary

    used = {}
    begin = trainer.before_epoch
    trainer.forward_backward = watched
    trainer.before_epoch = lambda: (begin(), used.update({trainer.epoch: sources_of(mapping)}))
    trainer.train()
    trainer.close_writer()
    assert [number for number, _ in seen.values()] == [24 if drop_last else 30] * 3
    for epoch in (1, 2):
        assert torch.equal(used[epoch], greedy_assignment(seen[epoch - 1][1])), epoch
    assert not torch.equal(used[1], used[0])


def test_reuse_is_resumed_bit_for_bit(tmp_path, tiny_command, stopped_once_saved):
    settings = ["TRAINER.SMM.MAPPING", "blm+", "TRAINER.SMM.MAPPING_PASS", "reuse", "TEST.TRAIN_GAP", "False"]
    assert main(tiny_command(tmp_path / "whole", *settings)) == 0
    out = tmp_path / "stopped"
    with stopped_once_saved():
        for _ in range(2):
            assert main(tiny_command(out, "--resume", out, *settings)) == 130
    assert main(tiny_command(out, "--resume", out, *settings)) == 0
    one, other = (torch.load(run / "prompt" / "model.pth.tar-3", weights_only=True) for run in (tmp_path / "whole", out))
    for key, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][key]), key


def test_random_map_follows_the_seed(tmp_path, tiny_command, trainer_of):
    def sources(seed):
        trainer = trainer_of(tiny_command(tmp_path / "run", "TRAINER.SMM.MAPPING", "rlm", seed=seed))
        return sources_of(trainer.model.f_out).tolist()

    assert sources(1) == sources(1) != sources(2)


@pytest.mark.parametrize("mapping", ["flm", "ilm"])
def test_frequent_map_equals_the_slow_obvious_one(tmp_path, tiny_command, mapping, trainer_of):
    """Counted image by image on the prompted (or plain) training images, then assigned by the obvious loop."""
    for mapping_on in ("prompted", "plain") if mapping == "flm" else ("prompted",):
        more = ["TRAINER.VR.MAPPING", mapping, "TRAINER.VR.MAPPING_ON", mapping_on]
        trainer = trainer_of(tiny_command(tmp_path / mapping_on, *more, trainer="VR"))
        model = trainer.model
        with torch.no_grad():
            model.f_in.delta.normal_()
        trainer.set_model_mode("eval")
        counts = torch.zeros(SOURCES, 10)
        for batch in trainer.dm.train_loader_all:
            for image, label in zip(batch["img"], batch["label"], strict=True):
                x = image[None] if mapping_on == "plain" else model.f_in(image[None])
                counts[model.backbone.logits(x).argmax(), label] += 1
        expected = [-1] * 10
        free = set(range(SOURCES))
        while -1 in expected:
            cells = [(-counts[s, t], s, t) for s in free for t in range(10) if expected[t] < 0]
            _, source, target = min(cells)
            expected[target] = source
            free.remove(source)
        trainer.refresh_mapping()
        assert sources_of(model.f_out).tolist() == expected


def test_names_are_compared_by_a_clip(tmp_path, tiny_command, capsys):
    command = tiny_command(tmp_path / "run", "TRAINER.VR.MAPPING", "semantic", "TRAINER.VR.NAMES_BY", "lite0", trainer="VR")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "TRAINER.VR.NAMES_BY is 'lite0'; it takes a CLIP" in error and error.count("\n") == 1


def test_a_mapping_that_solves_sees_the_images_as_they_are_tested_before_and_after_training(tmp_path, tiny_command, trainer_of):
    trainer = trainer_of(tiny_command(tmp_path / "run", "TRAINER.SMM.MAPPING", "lda", "OPTIM.MAX_EPOCH", "2"))
    mapping, network, solved = trainer.model.f_out, trainer.model, []
    solve = mapping.solve
    mapping.solve = lambda *arguments: (solved.append(arguments), solve(*arguments))
    network.eval()
    with torch.no_grad():
        plain = torch.cat([network.backbone.logits(batch["img"]) for batch in trainer.dm.train_loader_plain])
    trainer.train()
    (features, labels, trained), (prompted, again, at_the_end) = solved
    assert (trained, at_the_end) == (False, True)
    assert labels.tolist() == again.tolist() == [item.label for item in trainer.dm.dataset.train_x]
    torch.testing.assert_close(features, plain, atol=1e-4, rtol=1e-4)  # the pattern starts at zero
    network.eval()
    with torch.no_grad():
        now = torch.cat([network.backbone.logits(network.f_in(batch["img"])) for batch in trainer.dm.train_loader_plain])
    torch.testing.assert_close(prompted, now, atol=1e-4, rtol=1e-4)
    assert (now - plain).abs().max() > 1e-2 and mapping.last_share == 0.5
