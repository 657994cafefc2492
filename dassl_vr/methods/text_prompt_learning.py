"""What trainers share that learn in front of a CLIP's text tower: features of images without a prompt, which are computed once."""

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from ..prompting import TextPromptedClassifier
from .image_features import ImageFeatures
from .prompt_learning import PromptLearning


class TextPromptLearning(PromptLearning):
    """A method that learns in front of a CLIP's text tower, from features of images that no prompt changes (`train_features`).

    Where each training image is the same in every epoch these are computed once (TRAIN.CACHE_FEATURES). The network is a
    `prompting.TextPromptedClassifier`; one that prompts the image tower as well has a `train_loss` of its own. Asks for
    `dm.train_loader_all` besides what `PromptLearning` asks.
    """

    backbone_kinds = ("clip",)
    needs_text_tokens = True

    @classmethod
    def takes_new_classes(cls, cfg: CfgNode) -> bool:
        return True

    @classmethod
    def trained_parts(cls, cfg: CfgNode, network: TextPromptedClassifier) -> dict[str, tuple[nn.Module, CfgNode]]:
        return {"prompt_learner": (network.prompts, cfg.OPTIM)}

    def before_train(self) -> None:
        """Compute the features of the training images, where they are the same in every epoch."""
        super().before_train()
        features = ImageFeatures(self)
        self._features = None if features.varied else F.normalize(features.version(0), dim=-1)  # (training images, D)

    def train_features(self, batch: dict, images: torch.Tensor) -> torch.Tensor:
        """(B, D) features of unit length of the parsed images of a training batch, to the backbone without any prompt."""
        if self._features is None:
            return self.model.backbone.image_features(images)
        return self._features[batch["index"].to(self.device)]

    def train_logits(self, batch: dict, images: torch.Tensor) -> torch.Tensor:
        return self.model.classify(self.train_features(batch, images))
