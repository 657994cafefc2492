"""The data of a trained model, and a fixed choice of its images to look at."""

import contextlib
import io
from collections.abc import Iterator, Sequence

import torch
from PIL import Image

from ..data import DataManager
from ..data.augment_rng import seeded_generators
from ..data.datasets import read_item_image
from ..data.samplers import class_balanced_order
from ..deploy import PromptedModel
from ..utils.errors import DataError
from ..utils.images import UnreadableImageError
from .unprompted import plain_images


def data_of(model: PromptedModel, root: str = "") -> DataManager:
    """The data that a model was trained on, drawn as in its run. Nothing is fetched.

    Batches carry the unprompted image, resized to the model's side and normalized, as `img0`.

    Args:
        root: where the data sets are, if not where they were in training.

    Raises:
        ConfigError, DataError: the data set is not available, or has other classes.
    """
    cfg = model.details.cfg.clone()
    cfg.defrost()
    cfg.DATASET.ROOT, cfg.DATASET.DOWNLOAD, cfg.VERBOSE = root or cfg.DATASET.ROOT, False, False
    cfg.DATALOADER.RETURN_IMG0 = True
    # Standard output is for tables; a plug-in's data set may draw from the global generators
    with contextlib.redirect_stdout(io.StringIO()), seeded_generators(cfg.SEED):
        data = DataManager(cfg, device=model.device)
    if list(data.dataset.classnames) != model.classnames:
        raise DataError(f"the data set in {cfg.DATASET.ROOT} has other classes than the model")
    return data


def random_items(items: Sequence, number: int) -> list:
    """`number` of a list of `Datum` (or all), drawn at random with a fixed seed."""
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))[:number]
    return [items[position] for position in order.tolist()]


def spread(items: Sequence, number: int) -> tuple[list[Image.Image], torch.Tensor]:
    """`number` of a list of `Datum` (or all), balanced over classes and drawn with a fixed seed: (images, (N,) labels).

    Images that cannot be read are left out.
    """
    images, labels = [], []
    for position in class_balanced_order(items):
        if len(images) == number:
            break
        with contextlib.suppress(UnreadableImageError):
            images.append(read_item_image(items[position]))
            labels.append(items[position].label)
    return images, torch.tensor(labels)


def prepared_batches(model: PromptedModel, items: Sequence, labels: list[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of a list of `Datum`: (x, plain), both (B, 3, S, S), images as the prompt gets them, and unprompted.

    The classes of the images are appended to `labels`. Images that cannot be read are left out.
    """
    for start in range(0, len(items), model.batch_size):  # one at a time: thousands of photographs do not fit in memory
        images = []
        for item in items[start : start + model.batch_size]:
            with contextlib.suppress(UnreadableImageError):
                images.append(read_item_image(item))
                labels.append(item.label)
        if images:
            x = model.normalize(model.preprocess(images).to(model.device))
            yield x, plain_images(model, images, x)
