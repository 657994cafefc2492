"""What trainers share that learn in front of a CLIP's text tower: features of images without a prompt, which are computed once."""

import torch
from torch import nn
from tqdm import tqdm
from yacs.config import CfgNode

from ..data import build_transform
from ..engine.resume import stoppable
from ..prompting import TextPromptedClassifier
from ..utils.distributed import no_progress_bar, sum_
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
        super().before_train()
        cached = self.cfg.TRAIN.CACHE_FEATURES and build_transform(self.cfg, is_train=True).repeatable
        self._features = self._all_features() if cached else None

    @torch.no_grad()
    def _all_features(self):
        """(training images, D), always computed in the same batches, so that a resumed run has the same bits."""
        features = None
        bar = tqdm(self.dm.train_loader_all, desc="image features", disable=no_progress_bar(), leave=False)
        for batch in stoppable(self, bar):
            part = self.model.backbone.image_features(self.parse_batch_test(batch)[0])
            if features is None:
                features = part.new_zeros(len(self.dm.dataset.train_x), part.shape[1])
            features[batch["index"].to(part.device)] = part
        return sum_(features)  # each process has those of its part of the images

    def train_features(self, batch: dict, images: torch.Tensor) -> torch.Tensor:
        """(B, D) features of unit length of the parsed images of a training batch, to the backbone without any prompt."""
        if self._features is None:
            return self.model.backbone.image_features(images)
        return self._features[batch["index"].to(self.device)]

    def train_logits(self, batch: dict, images: torch.Tensor) -> torch.Tensor:
        return self.model.classify(self.train_features(batch, images))
