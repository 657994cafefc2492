"""One file per library of models. A new file here that defines `ADAPTER` is found by itself."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import nn

from ...utils.modules import modules_in
from ..base import BackboneSpec, FrozenBackbone, TokenLayout
from ..weights import WeightsFile


class Adapter:
    """Knows the models of one library. Importing the library waits until a method needs it.

    Attributes:
        library: prefix of the names, as in `torchvision:resnet18`.
        order: for a name without prefix, adapters are asked in this order.
    """

    library = ""
    order = 0

    def names(self) -> list[str]:
        """All model names, for suggestions."""
        raise NotImplementedError

    def owns(self, model_name: str) -> bool:
        """Is there such a model, and with such a tag if the name has one?"""
        raise NotImplementedError

    def spec(self, model_name: str) -> BackboneSpec:
        """Facts of a model, without building or downloading it."""
        raise NotImplementedError

    def build(self, spec: BackboneSpec, pretrained: bool, weights: WeightsFile | None, verbose: bool) -> nn.Module:
        """The model for `spec.input_size`; weights from the `WeightsFile` `weights` if given, else the hub's if `pretrained`."""
        raise NotImplementedError

    def source_classes(self, spec: BackboneSpec) -> Sequence[str]:
        """Names of the classes in the order of the logits."""
        raise NotImplementedError

    def logits(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return model(x)

    def features(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """(B, D): what the classifier sees."""
        raise NotImplementedError

    def classifier(self, model: nn.Module) -> nn.Module | Sequence[nn.Module] | None:
        """The layer, or layers, that make the logits; None = there is none, or it is not known."""

    def num_features(self, model: nn.Module) -> int | None:
        """D, or None when unknown before the first call."""
        raise NotImplementedError

    def tokens(self, model: nn.Module) -> TokenLayout:
        """Where the patch tokens of a transformer run; only asked where the spec says `tokens`."""
        raise NotImplementedError

    def wrap(self, model: nn.Module, spec: BackboneSpec, **kwargs) -> FrozenBackbone:
        """The surface that trainers see."""
        return FrozenBackbone(model, spec, self, self.source_classes(spec), **kwargs)


@cache
def adapters() -> dict[str, Adapter]:
    """{library: adapter} in the order in which they are asked."""
    found = sorted((module.ADAPTER for module in modules_in(__name__, __path__)), key=lambda adapter: adapter.order)
    return {adapter.library: adapter for adapter in found}


def imagenet1k_classes() -> list[str]:
    """The thousand ImageNet class names in short form, which torchvision keeps with its weights."""
    from torchvision.models import ResNet18_Weights

    return ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
