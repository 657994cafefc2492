"""CLIP's own head: the text features of the class names."""

import torch

from .base import CLASSES, MAPPING_REGISTRY, LabelMapping


@MAPPING_REGISTRY.register(name="text")
class TextMapping(LabelMapping):
    """The identity: the source labels are the target classes already, as text features of their names (CLIP).

    Raises:
        ValueError: there are not as many source as target classes.
    """

    reads = CLASSES
    takes_new_classes = True

    def __init__(self, num_source: int, num_target: int):
        if num_source != num_target:
            raise ValueError(
                f"{num_source} source classes for {num_target} target classes: MAPPING text expects as many, and an f_in with one"
                " view of an image"
            )
        super().__init__(num_source, num_target)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits
