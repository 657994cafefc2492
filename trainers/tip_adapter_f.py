"""TipAdapterF: a cache of training images beside CLIP's text head, its keys trained ("Tip-Adapter: Training-free Adaption of CLIP
for Few-shot Classification", Zhang et al., ECCV 2022).

    logit_c(v) = s v . t_c + ALPHA sum_(i of class c) exp(-BETA (1 - v . k_i))

v is the image's feature of unit length, t_c that of the sentence of class c, s CLIP's scale. A key k_i starts as the mean feature
of augmented versions of a training image, brought to unit length; the keys are all that is trained.

SEARCH val chooses ALPHA and BETA after the last epoch, by the accuracy on the validation images, on the published grid. The
published code also keeps the epoch with the best test accuracy; here the test split selects nothing.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.engine.resume import stoppable
from dassl_vr.methods import FeatureClassifier, FeatureLearning, add_feature_keys
from dassl_vr.prompting import fill_in
from dassl_vr.utils.distributed import no_progress_bar, sum_
from dassl_vr.utils.errors import ConfigError

SHOTS, LARGEST = 16, 10_000  # keys per class where all images are trained on, and at most


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer."""
    node = add_feature_keys(cfg, "TipAdapterF")
    # Further versions, of which a key is the mean at the start
    node.KEY_VIEWS = 10
    # Training images per class that are keys, the first ones; 0 = DATASET.NUM_SHOTS, or 16 where that is all
    node.KEYS = 0
    # Weight of the cache, and how fast a key's influence falls with the distance
    node.ALPHA = 1.0
    node.BETA = 1.0
    # Options: none (ALPHA and BETA stay), val (after the last epoch they are chosen on the validation images)
    node.SEARCH = "none"
    # The grid: up from 0.1 to just below these, in so many steps, for alpha and for beta
    node.SEARCH_BELOW = (3.0, 7.0)
    node.SEARCH_STEPS = (20, 200)


