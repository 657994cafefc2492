"""FullFT: full fine-tuning, the yardstick that trains everything."""

from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import PromptLearning
from dassl_vr.reprogramming import HeadMapping, PlainInput
from dassl_vr.reprogramming.classifier import FeatureSource, ReprogrammedClassifier


@TRAINER_REGISTRY.register()
class FullFT(PromptLearning):
    """A new linear head on a backbone that is trained with it; of a CLIP, the image tower."""

    freeze_backbone = False

    @classmethod
    def build_network(cls, cfg, backbone, classnames):
        backbone.freeze_unused()
        head = HeadMapping(backbone.out_features, len(classnames))
        return ReprogrammedClassifier(PlainInput(), FeatureSource(backbone), head)

    @classmethod
    def trained_parts(cls, cfg, network):
        return {"model": (network, cfg.OPTIM)}
