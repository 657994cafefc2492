import os

import torch
from torch.utils.tensorboard import SummaryWriter

from dassl.data import DataManager
from dassl.utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg):
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)


class TrainerX:
    def __init__(self, cfg):
        self._models, self._optims, self._scheds, self._writer = {}, {}, {}, None
        self.check_cfg(cfg)
        self.device = torch.device("cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch, self.output_dir, self.cfg = cfg.OPTIM.MAX_EPOCH, cfg.OUTPUT_DIR, cfg
        self.build_data_loader()
        self.build_model()

    def check_cfg(self, cfg):
        pass

    def build_data_loader(self):
        self.dm = DataManager(self.cfg)
        self.train_loader_x, self.test_loader = self.dm.train_loader_x, self.dm.test_loader
        self.num_classes, self.lab2cname = self.dm.num_classes, self.dm.lab2cname

    def register_model(self, name, model, optim=None, sched=None):
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names=None):
        return list(self._models)

    def set_model_mode(self, mode="train"):
        for model in self._models.values():
            model.train(mode == "train")

    def update_lr(self):
        for sched in self._scheds.values():
            if sched is not None:
                sched.step()

    def detect_anomaly(self, loss):
        if not torch.isfinite(loss).all():
            raise FloatingPointError("Loss is infinite or NaN!")

    def model_zero_grad(self, names=None):
        for name in [names] if isinstance(names, str) else names or self._models:
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward_and_update(self, loss):
        self.model_zero_grad()
        self.detect_anomaly(loss)
        loss.backward()
        for optim in filter(None, self._optims.values()):
            optim.step()

    def resume_model_if_exist(self, directory):
        return 0

    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        for name, model in self._models.items():
            os.makedirs(os.path.join(directory, name), exist_ok=True)
            state = {"state_dict": model.state_dict(), "epoch": epoch + 1, "val_result": val_result}
            torch.save(state, os.path.join(directory, name, model_name or f"model.pth.tar-{epoch + 1}"))

    def load_model(self, directory, epoch=None):
        for name, model in self._models.items():
            file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
            checkpoint = torch.load(os.path.join(directory, name, file))
            print(f"val_result={checkpoint['val_result']:.1f}")  # fails where there was no validation
            model.load_state_dict(checkpoint["state_dict"])

    def train(self):
        self.before_train()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self):
        self.start_epoch = self.resume_model_if_exist(self.output_dir)
        self._writer = SummaryWriter(os.path.join(self.output_dir, "tensorboard"))

    def before_epoch(self):
        pass

    def run_epoch(self):
        self.set_model_mode("train")
        self.num_batches = len(self.train_loader_x)
        for batch_idx, batch in enumerate(self.train_loader_x):
            self.batch_idx = batch_idx
            losses = self.forward_backward(batch)
            print(f"epoch [{self.epoch + 1}] batch [{self.batch_idx + 1}/{self.num_batches}] {len(batch['label'])} {losses}")

    def after_epoch(self):
        if self.epoch + 1 == self.max_epoch:
            self.save_model(self.epoch, self.output_dir)

    def after_train(self):
        print("Finish training")
        self.test()
        self.close_writer()

    def close_writer(self):
        self._writer.close()

    def parse_batch_test(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def model_inference(self, input):
        return self.model(input)

    @torch.no_grad()
    def test(self, split=None):
        self.set_model_mode("eval")
        correct = total = 0
        for batch in self.test_loader:
            images, labels = self.parse_batch_test(batch)
            correct += int((self.model_inference(images).argmax(dim=1) == labels).sum())
            total += len(labels)
        print(f"* accuracy: {100 * correct / total:.1f}%")
        return 100 * correct / total
