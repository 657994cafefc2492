"""LinearProbe: a linear layer on frozen features, the yardstick without any prompt."""

from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones import FrozenBackbone
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import PromptLearning
from dassl_vr.reprogramming import HeadMapping, PlainInput
from dassl_vr.reprogramming.classifier import FeatureSource, ReprogrammedClassifier


@TRAINER_REGISTRY.register()
class LinearProbe(PromptLearning):
    """A linear classifier on what the frozen backbone's own classifier sees."""

    @classmethod
    def build_network(cls, cfg: CN, backbone: FrozenBackbone, classnames: Sequence[str]) -> ReprogrammedClassifier:
        head = HeadMapping(backbone.out_features, len(classnames))
        return ReprogrammedClassifier(PlainInput(), FeatureSource(backbone), head)

    @classmethod
    def trained_parts(cls, cfg: CN, network: ReprogrammedClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"head": (network.f_out, cfg.OPTIM)}
