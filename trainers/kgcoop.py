"""KgCoOp: knowledge-guided context optimization (Yao et al., CVPR 2023)."""

import torch
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from dassl_vr.config.ranges import Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.prompting import fill_in

from .coop import CoOp, add_context_keys


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer, under the names of the published code, which has them beside CoOp's."""
    node = add_context_keys(cfg, "KgCoOp")
    # Words to start from ("" = random)
    node.CTX_INIT = "a photo of a"
    # Weight of the distance between the learned prompts' text features and those of DATASET.TEMPLATE
    node.W = 8.0


@TRAINER_REGISTRY.register()
class KgCoOp(CoOp):
    """CoOp's context, kept near what a hand-made sentence about the class says to the text tower.

    loss = cross-entropy + W (1 - mean over the classes of cos(t, t')), t the features of the learned prompt and t' those of
    `DATASET.TEMPLATE` ("Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", section 3.2). The paper writes
    the distance |t - t'|^2, which is twice the published code's and this one.
    """

    ranges = {"W": Range(0, 10**6)}

    def before_train(self) -> None:
        super().before_train()
        sentences = [fill_in(self.cfg.DATASET.TEMPLATE, name) for name in self.dm.dataset.classnames]
        self._hand_made = self.model.backbone.text_features(sentences)  # (K, D)

    def train_loss(self, batch: dict, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        text = self.model.text_features()  # (K, D)
        logits = self.model.backbone.scale * self.train_features(batch, images) @ text.T
        distance = 1 - (text * self._hand_made).sum(dim=-1).mean()
        return F.cross_entropy(logits, labels) + self.options.W * distance, logits
