"""A trainer in the idiom of the Dassl family, with what files written for old torch say."""

import os.path as osp

import torch
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_optimizer
from dassl.utils import load_checkpoint
from nets import MeanColour as Net
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F
from torch.optim.lr_scheduler import _LRScheduler


class Halving(_LRScheduler):
    def __init__(self, optimizer, last_epoch=-1, verbose=False):
        super().__init__(optimizer, last_epoch, verbose)

    def get_lr(self):
        return [lr * 0.5**self.last_epoch for lr in self.base_lrs]


@TRAINER_REGISTRY.register()
class MeanColour(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.MEANCOLOUR.PREC in ["fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        self.model = Net(len(self.dm.dataset.classnames)).to(self.device)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = Halving(self.optim, verbose=True)
        self.register_model("net", self.model, self.optim, self.sched)
        self.scaler = GradScaler() if cfg.TRAINER.MEANCOLOUR.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        if self.cfg.TRAINER.MEANCOLOUR.PREC == "amp":
            with autocast():
                output = self.model(image)
                loss = F.cross_entropy(output, label)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            output = self.model(image)
            loss = F.cross_entropy(output, label)
            self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        assert batch["img"].dtype == torch.float32
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        model_file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            model_path = osp.join(directory, name, model_file)
            if not osp.exists(model_path):
                raise FileNotFoundError(f'Model not found at "{model_path}"')
            checkpoint = load_checkpoint(model_path)
            print(f"Loading weights to {name} (epoch = {checkpoint['epoch']})")
            self._models[name].load_state_dict(checkpoint["state_dict"])
