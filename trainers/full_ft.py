"""FullFT: full fine-tuning, the yardstick that trains everything."""

from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones import FrozenBackbone
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import PromptLearning
from dassl_vr.reprogramming import HeadMapping, PlainInput
from dassl_vr.reprogramming.classifier import FeatureSource, ReprogrammedClassifier


@TRAINER_REGISTRY.register()
class FullFT(PromptLearning):
    """A new linear head on a backbone that is trained with it; of a CLIP, the image tower."""

    freeze_backbone = False

    @classmethod
    def build_network(cls, cfg: CN, backbone: FrozenBackbone, classnames: Sequence[str]) -> ReprogrammedClassifier:
        backbone.freeze_unused()
        head = HeadMapping(backbone.out_features, len(classnames))
        return ReprogrammedClassifier(PlainInput(), FeatureSource(backbone), head)

    @classmethod
    def trained_parts(cls, cfg: CN, network: ReprogrammedClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"model": (network, cfg.OPTIM)}
