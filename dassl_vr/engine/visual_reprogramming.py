"""What all visual-reprogramming trainers share: f_out o backbone o f_in, trained by cross entropy on the mapped labels."""

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from yacs.config import CfgNode as CN

from ..backbones import build_backbone
from ..config.validate import choice_problems
from ..metrics import compute_accuracy
from ..optim import build_lr_scheduler, build_optimizer
from ..reprogramming import MAPPINGS
from ..reprogramming.classifier import ReprogrammedClassifier
from ..utils.checkpoint import load_pretrained_weights
from ..utils.distributed import no_progress_bar
from ..utils.errors import ConfigError
from .pictures import RunPictures


def add_reprogramming_keys(cfg, name):
    """Add `TRAINER.<NAME>` with the keys that every visual-reprogramming trainer has; returns the node for more."""
    node = cfg.TRAINER[name.upper()] = CN()
    # How source labels become target labels. Options: rlm, flm, ilm, blm, blm+, linear
    node.MAPPING = "ilm"
    # Images that flm looks at: "prompted", or "plain" ones (without the pattern)
    node.MAPPING_ON = "prompted"
    return node


class PatternAndMapping(nn.Module):
    """The pattern and the label mapping as one registered model, so that one checkpoint file carries both."""

    def __init__(self, delta, mapping):
        super().__init__()
        self.register_parameter("delta", delta)
        self.mapping = mapping


class VisualReprogramming:
    """The own part of a visual-reprogramming trainer, to be put in front of a `TrainerX`.

    A method gives `build_input(size)`, a module (B, 3, S, S) -> (B, 3, S, S) on normalized images, and may register further
    models. `build_input` raises `ValueError` for settings that cannot be.

    Besides the Dassl family's surface it asks a few things of the trainer behind it, which `dassl_vr.host` adds to the
    original's: `precision` (a name in `backbones.base.PRECISIONS`), `dm.train_loader_all` (every training image once, with the
    training transform), `count_parameters()`, `steps_done()` and `results` (split -> metrics of the last test).

    Attributes:
        choices: {key of `TRAINER.<NAME>`: allowed values}, of the method's own keys.
    """

    backbone_kinds = ("cnn", "vit")
    choices = {}

    @property
    def options(self):
        """This trainer's own keys, `cfg.TRAINER.<NAME>`."""
        return self.cfg.TRAINER[type(self).__name__.upper()]

    def check_cfg(self, cfg):
        self.cfg = cfg  # `build_input` reads it
        name = type(self).__name__.upper()
        choices = {"MAPPING": tuple(MAPPINGS), "MAPPING_ON": ("prompted", "plain"), **self.choices}
        problems = choice_problems(cfg, {f"TRAINER.{name}.{key}": allowed for key, allowed in choices.items()})
        height, width = cfg.INPUT.SIZE
        if height != width:
            problems.append(f"INPUT.SIZE is {cfg.INPUT.SIZE}; visual reprogramming takes square images")
        if cfg.DATALOADER.K_TRANSFORMS > 1:
            problems.append("DATALOADER.K_TRANSFORMS is above 1; visual reprogramming looks at one version of an image")
        if problems:
            raise ConfigError("; ".join(problems))
        with torch.device("meta"):  # no memory, no random numbers: to hear complaints before data and weights are read
            self._input_module()

    def _input_module(self):
        try:
            return self.build_input(self.cfg.INPUT.SIZE[0])
        except ValueError as error:
            raise ConfigError(f"TRAINER.{type(self).__name__.upper()}: {error}") from error

    def build_input(self, size):
        raise NotImplementedError

    def build_model(self):
        cfg = self.cfg
        f_in = self._input_module()
        backbone = build_backbone(
            cfg.MODEL.BACKBONE.NAME,
            pretrained=cfg.MODEL.BACKBONE.PRETRAINED,
            weights=cfg.MODEL.BACKBONE.WEIGHTS,
            size=cfg.INPUT.SIZE[0],
            precision=self.precision,
            fold=cfg.MODEL.BACKBONE.FOLD,
            verbose=cfg.VERBOSE,
        )
        self.model = ReprogrammedClassifier(f_in, backbone, self._build_mapping(len(backbone.source_classes)))
        self.model.to(self.device)
        self.prompt = PatternAndMapping(f_in.delta, self.model.f_out)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.prompt, cfg.MODEL.INIT_WEIGHTS)
        self.register_trained("prompt", self.prompt, cfg.OPTIM)
        self.pictures = RunPictures(self)
        trained, frozen = self.count_parameters()
        print(f"# params: {trained:,} trained, {frozen:,} frozen in {cfg.MODEL.BACKBONE.NAME} ({100 * trained / frozen:.2f} %)")

    def _build_mapping(self, num_source):
        cls = MAPPINGS[self.options.MAPPING]
        extra = {"seed": self.cfg.SEED} if self.options.MAPPING == "rlm" else {}
        try:
            return cls(num_source, self.num_classes, **extra)
        except ValueError as error:
            raise ConfigError(
                f"data set {self.cfg.DATASET.NAME} with backbone {self.cfg.MODEL.BACKBONE.NAME}: {error}"
                " (take a backbone with more classes, or DATASET.SUBSAMPLE_CLASSES)"
            ) from error

    def register_trained(self, name, module, optim_cfg):
        """Register `module` with an optimizer and a schedule of its own; a module without parameters gets none."""
        optim = sched = None
        if any(p.requires_grad for p in module.parameters()):
            optim = build_optimizer(module, optim_cfg)
            sched = build_lr_scheduler(optim, optim_cfg)
        self.register_model(name, module, optim, sched)

    # ---------------------------------------------------------------------------------------------------- training
    def before_epoch(self):
        mapping = self.model.f_out
        if mapping.refresh == "epoch" or (mapping.refresh == "start" and self.epoch == 0):
            self.refresh_mapping()

    @torch.no_grad()
    def refresh_mapping(self):
        """Recompute the label mapping over all training samples with the current prompt, in evaluation mode."""
        self.set_model_mode("eval")
        mapping, backbone = self.model.f_out, self.model.backbone
        plain = mapping.refresh == "start" and self.options.MAPPING_ON == "plain"
        mapping.reset()
        for batch in tqdm(self.dm.train_loader_all, desc="label mapping", disable=no_progress_bar(), leave=False):
            images, labels = self.parse_batch_test(batch)
            mapping.observe(backbone.logits(images if plain else self.model.f_in(images)), labels)
        mapping.update()

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        logits = self.model(images)  # (B, target classes)
        loss = F.cross_entropy(logits, labels)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.detach(), "acc": compute_accuracy(logits.detach(), labels)[0]}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    # ---------------------------------------------------------------------------------------------------- pictures
    def before_train(self):
        super().before_train()
        if self.start_epoch == 0:
            self.pictures.after(-1)

    def after_epoch(self):
        super().after_epoch()
        self.pictures.after(self.epoch)

    def after_train(self):
        super().after_train()
        self.pictures.finish()
