"""PromptSRC: prompting with self-regulating constraints (Khattak et al., ICCV 2023)."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import TOKENS, Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import TextPromptLearning
from dassl_vr.prompting import ContextPrompts, IndependentClassifier, fill_in, varied_templates


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer, under the names of the published code."""
    node = cfg.TRAINER.PROMPTSRC = CN()
    # Visual tokens per block
    node.N_CTX_VISION = 4
    # Text tokens per block
    node.N_CTX_TEXT = 4
    # Words whose first N_CTX_TEXT tokens the prompt starts from; the others stay words ("" = random)
    node.CTX_INIT = "a photo of a"
    # Blocks of the image tower with tokens of their own
    node.PROMPT_DEPTH_VISION = 9
    # Blocks of the text tower with tokens of their own
    node.PROMPT_DEPTH_TEXT = 9
    # Weight of the distance between text features with the prompt and without
    node.TEXT_LOSS_WEIGHT = 25.0
    # Weight of the distance between image features with the prompt and without
    node.IMAGE_LOSS_WEIGHT = 10.0
    # Epoch, counted from 1, whose tokens count most in the average
    node.GPA_MEAN = 15.0
    # Standard deviation of the epochs' weights in the average
    node.GPA_STD = 1.0


def share_of_newest(epochs: int, mean: float, std: float) -> float:
    """What the last of `epochs` epochs counts in their average, where epoch n (from 1) has the weight exp(-(n - mean)^2 / 2 std^2).

    Taking in epoch after epoch with its share gives the average with all weights divided by their sum (PromptSRC, section 3.2).
    """
    exponents = [-0.5 * ((n - mean) / std) ** 2 for n in range(1, epochs + 1)]
    largest = max(exponents)  # far from the mean all weights would round to zero
    return math.exp(exponents[-1] - largest) / sum(math.exp(exponent - largest) for exponent in exponents)


@TRAINER_REGISTRY.register()
class PromptSRC(TextPromptLearning):
    """Text and visual tokens in the first blocks of both towers, kept near the frozen CLIP and averaged over the epochs.

    loss = cross-entropy + TEXT_LOSS_WEIGHT mean |t - t'| + IMAGE_LOSS_WEIGHT mean |v - v'| + KL(p' || p) / K, where t, v and p are
    features and probabilities with the prompts, v' and p' those without, and t' the mean of a class's features in sixty templates
    ("Self-regulating Prompts: Foundational Model Adaptation without Forgetting", section 3.2; 1 / K as in the published code).

    Outside of training the tokens are their average over the epochs so far, with Gaussian weights around epoch GPA_MEAN. After the
    last epoch that is the published model; before, a run can be validated and continued as any other.
    """

    needs_tokens = True
    ranges = {
        **dict.fromkeys(("N_CTX_VISION", "N_CTX_TEXT", "PROMPT_DEPTH_VISION", "PROMPT_DEPTH_TEXT"), TOKENS),
        **{"TEXT_LOSS_WEIGHT": Range(0, 10**6), "IMAGE_LOSS_WEIGHT": Range(0, 10**6)},
        **{"GPA_MEAN": Range(-(10**6), 10**6), "GPA_STD": Range(1e-3, 10**6)},
    }

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> IndependentClassifier:
        options = cls.options_in(cfg)
        prompts = ContextPrompts(backbone, classnames, options.N_CTX_TEXT, options.CTX_INIT)
        return IndependentClassifier(
            backbone, prompts, options.N_CTX_VISION, options.PROMPT_DEPTH_TEXT, options.PROMPT_DEPTH_VISION
        )

    @classmethod
    def trained_parts(cls, cfg: CN, network: IndependentClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"prompt_learner": (network.learned, cfg.OPTIM)}

    def before_train(self) -> None:
        super().before_train()
        names, backbone = self.dm.dataset.classnames, self.model.backbone
        templates = varied_templates()
        features = sum(backbone.text_features([fill_in(t, name) for name in names], unit=False) for t in templates)
        self._frozen_text = F.normalize(features / len(templates), dim=-1)  # (K, D)

    def train_loss(self, batch: dict, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        options, scale = self.options, self.model.backbone.scale
        text, image = self.model.text_features(), self.model.image_features(images)  # (K, D), (B, D)
        frozen_image = self.train_features(batch, images)
        logits, frozen_logits = scale * image @ text.T, scale * frozen_image @ self._frozen_text.T
        loss = F.cross_entropy(logits, labels)
        loss = loss + options.TEXT_LOSS_WEIGHT * F.l1_loss(text, self._frozen_text)
        loss = loss + options.IMAGE_LOSS_WEIGHT * F.l1_loss(image, frozen_image)
        divergence = F.kl_div(logits.log_softmax(dim=1), frozen_logits.log_softmax(dim=1), reduction="sum", log_target=True)
        return loss + divergence / logits.numel(), logits  # a mean over images and classes

    def after_epoch(self) -> None:
        self.model.learned.average(share_of_newest(self.epoch + 1, self.options.GPA_MEAN, self.options.GPA_STD))
        super().after_epoch()
