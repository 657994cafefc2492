"""What the engine does for methods that learn a prompt: cached features, schedules by batches, precision, complaints."""

import json
import math

import pytest
import torch

from dassl_vr.cli.train import main
from dassl_vr.config import get_cfg_default
from dassl_vr.methods.prompt_learning import in_iterations
from dassl_vr.optim import build_lr_scheduler, build_optimizer
from dassl_vr.plugins import load_plugins

load_plugins()


def history(out):
    return json.loads((out / "results.json").read_text())["history"]


@pytest.mark.parametrize("name", ["CoOp", "CoCoOp"])
def test_cached_features_train_to_the_same_losses(tmp_path, tiny_command, monkeypatch, name):
    from dassl_vr.backbones.clip import ClipBackbone

    seen, original = [], ClipBackbone.features

    def features(self, x):
        if not x.is_meta and x.any():  # nor what looks at the backbone, or counts its FLOPs
            seen.append(len(x))
        return original(self, x)

    monkeypatch.setattr(ClipBackbone, "features", features)
    images, losses = {}, {}
    for cached in (True, False):
        seen.clear()
        settings = ["TRAIN.CACHE_FEATURES", cached, "TEST.NO_TEST", "True", "OPTIM.LR", "0.01"]
        out = tmp_path / str(cached)
        assert main(tiny_command(out, *settings, trainer=name, backbone="tiny_clip")) == 0
        images[cached], losses[cached] = sum(seen), [epoch["loss"] for epoch in history(out)]
    assert images == {True: 30, False: 3 * 24}, "all are computed once; an epoch drops the last, partial batch of 8"
    assert losses[True] == pytest.approx(losses[False], rel=1e-5) and losses[True][2] < losses[True][0]


@pytest.mark.parametrize("first, cached", [("vr_squash", 30), ("random_resized_crop", 0)])
def test_features_of_augmented_images_are_not_cached(tmp_path, tiny_command, trainer_of, monkeypatch, first, cached):
    settings = ["INPUT.TRANSFORMS", f"['{first}', 'normalize']"]
    trainer = trainer_of(tiny_command(tmp_path, *settings, trainer="CoOp", backbone="tiny_clip"))
    seen, original = [], trainer.model.backbone.features
    monkeypatch.setattr(trainer.model.backbone, "features", lambda x: seen.append(len(x)) or original(x))
    trainer.before_train()
    trainer.close_writer()
    assert sum(seen) == cached


def test_text_features_are_computed_once_per_test(tmp_path, tiny_command, monkeypatch, trainer_of):
    settings = ["DATALOADER.TEST.BATCH_SIZE", "50", "INPUT.SIZE", "(16, 16)"]
    trainer = trainer_of(tiny_command(tmp_path, *settings, trainer="CoOp", backbone="tiny_clip"))
    backbone, passes = trainer.model.backbone, []
    original = backbone.prompted_text_features
    monkeypatch.setattr(backbone, "prompted_text_features", lambda *args: passes.append(1) or original(*args))
    first = trainer.test()
    assert len(trainer.test_loader) > 5 and len(passes) == 1
    with torch.no_grad():
        trainer.model.prompts.context.normal_()
    assert trainer.test() != first and len(passes) == 2


def rates(warmup, kind, recount, epochs, batches):
    cfg = get_cfg_default().OPTIM
    cfg.NAME, cfg.LR, cfg.LR_SCHEDULER, cfg.MAX_EPOCH = "sgd", 40.0, "cosine", epochs
    cfg.WARMUP_EPOCH, cfg.WARMUP_TYPE, cfg.WARMUP_RECOUNT = warmup, kind, recount
    optim_cfg = in_iterations(cfg, batches)
    assert epochs == cfg.MAX_EPOCH, "the node itself stays as it is"
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], optim_cfg)
    schedule = build_lr_scheduler(optimizer, optim_cfg)
    seen = []
    for _ in range(epochs * batches):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen, optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("warmup", [-1, 0, 10, 45])
@pytest.mark.parametrize("kind", ["linear", "constant"])
def test_a_cosine_by_batches_equals_the_formula(warmup, kind):
    total, before = 5 * 9, max(0, warmup)
    expected = []
    for step in range(total):
        if step < before:
            expected.append(1e-5 if kind == "constant" or step == 0 else 40 * step / before)
        else:
            expected.append(20 * (1 + math.cos(math.pi * (step - before) / (total - before))))
    seen, last = rates(warmup, kind, True, epochs=5, batches=9)
    assert seen == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert last == pytest.approx(40.0 if warmup == 45 else 0.0, abs=1e-9)


def test_a_cosine_that_counts_its_warm_up_ends_at_zero_as_well():
    seen, last = rates(10, "linear", False, epochs=5, batches=9)
    assert seen[11:] == sorted(seen[11:], reverse=True) and last == pytest.approx(0.0, abs=1e-6)


