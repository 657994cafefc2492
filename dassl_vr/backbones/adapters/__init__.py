"""One file per library of models. A new file here that defines `ADAPTER` is found by itself."""

import importlib
import pkgutil
from functools import cache

from torch import nn

from ..base import BackboneSpec, FrozenBackbone, TokenLayout


class Adapter:
    """Knows the models of one library. Importing the library waits until a method needs it.

    Attributes:
        library: prefix of the names, as in `torchvision:resnet18`.
        order: for a name without prefix, adapters are asked in this order.
    """

    library = ""
    order = 0

    def names(self):
        """All model names, for suggestions."""
        raise NotImplementedError

    def owns(self, model_name):
        """Is there such a model, and with such a tag if the name has one?"""
        raise NotImplementedError

    def spec(self, model_name) -> BackboneSpec:
        """Facts of a model, without building or downloading it."""
        raise NotImplementedError

    def build(self, spec, pretrained, weights, verbose) -> nn.Module:
        """The model for `spec.input_size`; weights from the `WeightsFile` `weights` if given, else the hub's if `pretrained`."""
        raise NotImplementedError

    def source_classes(self, spec):
        """Names of the classes in the order of the logits."""
        raise NotImplementedError

    def logits(self, model, x):
        return model(x)

    def features(self, model, x):
        """(B, D): what the classifier sees."""
        raise NotImplementedError

    def classifier(self, model):
        """The layer, or layers, that make the logits; None = there is none, or it is not known."""

    def num_features(self, model):
        """D, or None when unknown before the first call."""
        raise NotImplementedError

    def tokens(self, model) -> TokenLayout:
        """Where the patch tokens of a transformer run; only asked where the spec says `tokens`."""
        raise NotImplementedError

    def wrap(self, model, spec, **kwargs) -> FrozenBackbone:
        """The surface that trainers see."""
        return FrozenBackbone(model, spec, self, self.source_classes(spec), **kwargs)


@cache
def adapters():
    """{library: adapter} in the order in which they are asked."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    found = sorted((module.ADAPTER for module in modules), key=lambda adapter: adapter.order)
    return {adapter.library: adapter for adapter in found}


def imagenet1k_classes():
    """The thousand ImageNet class names in short form, which torchvision keeps with its weights."""
    from torchvision.models import ResNet18_Weights

    return ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
