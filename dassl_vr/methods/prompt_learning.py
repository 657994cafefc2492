"""What all trainers of ours share: something small is learned around a frozen pre-trained model."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from ..backbones import FrozenBackbone, backbone_spec
from ..backbones.from_cfg import backbone_from_cfg
from ..config.ranges import Range
from ..config.validate import choice_problems, range_problems
from ..evaluation import compute_accuracy
from ..optim import build_lr_scheduler, build_optimizer
from ..reprogramming.classifier import FeatureSource
from ..utils.checkpoint import load_pretrained_weights
from ..utils.errors import ConfigError
from ..utils.registry import Registry


def in_iterations(optim_cfg: CfgNode, num_batches: int) -> CfgNode:
    """A copy of a node of `cfg.OPTIM`'s keys whose schedule is stepped after each of `num_batches` batches per epoch.

    WARMUP_EPOCH counts iterations already; a cosine that starts after the warm-up takes the rest of the run.
    """
    optim_cfg = optim_cfg.clone()
    optim_cfg.defrost()
    optim_cfg.MAX_EPOCH *= num_batches
    optim_cfg.COSINE_AFTER_WARMUP = True
    optim_cfg.STEPSIZE = tuple(step * num_batches if step >= 1 else step for step in optim_cfg.STEPSIZE)
    return optim_cfg


class PromptLearning:
    """A method that learns a prompt (or a head) for a pre-trained model; `TRAINER_REGISTRY` puts it on a `TrainerX`.

    A method gives two class methods, which need no engine, so that a trained model is rebuilt without one: `build_network`, a
    plain module from normalized images to logits, and `trained_parts`, what of it is trained and saved. Both raise `ValueError`
    for settings that cannot be.

    Besides the Dassl family's surface it asks a few things of the trainer behind it, which `dassl_vr.family.host` adds to the
    original's: `precision` (a name in `backbones.base.PRECISIONS`), `count_parameters()` and `step_share`.

    Attributes:
        backbone_kinds: what the method works on, of "cnn", "vit" and "clip".
        needs_tokens: it works on transformers only, whose blocks take patch tokens.
        needs_text_tokens: it works on CLIPs only whose text tower takes learned tokens.
        freeze_backbone: False = the backbone is trained as well (full fine-tuning).
        learns: False = there is nothing to train, and no epochs.
        variants: {name: {key of `TRAINER.<NAME>`: value}} of what is in a comparison of methods (scripts/compare.sh); "" is the
            recipe as it is. A METHOD that has a recipe of its own, `<backbone>_<method>.yaml`, is in it without being named.
        choices: {key of `TRAINER.<NAME>`: allowed values}, of the method's own keys; those of its bases are added. A
            `Registry` stands for the names in it at the time of the check, those of plug-ins included.
        ranges: {key of `TRAINER.<NAME>`: `config.ranges.Range` of its numbers}, likewise.
    """

    backbone_kinds = ("cnn", "vit", "clip")
    needs_tokens = False
    needs_text_tokens = False
    freeze_backbone = True
    learns = True
    variants = {"": {}}
    choices = {}
    ranges = {}

    @classmethod
    def options_in(cls, cfg: CfgNode) -> CfgNode:
        """This trainer's own keys, `cfg.TRAINER.<NAME>`."""
        return cfg.TRAINER[cls.__name__.upper()]

    @classmethod
    def all_choices(cls) -> dict[str, tuple]:
        """{key of `TRAINER.<NAME>`: names that are allowed now}, of this class and its bases."""
        found = cls._of_all_bases("choices")
        return {key: tuple(v.registered_names() if isinstance(v, Registry) else v) for key, v in found.items()}

    @classmethod
    def all_ranges(cls) -> dict[str, Range]:
        """{key of `TRAINER.<NAME>`: range of its numbers}, of this class and its bases."""
        return cls._of_all_bases("ranges")

    @classmethod
    def _of_all_bases(cls, attribute):
        """The entries of a dictionary of the class and of those of its bases; a class's own win."""
        return {key: value for base in reversed(cls.__mro__) for key, value in vars(base).get(attribute, {}).items()}

    @classmethod
    def compared_as(cls) -> dict[str, dict[str, object]]:
        """{name: {key of `TRAINER.<NAME>`: value}} of what is in a comparison of methods: `variants`."""
        return dict(cls.variants)

    @classmethod
    def takes_new_classes(cls, cfg: CfgNode) -> bool:
        """Whether what is trained on some classes works on others: where the output side is made from the classes' names."""
        return False

    @property
    def options(self) -> CfgNode:
        """This trainer's own keys, `cfg.TRAINER.<NAME>`."""
        return self.options_in(self.cfg)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Raise `ConfigError` with all of `config_problems`, if there are any."""
        problems = self.config_problems(cfg)
        if problems:
            raise ConfigError("; ".join(problems))

    def config_problems(self, cfg: CfgNode) -> list[str]:
        """One sentence for each setting that cannot be, before anything is built."""
        name = type(self).__name__.upper()
        choices, ranges = self.all_choices(), self.all_ranges()
        problems = choice_problems(cfg, {f"TRAINER.{name}.{key}": allowed for key, allowed in choices.items()})
        problems += range_problems(cfg, {f"TRAINER.{name}.{key}": allowed for key, allowed in ranges.items()})
        height, width = cfg.INPUT.SIZE
        if height != width and backbone_spec(cfg.MODEL.BACKBONE.NAME).kind != "cnn":  # positions of tokens belong to a square
            problems.append(f"INPUT.SIZE is {cfg.INPUT.SIZE}; a transformer or CLIP takes square images")
        if cfg.DATALOADER.K_TRANSFORMS > 1:
            problems.append(f"DATALOADER.K_TRANSFORMS is above 1; trainer {type(self).__name__} looks at one version of an image")
        return problems

    @classmethod
    def build_network(cls, cfg: CfgNode, backbone: FrozenBackbone, classnames: Sequence[str]) -> nn.Module:
        """(B, 3, S, S) normalized images -> (B, len(classnames)) logits, as a module with `backbone` in it."""
        raise NotImplementedError

    @classmethod
    def trained_parts(cls, cfg: CfgNode, network: nn.Module) -> dict[str, tuple[nn.Module, CfgNode]]:
        """{name to register: (module, its node of `cfg.OPTIM`'s keys)} of what is trained and saved, in order."""
        raise NotImplementedError

    def build_model(self) -> None:
        """Build the network and register `trained_parts`. Raises `ConfigError` for settings that cannot be."""
        cfg = self.cfg
        backbone = backbone_from_cfg(cfg, self.precision, frozen=self.freeze_backbone).to(self.device)
        self.weights_sha256 = backbone.weights_sha256
        if backbone.note and not cfg.VERBOSE:  # it was printed otherwise
            print(backbone.note)
        try:
            self.model = self.build_network(cfg, backbone, self.dm.dataset.classnames).to(self.device)
        except ValueError as error:
            raise ConfigError(
                f"trainer {type(self).__name__}, data set {cfg.DATASET.NAME}, backbone {cfg.MODEL.BACKBONE.NAME}: {error}"
            ) from error
        if any(isinstance(module, FeatureSource) for module in self.model.modules()) and not backbone.reads_features():
            print(
                f"NOTE: the classifier of {backbone.spec.name} reads more than its features (further heads or tokens): a head"
                " trained on the features starts from less"
            )
        parts = self.trained_parts(cfg, self.model)
        if cfg.MODEL.INIT_WEIGHTS and parts:
            load_pretrained_weights(next(iter(parts.values()))[0], cfg.MODEL.INIT_WEIGHTS)
        for name, (module, optim_cfg) in parts.items():
            self.register_trained(name, module, optim_cfg)
        trained, frozen = self.count_parameters()
        share = f" ({100 * trained / frozen:.2f} %)" if frozen else ""
        print(f"# params: {trained:,} trained, {frozen:,} frozen in {cfg.MODEL.BACKBONE.NAME}{share}")

    def register_trained(self, name: str, module: nn.Module, optim_cfg: CfgNode) -> None:
        """Register `module` with an optimizer and a schedule of its own; a module without parameters gets none."""
        optim = sched = None
        if any(p.requires_grad for p in module.parameters()):
            if not optim_cfg.MAX_EPOCH:
                optim_cfg = optim_cfg.clone()
                optim_cfg.defrost()
                optim_cfg.MAX_EPOCH = self.max_epoch  # which follows from the data
            if optim_cfg.PER_ITERATION:
                optim_cfg = in_iterations(optim_cfg, len(self.train_loader_x))
            optim = build_optimizer(module, optim_cfg)
            sched = build_lr_scheduler(optim, optim_cfg)
        self.register_model(name, module, optim, sched)

    def train_logits(self, batch: dict, images: torch.Tensor) -> torch.Tensor:
        """(B, target classes) logits of the parsed images of a training batch."""
        return self.model(images)

    def train_loss(self, batch: dict, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss, a mean over the samples; (B, target classes) logits) of a training batch, parsed."""
        logits = self.train_logits(batch, images)
        return F.cross_entropy(logits, labels), logits

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor]:
        """One step on a training batch; returns its loss, and its accuracy in percent."""
        summary = self.train_step(batch)
        if self.cfg.OPTIM.PER_ITERATION or self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return summary

    def train_step(self, batch: dict) -> dict[str, torch.Tensor]:
        """What of a training step is the device's work alone, which TRAIN.GRAPH records once and repeats: it reads no value, and
        does the same for all batches of a shape."""
        images, labels = self.parse_batch_train(batch)
        loss, logits = self.train_loss(batch, images, labels)
        self.model_backward_and_update(loss)
        return {"loss": loss.detach(), "acc": compute_accuracy(logits.detach(), labels)[0]}

    def training_labels(self) -> torch.Tensor:
        """(training images,) labels, in the order of the data set."""
        return torch.tensor([item.label for item in self.dm.dataset.train_x], device=self.device)

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, S, S) and labels (B,) of a batch, on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)
