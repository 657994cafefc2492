"""The small models whose weights come with this package, see `dassl_vr.backbones.tiny`."""

from collections.abc import Sequence

from torch import nn

from ...utils.errors import ConfigError
from ..base import BackboneSpec, FrozenBackbone
from ..tiny import (
    MEAN,
    PATCH,
    SIZE,
    STD,
    WEIGHTS,
    create_tiny_clip,
    create_tiny_vit,
    tiny_clip_config,
    tiny_clip_tokenizer,
    vit_classes,
)
from ..weights import WeightsFile
from . import Adapter
from .open_clip_models import OpenClipAdapter
from .timm_models import TimmAdapter

_LIBRARY = "tiny"
_VIT, _CLIP = "vit_patch16_64", "clip_vit_patch16_64"


class _Vit(TimmAdapter):
    library = _LIBRARY

    def spec(self, model_name):
        return BackboneSpec(f"{_LIBRARY}:{model_name}", "vit", SIZE, MEAN["vit"], STD["vit"], len(vit_classes()), tokens=True)

    def source_classes(self, spec):
        return vit_classes()

    def build(self, spec, pretrained, weights, verbose):
        model = create_tiny_vit(spec.input_size)
        file = weights or (WeightsFile(WEIGHTS["vit"]) if pretrained else None)
        if file:
            self._load(model, spec, file)
        return model


class _Clip(OpenClipAdapter):
    library = _LIBRARY

    def spec(self, model_name):
        return self.spec_of(model_name, tiny_clip_config(), {"mean": MEAN["clip"], "std": STD["clip"]})

    def create(self, spec, architecture):
        return create_tiny_clip(spec.input_size)

    def _from_hub(self, spec, architecture, tag):
        return WEIGHTS["clip"]

    def tokenizer(self, spec):
        return tiny_clip_tokenizer()


class TinyAdapter(Adapter):
    """Hands each model to the adapter of the library that its classes come from."""

    library = _LIBRARY
    order = 50
    _adapters = {_VIT: _Vit(), _CLIP: _Clip()}

    def names(self) -> list[str]:
        return list(self._adapters)

    def owns(self, model_name: str) -> bool:
        return model_name in self._adapters

    def spec(self, model_name: str) -> BackboneSpec:
        return self._adapters[model_name].spec(model_name)

    def source_classes(self, spec: BackboneSpec) -> Sequence[str]:
        return self._adapters[spec.model_name].source_classes(spec)

    def build(self, spec: BackboneSpec, pretrained: bool, weights: WeightsFile | None, verbose: bool) -> nn.Module:
        if spec.input_size % PATCH:
            raise ConfigError(
                f"INPUT.SIZE is {spec.input_size}, expected a multiple of {PATCH}, the patch of backbone '{spec.name}'"
            )
        return self._adapters[spec.model_name].build(spec, pretrained, weights, verbose)

    def wrap(self, model: nn.Module, spec: BackboneSpec, **kwargs) -> FrozenBackbone:
        return self._adapters[spec.model_name].wrap(model, spec, **kwargs)


ADAPTER = TinyAdapter()
