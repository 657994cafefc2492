"""Features of the training images, for methods behind a frozen image tower: each is computed once, and kept."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from ..data import BatchLoader, build_transform, split_sha256
from ..data.store_content import fingerprint_of
from ..engine.resume import stoppable
from ..home import cache_directory
from ..utils.checkpoint import read_torch_file, save_atomically
from ..utils.distributed import broadcast_, from_main, is_main, no_progress_bar, sum_, world_size
from ..utils.environment import device_name, library_versions
from ..utils.errors import UserError, WeightsError

if TYPE_CHECKING:
    from .prompt_learning import PromptLearning


def of_training_images(
    trainer: "PromptLearning", loader: BatchLoader, compute: Callable[[torch.Tensor], torch.Tensor], name: str
) -> torch.Tensor:
    """What `compute` makes of all training images: (N, D), in their order, the same in all processes.

    A row of zeros stands for each image that was left out because it cannot be read (DATASET.ON_BAD_IMAGE). The batches are always
    the same, so that a resumed run has the same bits.

    Args:
        loader: of every training image once.
        compute: (B, 3, S, S) -> (B, D)
        name: for the progress bar.
    """
    rows = None
    for batch in stoppable(trainer, tqdm(loader, desc=name, disable=no_progress_bar(), leave=False)):
        part = compute(trainer.parse_batch_test(batch)[0])
        if rows is None:
            rows = part.new_zeros(len(trainer.dm.dataset.train_x), part.shape[1])
        rows[batch["index"].to(part.device)] = part
    return sum_(rows)  # each process has those of its part of the images


class ImageFeatures:
    """What a frozen backbone makes of all training images, of one version of the images after another.

    A version is what the training transform makes of the images with draws of its own: a function of (seed, number, image). Where
    no transform is random all versions are the same, so that one is computed (unless TRAIN.CACHE_FEATURES is False).

    Args:
        trainer: has `dm.train_loader_all` and `model.backbone`.
        kept: numbers of versions that are asked for again, and therefore stay in memory; of others only the last does.
        on_disk: keep them in the user's cache directory as well, where another run on the same images finds them.
    """

    def __init__(self, trainer: "PromptLearning", kept: range = range(0), on_disk: bool = False):
        self.trainer, self.kept, self.on_disk = trainer, kept, on_disk
        self.varied = not (trainer.cfg.TRAIN.CACHE_FEATURES and build_transform(trainer.cfg, is_train=True).repeatable)
        self._known = {}  # number -> features

    def version(self, number: int) -> torch.Tensor:
        """(training images, D) features of version `number`, as the backbone gives them; a row of zeros for each image that
        was left out because it cannot be read (DATASET.ON_BAD_IMAGE)."""
        number = number if self.varied else 0
        if number not in self._known:
            features = self._stored(number) if self.on_disk else self._computed(number)
            self._known = {n: known for n, known in self._known.items() if n in self.kept} | {number: features}
        return self._known[number]

    @torch.no_grad()
    def _computed(self, number):
        loader = self.trainer.dm.train_loader_all
        if hasattr(loader, "set_epoch"):  # an original Dassl's has none
            loader.set_epoch(number)
        return of_training_images(self.trainer, loader, self.trainer.model.backbone.features, "image features")

    def _stored(self, number):
        """From the file of this version, which is written if there is none that can be used."""
        path = cache_directory() / "dassl_vr" / "features" / f"{self._key(number)}.pt"
        features = self._read(path) if is_main() else None
        if not from_main(features is not None):
            features = self._computed(number)
            if is_main():
                save_atomically({"features": features.cpu()}, path)
            return features
        shape = from_main(list(features.shape) if is_main() else None)
        features = features.to(self.trainer.device) if is_main() else torch.empty(shape, device=self.trainer.device)
        broadcast_(features)
        return features

    def _read(self, path: Path) -> torch.Tensor | None:
        if not path.is_file():
            return None
        expected = (len(self.trainer.dm.dataset.train_x), self.trainer.model.backbone.out_features)
        try:
            found = read_torch_file(path, "features")["features"]
            if found.shape != expected or found.dtype != torch.float32 or not bool(found.isfinite().all()):
                raise WeightsError(f"features {path}: not those of {expected[0]} images")
        except (UserError, KeyError, TypeError, AttributeError) as error:
            print(f"NOTE: {error or path}; they are computed again")
            return None
        return found

    def _key(self, number):
        """A name that changes with everything that the bits of the features depend on."""
        trainer, cfg = self.trainer, self.trainer.cfg
        data, backbone = cfg.DATASET, cfg.MODEL.BACKBONE
        parts = {
            "weights": trainer.weights_sha256,
            "split": split_sha256(trainer.dm.dataset),
            "images": fingerprint_of(trainer.dm.dataset.train_x),
            "reading": [data.FLIP, data.NATIVE_SIZE, data.GREY_BITS, data.ON_BAD_IMAGE],
            "transforms": cfg.INPUT.dump(),
            "draws": [cfg.SEED, number] if self.varied else [],
            "backbone": [backbone.NAME, backbone.FOLD, backbone.CHANNELS_LAST, trainer.precision, cfg.TRAIN.COMPILE],
            "batches": [cfg.DATALOADER.TEST.BATCH_SIZE, world_size()],
            "machine": [device_name(trainer.device), torch.get_num_threads(), library_versions()],
        }
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
