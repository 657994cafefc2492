"""Pre-trained models behind one surface: `build_backbone(name)` gives a `FrozenBackbone`."""

from .base import Backbone, BackboneSpec, FrozenBackbone
from .build import ALIASES, BACKBONE_REGISTRY, backbone_spec, build_backbone, check_backbone

__all__ = [
    "ALIASES",
    "BACKBONE_REGISTRY",
    "Backbone",
    "BackboneSpec",
    "FrozenBackbone",
    "backbone_spec",
    "build_backbone",
    "check_backbone",
]
