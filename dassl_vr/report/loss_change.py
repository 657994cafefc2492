"""For which training images a prompt raises the model's loss."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..data import DataManager
from ..deploy import PromptedModel
from ..prompting import fill_in
from ..reprogramming import Flm
from ..reprogramming.classifier import FeatureSource, TextSource
from .unprompted import pretrained_backbone, unprompted_source


@dataclass
class LossChange:
    """(samples,) loss with the prompt minus loss without, in the order of the training images."""

    change: torch.Tensor

    @property
    def rises(self) -> int:
        """Number of samples whose loss the prompt raised."""
        return int((self.change > 0).sum())


@torch.no_grad()
def loss_change(model: PromptedModel, data: DataManager, baseline: torch.Tensor | None = None) -> LossChange:
    """How the cross entropy of each single training sample differs from that of the unprompted model.

    Both models see each training image once, without augmentation:

    - prompted: the trained f_out(backbone(f_in(x))), x as in testing (for Pad: small, on a black canvas);
    - unprompted: Flm(backbone(x0)), x0 the image resized to the model's side and normalized, whatever the method. Its label
      mapping is the frequent one computed on these same unprompted training images: the best that greedy assignment gives
      without touching the input. Where a head was trained, the classes are still those of the pre-trained backbone.

    Args:
        model: of a visual-reprogramming run.
        data: see `samples.data_of`.
        baseline: the result of `unprompted_losses` for the same data and backbone, to compute it once for many runs.
    """
    baseline = unprompted_losses(model, data) if baseline is None else baseline
    losses = [_cross_entropy(model.network(images), labels) for images, _, labels in _batches(data)]
    return LossChange(torch.cat(losses) - baseline)


@torch.no_grad()
def unprompted_losses(model: PromptedModel, data: DataManager) -> torch.Tensor:
    """(samples,) cross entropy of the training samples under the unprompted model, see `loss_change`."""
    source = _unprompted_classes(model)
    mapping = Flm(len(source.source_classes), data.num_classes).to(model.device)
    mapping.reset()
    for _, plain, labels in _batches(data):
        mapping.observe(source.logits(plain), labels)
    mapping.update()
    return torch.cat([_cross_entropy(mapping(source.logits(plain)), labels) for _, plain, labels in _batches(data)])


def _unprompted_classes(model):
    """What the unprompted model says of an image: a source of logits, one for each class that its label mapping reads.

    A head on features reads no classes: then they are the backbone's own, or on CLIP one sentence per target class.
    """
    if not _reads_features(model):
        return unprompted_source(model)
    backbone, cfg = pretrained_backbone(model), model.details.cfg
    if backbone.kind == "clip":
        return TextSource(backbone, [fill_in(cfg.DATASET.TEMPLATE, name) for name in model.classnames])
    return backbone


def _class_names(model):
    """The names of these classes, without the model."""
    backbone = model.details.backbone
    if not _reads_features(model):
        return tuple(model.network.source.source_classes)
    return model.details.cfg.DATASET.TEMPLATE if backbone.kind == "clip" else tuple(backbone.source_classes)


def _reads_features(model):
    return isinstance(model.network.source, FeatureSource)


def _cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none").cpu()


def _batches(data):
    """(images as the prompt gets them, unprompted images, labels) of the training images, on the device."""
    for batch in data.train_loader_plain:
        yield tuple(batch[key].to(data.device) for key in ("img", "img0", "label"))


class BaselineCache:
    """`unprompted_losses`, computed once for all runs that share images, backbone, side and source of logits."""

    def __init__(self) -> None:
        self._losses = {}

    def get(self, model: PromptedModel, data: DataManager) -> torch.Tensor:
        cfg, details = model.details.cfg, model.details
        key = (
            data.split_sha256,
            cfg.MODEL.BACKBONE.NAME,
            details.backbone.weights_sha256,
            tuple(cfg.INPUT.SIZE),
            details.backbone.precision,
            _class_names(model),
        )
        if key not in self._losses:
            self._losses[key] = unprompted_losses(model, data)
        return self._losses[key]
