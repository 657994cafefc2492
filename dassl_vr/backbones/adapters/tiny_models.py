"""The small models whose weights come with this package, see `dassl_vr.backbones.tiny`."""

from ..base import BackboneSpec
from ..tiny import MEAN, SIZE, STD, WEIGHTS, create_tiny_vit, vit_classes
from .timm_models import TimmAdapter

_VIT = "vit_patch16_64"


class TinyAdapter(TimmAdapter):
    library = "tiny"
    order = 40

    def names(self):
        return [_VIT]

    def owns(self, model_name):
        return model_name in self.names()

    def spec(self, model_name):
        return BackboneSpec(f"{self.library}:{model_name}", "vit", SIZE, MEAN["vit"], STD["vit"], len(vit_classes()))

    def source_classes(self, spec):
        return vit_classes()

    def build(self, spec, pretrained, weights, verbose):
        model = create_tiny_vit(spec.input_size)
        self._check_patches(model, spec)
        file = weights or (WEIGHTS["vit"] if pretrained else None)
        if file:
            self._load(model, spec, file)
        return model


ADAPTER = TinyAdapter()
