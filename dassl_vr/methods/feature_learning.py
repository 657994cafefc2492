"""What adapters of a CLIP share that learn behind its image tower: they train on features, which are computed once."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from ..backbones.clip import ClipBackbone
from ..data import BatchLoader, Datum, build_sampler
from ..utils.checkpoint import load_pretrained_weights
from ..utils.images import UnreadableImageError
from .image_features import ImageFeatures
from .prompt_learning import PromptLearning


def add_feature_keys(cfg: CN, name: str, views: bool = True) -> CN:
    """Add `TRAINER.<NAME>` with the keys of a trainer on features; returns the node for more.

    Args:
        views: it can train on several versions of the images.
    """
    node = cfg.TRAINER[name.upper()] = CN()
    # Where the features of the training images are kept: memory, disk (in ~/.cache/dassl_vr/features too, where other runs on the
    # same images, backbone, transforms and seed find them)
    node.FEATURES = "memory"
    if views:
        # Augmented versions of the training images, trained on in turn, one per epoch; 0 = a new one in every epoch
        node.VIEWS = 0
    return node


class FeatureClassifier(nn.Module):
    """A head on the features of a frozen CLIP's image tower.

    Args:
        head: (B, D) features of unit length -> (B, K) logits.
    """

    def __init__(self, backbone: ClipBackbone, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, K) logits."""
        return self.head(self.backbone.image_features(x))


class FeatureLearning(PromptLearning):
    """A method that trains a head on a CLIP's image features: its network is a `FeatureClassifier`, and no version of an image goes
    through the backbone twice.

    Epoch n trains on version n of the augmented images, or on one of `TRAINER.<NAME>.VIEWS` versions in turn. Asks for
    `dm.train_loader_all` besides what `PromptLearning` asks.

    Attributes:
        full_batch: all training images are one batch, in their order, whatever DATALOADER.TRAIN_X says.
        features: the `ImageFeatures`.
    """

    backbone_kinds = ("clip",)
    choices = {"FEATURES": ("memory", "disk")}
    full_batch = False

    def start_from_features(self) -> None:
        """Give what is trained the values that it starts with, if these depend on the training images."""

    def views(self) -> int:
        """How many versions of the images are trained on in turn; 0 = a new one in every epoch."""
        return self.options.get("VIEWS", 1)

    def version_in(self, epoch: int) -> int:
        """The number of the version of the images that `epoch` trains on."""
        return epoch % self.views() if self.views() else epoch

    def build_data_loader(self) -> None:
        """As the trainer's, with features in place of the training images."""
        super().build_data_loader()
        cfg, items, images = self.cfg, self.dm.dataset.train_x, self.train_loader_x
        self.features = ImageFeatures(self, kept=range(self.views()), on_disk=self.options.FEATURES == "disk")
        sampler = build_sampler("SequentialSampler", cfg, items) if self.full_batch else images.sampler
        self.train_loader_x = BatchLoader(
            _FeatureItems(items, lambda epoch: self.features.version(self.version_in(epoch))),
            sampler,
            len(items) if self.full_batch else images.batch_size,
            device=self.device,
            drop_last=images.drop_last and not self.full_batch,
            last_of_one=getattr(images, "last_of_one", "keep"),  # a loader of an original Dassl has none
            skip_bad=cfg.DATASET.ON_BAD_IMAGE == "skip",
            skipped=getattr(self.dm, "skipped_images", None),
            in_step=True,
            name="training",
        )

    def before_train(self) -> None:
        """Start from the features (`start_from_features`), unless an interrupted run continues."""
        super().before_train()
        if self.start_epoch == 0 and getattr(self, "progress", None) is None:  # not where an interrupted run continues
            with torch.no_grad():
                self.start_from_features()
            if self.cfg.MODEL.INIT_WEIGHTS:
                load_pretrained_weights(next(iter(self._models.values())), self.cfg.MODEL.INIT_WEIGHTS)

    def run_epoch(self) -> None:
        """An epoch on the version of the images that is due."""
        self.train_loader_x.set_epoch(self.epoch)
        super().run_epoch()

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """((B, D) features of unit length, (B,) labels)"""
        return F.normalize(batch["features"], dim=-1), batch["label"].to(self.device)

    def train_logits(self, batch: dict, features: torch.Tensor) -> torch.Tensor:
        return self.model.head(features)


class _FeatureItems:
    """The training images as the data set of a `BatchLoader`: items without pictures, and their features, batch by batch.

    Args:
        items: the images.
        features: epoch -> (images, D).
    """

    works_in_two_steps = True

    def __init__(self, items: list[Datum], features: Callable[[int], torch.Tensor]):
        self.data_source, self._features = items, features
        self._of_epoch = None, None, ()  # epoch, features, indices of images left out

    def __len__(self):
        return len(self.data_source)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def _current(self):
        if self._of_epoch[0] != self.epoch:
            features = self._features(self.epoch)
            left_out = (~features.any(dim=1)).nonzero().flatten().tolist()
            self._of_epoch = self.epoch, features, frozenset(left_out)
        return self._of_epoch

    def read_item(self, idx):
        item = self.data_source[idx]
        if idx in self._current()[2]:
            raise UnreadableImageError(f"image {item.impath}: cannot be read")
        return {"label": item.label, "index": idx}

    def finish(self, batch, index):
        batch["features"] = self._current()[1][batch["index"]]
        return batch
