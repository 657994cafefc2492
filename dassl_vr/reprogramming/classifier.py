"""A reprogrammed classifier as one module, and what may stand for its source labels besides a backbone's own classes."""

from torch import nn
from torch.nn import functional as F


class ReprogrammedClassifier(nn.Module):
    """f_out o f_P o f_in: prompts the image, runs the frozen backbone, maps source logits to target logits.

    Args:
        f_in: (B, 3, S, S) -> (B, 3, S, S) on normalized images, for example `SampleSpecificMask`.
        backbone: has `logits((B, 3, S, S)) -> (B, source classes)`: a frozen backbone, `TextSource` or `FeatureSource`.
        f_out: a label mapping, (B, source classes) -> (B, target classes).
    """

    def __init__(self, f_in, backbone, f_out):
        super().__init__()
        self.f_in = f_in
        self.backbone = backbone
        self.f_out = f_out

    def forward(self, x):
        """(B, 3, S, S) normalized images -> (B, target classes) logits."""
        return self.f_out(self.backbone.logits(self.f_in(x)))


class _Source(nn.Module):
    def __init__(self, backbone, source_classes):
        super().__init__()
        self.backbone = backbone
        self.source_classes = list(source_classes)

    def features(self, x):
        """(B, 3, S, S) normalized images -> (B, D)"""
        return self.backbone.features(x)


class FeatureSource(_Source):
    """A backbone's features in place of its logits, for a layer of one's own on top."""

    def __init__(self, backbone):
        super().__init__(backbone, [f"feature {i}" for i in range(backbone.out_features)])

    def logits(self, x):
        """(B, 3, S, S) normalized images -> (B, D) features."""
        return self.backbone.features(x)


class TextSource(_Source):
    """Prompts as source labels: the logit of a prompt is the scaled cosine of the image's and the prompt's features (CLIP).

    Args:
        backbone: a `ClipBackbone`.
        prompts: one sentence a source label; their features are computed here, once.
    """

    def __init__(self, backbone, prompts):
        super().__init__(backbone, prompts)
        self.register_buffer("text_features", backbone.text_features(self.source_classes), persistent=False)  # (source, D)

    def logits(self, x):
        """(B, 3, S, S) normalized images -> (B, source) logits."""
        return self.backbone.scale * F.normalize(self.backbone.features(x), dim=-1) @ self.text_features.T


def source_on(source, backbone):
    """What `source` is (a backbone, `TextSource` or `FeatureSource`), on `backbone` in place of its own one with a prompt in it."""
    if isinstance(source, FeatureSource):
        return FeatureSource(backbone)
    if isinstance(source, TextSource):
        return TextSource(backbone, source.source_classes)
    return backbone


def inner_backbone(network):
    """The pre-trained model inside of a network, whatever is wrapped around it."""
    backbone = network.backbone
    while hasattr(backbone, "backbone"):
        backbone = backbone.backbone
    return backbone
