"""Visual reprogramming as plain `torch.nn` modules: input patterns (f_in) and label mappings (f_out).

A reprogrammed model is `mapping(backbone(pattern(images)))` with a frozen backbone. Nothing here knows the engine or
its configuration; wrong arguments raise `ValueError`.
"""

from .input import (
    FRAMES,
    MaskGenerator,
    Pad,
    PlainInput,
    SampleSpecificMask,
    Watermark,
    centred_box,
    frame_width,
    patch_interpolate,
)
from .mapping import (
    MAPPINGS,
    Blm,
    BlmPlus,
    Flm,
    Ilm,
    LabelMapping,
    LinearMapping,
    Rlm,
    TextMapping,
    bayesian_weights,
    greedy_assignment,
)

__all__ = [
    "FRAMES",
    "MAPPINGS",
    "Blm",
    "BlmPlus",
    "Flm",
    "Ilm",
    "LabelMapping",
    "LinearMapping",
    "MaskGenerator",
    "Pad",
    "PlainInput",
    "Rlm",
    "SampleSpecificMask",
    "TextMapping",
    "Watermark",
    "bayesian_weights",
    "centred_box",
    "frame_width",
    "greedy_assignment",
    "patch_interpolate",
]
