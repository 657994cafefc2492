"""A reprogrammed classifier as one module, and the sources of logits that an f_out may read.

A source has `logits((B, 3, S, S)) -> (B, source)`, `features((B, 3, S, S)) -> (B, D)` and `source_classes`, a name for each logit.
A frozen backbone is one. `SOURCE_REGISTRY` holds a function for each kind, `(options, backbone, classnames) -> source`, under the
name that a mapping's `reads` has. `options` are the trainer's keys; on CLIP also PROMPTS (sentences about the classes, all
templates) and CLASS_PROMPTS (one sentence per class). It raises `ValueError` for a backbone that lacks what is read.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from ..utils.registry import Registry
from .mappings import CLASSES, EMBEDDING, FEATURES, LABELS

SOURCE_REGISTRY = Registry("source of logits")


class ReprogrammedClassifier(nn.Module):
    """f_out o f_P o f_in: prompts the image, runs the frozen backbone, maps source logits to target logits.

    Args:
        f_in: (B, 3, S, S) -> (B, 3, S, S) on normalized images, for example `SampleSpecificMask`.
        backbone: has `logits((B, 3, S, S)) -> (B, source classes)`: a frozen backbone, `TextSource` or `FeatureSource`; of an f_in
            with several views `SeveralViews` of one.
        f_out: a label mapping, (B, source classes) -> (B, target classes).
    """

    def __init__(self, f_in: nn.Module, backbone: nn.Module, f_out: nn.Module):
        super().__init__()
        self.f_in = f_in
        self.backbone = backbone
        self.f_out = f_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, target classes) logits."""
        return self.f_out(self.backbone.logits(self.f_in(x)))

    @property
    def source(self) -> nn.Module:
        """What gives the logits of a single image: `backbone`, but for views."""
        return self.backbone.backbone if isinstance(self.backbone, SeveralViews) else self.backbone


class Source(nn.Module):
    """Base of sources that put something of their own behind a backbone.

    Args:
        backbone: has `features` and `out_features`.
        source_classes: a name for each logit.
    """

    def __init__(self, backbone: nn.Module, source_classes: Sequence[str]):
        super().__init__()
        self.backbone = backbone
        self.source_classes = list(source_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D)"""
        return self.backbone.features(x)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, source)"""
        raise NotImplementedError

    def on(self, backbone: nn.Module) -> "Source":
        """The same on another backbone."""
        return type(self)(backbone)


class FeatureSource(Source):
    """A backbone's features in place of its logits, for a layer of one's own on top.

    Args:
        backbone: has `features((B, 3, S, S)) -> (B, D)` and `out_features`, which is D.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone, [f"feature {i}" for i in range(backbone.out_features)])

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) features."""
        return self.backbone.features(x)


class TextSource(Source):
    """Prompts as source labels: the logit of a prompt is the scaled cosine of the image's and the prompt's features (CLIP).

    Args:
        backbone: a `ClipBackbone`.
        prompts: one sentence a source label; their features are computed here, once.
    """

    def __init__(self, backbone: nn.Module, prompts: Sequence[str]):
        super().__init__(backbone, prompts)
        self.register_buffer("text_features", backbone.text_features(self.source_classes), persistent=False)  # (source, D)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, source) logits."""
        return self.backbone.scale * F.normalize(self.backbone.features(x), dim=-1) @ self.text_features.T

    def on(self, backbone: nn.Module) -> "TextSource":
        return type(self)(backbone, self.source_classes)


class EmbeddingSource(FeatureSource):
    """A CLIP's image features, of the length of its scale: times a sentence's features they are the logit of the sentence."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D)"""
        return self.backbone.scale * F.normalize(self.backbone.features(x), dim=-1)


class SeveralViews(Source):
    """A source for an f_in that makes several views of an image: what it gives of each, side by side.

    Args:
        source: of the logits of a single image.
        views: that follow one another in a batch.
    """

    def __init__(self, source: nn.Module, views: int):
        super().__init__(source, [*source.source_classes] * views)
        self.views = views

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B * views, 3, S, S) normalized images -> (B, views * D)"""
        return self._side_by_side(self.backbone.features(x))

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B * views, 3, S, S) normalized images -> (B, views * source)"""
        return self._side_by_side(self.backbone.logits(x))

    def _side_by_side(self, rows):
        return rows.reshape(-1, self.views * rows.shape[1])

    def on(self, backbone: nn.Module) -> "SeveralViews":
        return type(self)(source_on(self.backbone, backbone), self.views)


def source_on(source: nn.Module, backbone: nn.Module) -> nn.Module:
    """What `source` is (a backbone or a `Source`), on `backbone` in place of its own one with a prompt in it."""
    return source.on(backbone) if isinstance(source, Source) else backbone


def inner_backbone(network: nn.Module) -> nn.Module:
    """The pre-trained model inside of a network, whatever is wrapped around it."""
    backbone = network.backbone
    while hasattr(backbone, "backbone"):
        backbone = backbone.backbone
    return backbone


@SOURCE_REGISTRY.register(name=LABELS)
def source_labels(options: CfgNode, backbone: nn.Module, classnames: Sequence[str]) -> nn.Module:
    """The backbone's own classes, or on CLIP the sentences in `options.PROMPTS`."""
    return TextSource(backbone, options.PROMPTS) if backbone.kind == "clip" else backbone


@SOURCE_REGISTRY.register(name=FEATURES)
def features(options: CfgNode, backbone: nn.Module, classnames: Sequence[str]) -> FeatureSource:
    """The backbone's features."""
    return FeatureSource(backbone)


@SOURCE_REGISTRY.register(name=CLASSES)
def class_sentences(options: CfgNode, backbone: nn.Module, classnames: Sequence[str]) -> TextSource:
    """One sentence a target class, `options.CLASS_PROMPTS`."""
    _check_text_tower(options, backbone)
    return TextSource(backbone, options.CLASS_PROMPTS)


@SOURCE_REGISTRY.register(name=EMBEDDING)
def embedding(options: CfgNode, backbone: nn.Module, classnames: Sequence[str]) -> EmbeddingSource:
    """The image features of a CLIP."""
    _check_text_tower(options, backbone)
    return EmbeddingSource(backbone)


def _check_text_tower(options, backbone):
    if backbone.kind != "clip":
        raise ValueError(f"MAPPING {options.MAPPING} needs a text tower; take a CLIP backbone or another MAPPING")
