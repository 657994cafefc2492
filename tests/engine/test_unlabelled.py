"""`TrainerXU`: passes over labelled and unlabelled images side by side."""

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.cli.train import build_parser, setup_cfg
from dassl_vr.data import DATASET_REGISTRY, DatasetBase
from dassl_vr.engine import TRAINER_REGISTRY, TrainerXU
from dassl_vr.optim import build_lr_scheduler, build_optimizer
from dassl_vr.plugins import load_plugins
from dassl_vr.runs import settle

load_plugins()


class Watching(TrainerXU):
    def build_model(self):
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, self.num_classes))
        optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.register_model("model", self.model, optim, build_lr_scheduler(optim, self.cfg.OPTIM))
        self.seen = []

    def forward_backward(self, batch_x, batch_u):
        images, labels, unlabelled = self.parse_batch_train(batch_x, batch_u)
        loss = F.cross_entropy(self.model(images), labels) + 0 * self.model(unlabelled).sum()
        self.model_backward_and_update(loss)
        self.seen.append((batch_x["index"].tolist(), batch_u["index"].tolist()))
        return {"loss": loss}


class DigitsWithUnlabelled(DatasetBase):
    def __init__(self, cfg):
        digits = DATASET_REGISTRY.get("digits")(cfg)
        items = digits.train_x[:: len(digits.train_x) // 12][:12]
        super().__init__(train_x=items[:8], train_u=items, test=digits.test[:10] + items)


@pytest.fixture
def registered():
    TRAINER_REGISTRY.register(Watching, force=True)
    DATASET_REGISTRY.register(DigitsWithUnlabelled, force=True)
    yield
    for registry, name in ((TRAINER_REGISTRY, "Watching"), (DATASET_REGISTRY, "DigitsWithUnlabelled")):
        registry.remove(name)


@pytest.mark.parametrize(("count", "batches"), [("train_x", 2), ("train_u", 3), ("smaller_one", 2)])
def test_length_of_an_epoch(registered, tmp_path, count, batches):
    arguments = [
        "--trainer",
        "Watching",
        "--seed",
        "0",
        "--output-dir",
        str(tmp_path / "run"),
        "DATASET.NAME",
        "DigitsWithUnlabelled",
    ]
    arguments += ["INPUT.SIZE", "(16, 16)", "INPUT.TRANSFORMS", "['random_flip']", "DATALOADER.TRAIN_X.BATCH_SIZE", "4"]
    arguments += ["TRAIN.COUNT_ITER", count, "OPTIM.MAX_EPOCH", "2", "VERBOSE", "False", "TRAIN.END_FIGURES", "False"]
    cfg = setup_cfg(build_parser().parse_args(arguments))
    settle(cfg)
    trainer = Watching(cfg)
    trainer.train()
    assert len(trainer.seen) == 2 * batches
    epochs = [trainer.seen[:batches], trainer.seen[batches:]]
    for epoch in epochs:
        once = [index for labelled, _ in epoch[:2] for index in labelled]
        assert sorted(once) == list(range(8)), "every labelled image once a pass"
    assert epochs[0] != epochs[1]
    if count == "train_u":  # the second pass over the labelled images within an epoch has an order of its own
        assert epochs[0][2][0] != epochs[0][0][0]