class KeyCache(nn.Module):
    """A cosine classifier with text features, and what a cache of labelled keys adds to it.

    Args:
        text: (K, D) text features of unit length.
        scale: factor of their cosines.
        size: M keys per class.
        alpha, beta: at the start.
    """

    def __init__(self, text: torch.Tensor, scale: torch.Tensor | float, size: int, alpha: float, beta: float):
        super().__init__()
        self.size = size
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("scale", torch.as_tensor(scale), persistent=False)
        self.keys = nn.Parameter(text.new_zeros(len(text) * size, text.shape[1]))  # (K M, D), class by class
        self.register_buffer("filled", text.new_zeros(len(text) * size))  # 1 = there is a key
        self.register_buffer("alpha", text.new_tensor(alpha))
        self.register_buffer("beta", text.new_tensor(beta))

    @torch.no_grad()
    def fill(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Take the first M of each class of (N, D) features of unit length as keys."""
        self.keys.zero_()
        self.filled.zero_()
        for label in range(len(self.text)):
            of_class = features[labels == label][: self.size]
            places = slice(label * self.size, label * self.size + len(of_class))
            self.keys[places], self.filled[places] = of_class, 1

    def text_logits(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) of unit length -> (B, K)"""
        return self.scale * features @ self.text.T

    def cache_logits(self, cosines: torch.Tensor, beta: torch.Tensor | float) -> torch.Tensor:
        """(B, K M) cosines with the keys -> (B, K), without alpha."""
        near = torch.exp(-beta * (1 - cosines)) * self.filled
        return near.unflatten(1, (-1, self.size)).sum(dim=-1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) of unit length -> (B, K) logits."""
        return self.text_logits(features) + self.alpha * self.cache_logits(features @ self.keys.T, self.beta)

    @torch.no_grad()
    def correct_on_grid(
        self, features: torch.Tensor, labels: torch.Tensor, alphas: Sequence[float], betas: Sequence[float]
    ) -> torch.Tensor:
        """(betas, alphas): how many of (B, D) features of unit length each pair classifies as their (B,) labels."""
        text, cosines, rows = self.text_logits(features), features @ self.keys.T, []
        for beta in betas:
            cache = self.cache_logits(cosines, beta)
            rows.append(torch.stack([((text + alpha * cache).argmax(dim=1) == labels).sum() for alpha in alphas]))
        return torch.stack(rows).cpu()


def grid(below: float, steps: int) -> list[float]:
    """`steps` values from 0.1 on, evenly up to `below`, which is not among them."""
    return [0.1 + number * (below - 0.1) / steps for number in range(steps)]


@TRAINER_REGISTRY.register()
class TipAdapterF(FeatureLearning):
    """A cache of training images beside a frozen CLIP's text head, its keys trained."""

    choices = {"SEARCH": ("none", "val")}
    ranges = {
        **{"VIEWS": Range(0), "KEY_VIEWS": Range(1), "KEYS": Range(0, LARGEST), "ALPHA": Range(0), "BETA": Range(0)},
        **{"SEARCH_BELOW": Range(above=0.1, entries=2), "SEARCH_STEPS": Range(1, 10**4, entries=2, whole=True)},
    }

    @classmethod
    def keys_per_class(cls, cfg: CN) -> int:
        """Places for keys; where a class has fewer images some stay empty."""
        return cls.options_in(cfg).KEYS or (cfg.DATASET.NUM_SHOTS if cfg.DATASET.NUM_SHOTS >= 1 else SHOTS)

    def config_problems(self, cfg: CN) -> list[str]:
        problems = super().config_problems(cfg)
        if self.keys_per_class(cfg) > LARGEST:
            problems.append(
                f"DATASET.NUM_SHOTS is {cfg.DATASET.NUM_SHOTS}, and TRAINER.TIPADAPTERF.KEYS as many; set it to {LARGEST} or less"
            )
        if self.options_in(cfg).SEARCH == "val" and cfg.TEST.FINAL_MODEL == "best_val":
            problems.append("TRAINER.TIPADAPTERF.SEARCH val is for the last epoch; it takes TEST.FINAL_MODEL last_step")
        return problems

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> FeatureClassifier:
        options = cls.options_in(cfg)
        text = backbone.text_features([fill_in(cfg.DATASET.TEMPLATE, name) for name in classnames])
        head = KeyCache(text, backbone.scale, cls.keys_per_class(cfg), options.ALPHA, options.BETA)
        return FeatureClassifier(backbone, head)

    @classmethod
    def trained_parts(cls, cfg: CN, network: FeatureClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"cache": (network.head, cfg.OPTIM)}

    def build_data_loader(self) -> None:
        super().build_data_loader()
        only_tested = getattr(self.dm.dataset, "test_only", False)
        if self.options.SEARCH == "val" and self.val_loader is None and not only_tested:
            raise ConfigError(
                f"TRAINER.TIPADAPTERF.SEARCH is val, but {self.cfg.DATASET.NAME} has no validation split, and the test split"
                " selects nothing; set it to none, with ALPHA and BETA of your own"
            )

    def start_from_features(self) -> None:
        versions = range(-self.options.KEY_VIEWS, 0)  # epochs have others
        mean = sum(self.features.version(number) for number in versions) / len(versions)
        read = mean.any(dim=1)  # the others could not be
        self.model.head.fill(F.normalize(mean[read], dim=-1), self.training_labels()[read])

    def after_epoch(self) -> None:
        if self.options.SEARCH == "val" and self.epoch + 1 == self.max_epoch:
            self.search()
        super().after_epoch()

    @torch.no_grad()
    def search(self) -> None:
        """Set alpha and beta to the pair of the grid with the highest accuracy on the validation images, the first of several."""
        head, options = self.model.head, self.options
        alphas, betas = (grid(below, steps) for below, steps in zip(options.SEARCH_BELOW, options.SEARCH_STEPS, strict=True))
        correct = torch.zeros(len(betas), len(alphas), dtype=torch.int64)
        bar = tqdm(self.val_loader, desc="search on validation images", disable=no_progress_bar(), leave=False)
        for batch in stoppable(self, bar):
            images, labels = self.parse_batch_test(batch)
            correct += head.correct_on_grid(self.model.backbone.image_features(images), labels, alphas, betas)
        correct = sum_(correct).numpy()  # over all processes
        row, column = np.unravel_index(correct.argmax(), correct.shape)
        head.alpha.fill_(alphas[column])
        head.beta.fill_(betas[row])
        print(f"Chosen on validation images: alpha {alphas[column]:.3f}, beta {betas[row]:.3f} ({correct[row, column]} correct)")
