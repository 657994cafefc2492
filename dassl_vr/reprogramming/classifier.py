"""A reprogrammed classifier as one module."""

from torch import nn


class ReprogrammedClassifier(nn.Module):
    """f_out o f_P o f_in: prompts the image, runs the frozen backbone, maps source logits to target logits.

    Args:
        f_in: (B, 3, S, S) -> (B, 3, S, S) on normalized images, for example `SampleSpecificMask`.
        backbone: has `logits((B, 3, S, S)) -> (B, source classes)`, frozen.
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
