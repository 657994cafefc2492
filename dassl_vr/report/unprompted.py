"""A trained model as it was before: the pre-trained one, and the images as it would see them without a prompt."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn

from ..backbones.from_cfg import backbone_from_cfg
from ..data.transforms import plain_pipeline
from ..deploy import PromptedModel
from ..prompting import FixedClassifier, fill_in
from ..reprogramming.classifier import source_on


def pretrained_backbone(model: PromptedModel) -> nn.Module:
    """The backbone inside of a model without what was trained."""
    backbone = model.details.backbone
    if backbone.frozen:
        return backbone
    return backbone_from_cfg(model.details.cfg, backbone.precision).to(model.device)  # fine-tuned: built anew


def unprompted_source(model: PromptedModel) -> nn.Module:
    """What the f_out of a reprogrammed classifier reads of a view, on the backbone without a prompt in it."""
    return source_on(model.network.source, pretrained_backbone(model))


def plain_images(model: PromptedModel, images: Sequence[Image.Image], x: torch.Tensor) -> torch.Tensor:
    """(N, 3, S, S) images as the backbone would see them without any prompt: `x`, but for methods that make room around them."""
    cfg = model.details.cfg
    if "vr_pad" not in cfg.INPUT.TRANSFORMS:
        return x
    pipeline = plain_pipeline(cfg, normalize="normalize" in cfg.INPUT.TRANSFORMS)
    return torch.stack([pipeline(image) for image in images]).to(model.device)


class UnpromptedModel:
    """The pre-trained model with its own classes, or for a CLIP with the target classes in the data set's template.

    Attributes:
        classes: names; `what` these are, in words.
        logits: (B, 3, S, S) normalized images -> (B, classes). There is none without classes.
    """

    def __init__(self, model: PromptedModel):
        cfg, backbone = model.details.cfg, pretrained_backbone(model)
        if backbone.kind == "clip":
            self.classes, self.what = model.classnames, "CLIP without training"
            network = FixedClassifier(backbone, [[fill_in(cfg.DATASET.TEMPLATE, name)] for name in model.classnames])
            self.logits = network.to(model.device)
        else:
            self.classes, self.what = backbone.source_classes, "source classes"
            self.logits = backbone.logits
