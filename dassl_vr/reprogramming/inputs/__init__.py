"""Input side of visual reprogramming (f_in): modules that write something trainable into normalized images.

A new one is a class in a file of this folder, which is found by itself, or in a plug-in:

    @INPUT_REGISTRY.register(name="colour")
    class Colour(InputPrompt):
        def __init__(self, size: int):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.shift

`TRAINER.VR.METHOD colour` trains it. `InputPrompt` says what may be added.
"""

from ...utils.modules import modules_in
from .base import INPUT_REGISTRY, InputPrompt, PlainInput
from .pad import Pad, centred_box
from .smm import MaskGenerator, OnlyMask, SampleSpecificMask, SingleChannelMask
from .watermark import FRAMES, FullWatermark, MediumWatermark, NarrowWatermark, Watermark, frame_width

modules_in(__name__, __path__)  # every file registers what it defines
