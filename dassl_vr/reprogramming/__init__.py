"""Visual reprogramming as plain `torch.nn` modules: input prompts (f_in) and label mappings (f_out).

A reprogrammed model is `mapping(backbone(prompt(images)))` with a frozen backbone. Nothing here knows the engine or
its configuration; wrong arguments raise `ValueError`.
"""

from .assignment import bayesian_weights, greedy_assignment
from .classifier import SOURCE_REGISTRY, FeatureSource, ReprogrammedClassifier, TextSource
from .inputs import (
    FRAMES,
    INPUT_REGISTRY,
    InputPrompt,
    MaskGenerator,
    Pad,
    PlainInput,
    SampleSpecificMask,
    Watermark,
    centred_box,
    frame_width,
)
from .mappings import (
    MAPPING_REGISTRY,
    Blm,
    BlmPlus,
    Flm,
    HeadMapping,
    Ilm,
    LabelMapping,
    LinearMapping,
    Rlm,
    TextMapping,
)
from .upsampling import patch_interpolate, pixel_accesses

__all__ = [
    "FRAMES",
    "INPUT_REGISTRY",
    "MAPPING_REGISTRY",
    "SOURCE_REGISTRY",
    "Blm",
    "BlmPlus",
    "FeatureSource",
    "Flm",
    "HeadMapping",
    "Ilm",
    "InputPrompt",
    "LabelMapping",
    "LinearMapping",
    "MaskGenerator",
    "Pad",
    "PlainInput",
    "ReprogrammedClassifier",
    "Rlm",
    "SampleSpecificMask",
    "TextMapping",
    "TextSource",
    "Watermark",
    "bayesian_weights",
    "centred_box",
    "frame_width",
    "greedy_assignment",
    "patch_interpolate",
    "pixel_accesses",
]
