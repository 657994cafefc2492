"""A new way into the image in a file of its own: a learned affine transform, for the tests of plug-ins."""

import torch
from torch import nn
from torch.nn import functional as F

from dassl_vr.reprogramming import INPUT_REGISTRY, InputPrompt


@INPUT_REGISTRY.register(name="affine")
class Affine(InputPrompt):
    """Moves, turns and stretches every image alike; starts as the identity."""

    def __init__(self, size):
        super().__init__()
        self.theta = nn.Parameter(torch.eye(2, 3))

    def forward(self, x):
        grid = F.affine_grid(self.theta.expand(x.shape[0], -1, -1), x.shape, align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)