def test_steps_and_shares_by_batches():
    cfg = get_cfg_default().OPTIM
    cfg.STEPSIZE, cfg.MAX_EPOCH = (0.5, 3, -1), 5
    assert in_iterations(cfg, 9).STEPSIZE == (0.5, 27, -1) and in_iterations(cfg, 9).MAX_EPOCH == 45


def test_a_run_steps_after_each_batch(tmp_path, tiny_command, trainer_of):
    settings = ["OPTIM.LR", "0.05", "OPTIM.WARMUP_EPOCH", "3", "OPTIM.WARMUP_TYPE", "constant", "TEST.NO_TEST", "True"]
    trainer = trainer_of(tiny_command(tmp_path, *settings, trainer="VP", backbone="tiny_clip"))
    seen, original = [], trainer.model_backward_and_update
    trainer.model_backward_and_update = lambda loss: seen.append(trainer.get_current_lr()) or original(loss)
    trainer.train()
    total = 3 * len(trainer.train_loader_x)
    assert total == 12 and seen[:3] == [1e-5] * 3
    assert seen[3:] == pytest.approx([0.025 * (1 + math.cos(math.pi * step / 9)) for step in range(9)])


@pytest.mark.parametrize(
    "name, backbone",
    [("MaPLe", "tiny_clip"), ("CoCoOp", "tiny_clip"), ("VPT", "tiny_vit"), ("SMM", "tiny_clip"), ("FullFT", "tiny_clip")],
)
@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_what_is_trained_is_fp32(tmp_path, tiny_command, name, backbone, precision, trainer_of):
    trainer = trainer_of(tiny_command(tmp_path, "TRAIN.PRECISION", precision, trainer=name, backbone=backbone))
    network = next(m for m in trainer.model.modules() if hasattr(m, "precision"))
    assert trainer.precision == network.precision == {"auto": "fp32"}.get(precision, precision)
    trainer.set_model_mode("train")
    inside, blocks = set(), network.tokens.blocks
    handles = [
        layer.register_forward_hook(lambda m, x, out: inside.add(out.dtype))
        for layer in blocks[0].modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    batch = next(iter(trainer.train_loader_x))
    logits = trainer.model(trainer.parse_batch_train(batch)[0])
    torch.nn.functional.cross_entropy(logits, batch["label"]).backward()
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trained and all(p.dtype == torch.float32 and (p.grad is None or p.grad.dtype == torch.float32) for p in trained)
    assert handles and inside <= {torch.bfloat16 if precision == "bf16" else torch.float32} and logits.dtype == torch.float32


EARLY = [
    ("CoOp", ["TRAINER.COOP.N_CTX", "0"], "TRAINER.COOP.N_CTX is 0; it must be 1 or more"),
    ("CoOp", ["TRAINER.COOP.CLASS_TOKEN_POSITION", "start"], "it takes one of end, middle, front"),
    ("CoOp", ["DATASET.TEMPLATE", "a photo"], "DATASET.TEMPLATE is 'a photo'; it takes a sentence with {}"),
    ("CoCoOp", ["TRAINER.COCOOP.N_CTX", "-1"], "N_CTX is -1"),
    ("MaPLe", ["TRAINER.MAPLE.N_CTX", "0"], "N_CTX is 0"),
    ("MaPLe", ["TRAINER.MAPLE.PROMPT_DEPTH", "0"], "PROMPT_DEPTH is 0"),
    ("VPT", ["TRAINER.VPT.N_CTX", "0"], "N_CTX is 0; it must be 1 or more"),
    ("VP", ["TRAINER.VP.WIDTH", "0"], "WIDTH is 0; it must be 1 or more"),
    ("VP", ["TRAINER.VP.WIDTH", "300"], "expected 1 to 32 pixels"),
    ("ZeroshotCLIP", ["TRAINER.ZEROSHOTCLIP.METHOD", "both"], "it takes one of template, ensemble"),
]
LATE = [
    ("MaPLe", ["TRAINER.MAPLE.PROMPT_DEPTH", "3"], "prompts in 3 blocks, expected 1 to 2"),
    ("MaPLe", ["TRAINER.MAPLE.N_CTX", "5"], "5 context vectors, but 'a photo of a' is 4 tokens"),
    ("CoOp", ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "75"], "75 tokens of context and"),
]


@pytest.mark.parametrize("early, name, settings, words", [(True, *case) for case in EARLY] + [(False, *case) for case in LATE])
def test_invalid_settings_end_in_one_line(tmp_path, tiny_command, monkeypatch, capsys, early, name, settings, words):
    if early:
        monkeypatch.setattr("dassl_vr.engine.trainer.DataManager", lambda *args, **kwargs: pytest.fail("data was read"))
    assert main(tiny_command(tmp_path / "run", "VERBOSE", "False", *settings, trainer=name, backbone="tiny_clip")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert not (tmp_path / "run").exists()


def test_text_head_without_a_text_tower(tmp_path, tiny_command, capsys):
    assert main(tiny_command(tmp_path / "run", "TRAINER.VPT.MAPPING", "text", trainer="VPT", backbone="tiny_vit")) == 2
    assert "MAPPING text needs a text tower" in capsys.readouterr().err
