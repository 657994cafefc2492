"""A trained classifier from images to class names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..data.pipeline import Pipeline
from ..utils.errors import DataError
from ..utils.images import UnreadableImageError, read_image, upright_rgb

# A path, a PIL image, a uint8 array (H, W, 3) or (H, W), a uint8 tensor (3, H, W)
Picture = str | os.PathLike | Image.Image | np.ndarray | torch.Tensor


@dataclass
class Predictions:
    """What a model says of N images.

    Attributes:
        probabilities: (N, K) float32 on the CPU, rows sum to 1.
        classnames: K names.
    """

    probabilities: torch.Tensor
    classnames: list

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def labels(self) -> torch.Tensor:
        """(N,) index of the likeliest class."""
        return self.probabilities.argmax(dim=1)

    @property
    def names(self) -> list[str]:
        """Name of the likeliest class of each image."""
        return [self.classnames[label] for label in self.labels.tolist()]

    def top(self, k: int) -> list[list[tuple[str, float]]]:
        """For each image the `k` likeliest classes, best first: [(class name, probability), ...]."""
        values, indices = self.probabilities.topk(min(k, len(self.classnames)), dim=1)
        return [
            [(self.classnames[index], value) for value, index in zip(*row, strict=True)]
            for row in zip(values.tolist(), indices.tolist(), strict=True)
        ]


class ImageClassifier:
    """Base of what predicts: it has `classnames`, `pipeline` (a `Pipeline` for testing), `batch_size` and `logits_of(pixels)`.

    Attributes:
        description: what a bundle's config.json says of the model, a dictionary (see `deploy.description`).
        grey_bits: of deep greys, as in training (DATASET.GREY_BITS); see `upright_rgb`.
    """

    description = None
    grey_bits = 0

    def logits_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, h, w) uint8 on the CPU, as `preprocess` gives it -> (B, K) float32 logits on the CPU."""
        raise NotImplementedError

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        """(3, h, w) of a preprocessed image."""
        return pixel_shape_of(self.pipeline)

    def preprocess(self, images: Picture | Sequence[Picture]) -> torch.Tensor:
        """Images -> (N, 3, h, w) uint8: resized and cropped as in testing.

        Args:
            images: see `predict`.

        Raises:
            DataError: a file cannot be read, or an image is of a form that is not known; names it.
        """
        images = enumerate(_as_list(images))
        pixels = [self.pipeline.per_sample(_pil_image(image, number, self.grey_bits)) for number, image in images]
        return torch.stack(pixels) if pixels else torch.empty((0, *self.pixel_shape), dtype=torch.uint8)

    def predict(self, images: Picture | Sequence[Picture], batch_size: int | None = None) -> Predictions:
        """Class probabilities of images of any size and mode.

        Args:
            images: one of, or a list of: a path, a PIL image, a uint8 array (H, W, 3) or (H, W), a uint8 tensor (3, H, W); or a
                uint8 tensor (N, 3, H, W).
            batch_size: None = the one that the run was tested with.

        Returns:
            `Predictions`

        Raises:
            DataError: as `preprocess`.
        """
        images, size = _as_list(images), batch_size or self.batch_size
        batches = [self.predict_pixels(self.preprocess(images[start : start + size])) for start in range(0, len(images), size)]
        nothing = torch.empty(0, len(self.classnames))
        return Predictions(torch.cat([nothing, *(batch.probabilities for batch in batches)]), list(self.classnames))

    def predict_pixels(self, pixels: torch.Tensor) -> Predictions:
        """`Predictions` of one batch, (B, 3, h, w) uint8 as `preprocess` gives it."""
        return Predictions(self.logits_of(pixels).softmax(dim=1), list(self.classnames))


class PromptedModel(nn.Module, ImageClassifier):
    """A trained classifier as a plain module, with everything from preprocessed bytes to logits inside.

    `forward` takes (B, 3, h, w) uint8 images in RGB, resized as `preprocess` does (h and w are those of `pixel_shape`), and
    gives (B, K) float32 logits.

    Args:
        network: (B, 3, S, S) normalized images -> (B, K) logits, in evaluation mode.
        pipeline: the `Pipeline` for testing.
        classnames: K names.
        batch_size: for `predict`.

    Attributes:
        device: where it works.
    """

    def __init__(self, network: nn.Module, pipeline: Pipeline, classnames: Sequence[str], batch_size: int = 32):
        super().__init__()
        self.network = network
        self.pipeline = pipeline
        self.classnames = list(classnames)
        self.batch_size = batch_size

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, h, w) uint8 -> (B, 3, S, S) float32, what the network takes."""
        return self.pipeline.per_batch(pixels, None)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, h, w) uint8, as `preprocess` gives it -> (B, K) float32 logits."""
        return self.network(self.normalize(pixels))

    @property
    def device(self) -> torch.device:
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @torch.no_grad()
    def logits_of(self, pixels: torch.Tensor) -> torch.Tensor:
        return self(pixels.to(self.device)).float().cpu()


def pixel_shape_of(pipeline: Pipeline) -> tuple[int, int, int]:
    """(3, h, w) of an image that a `Pipeline` for testing has prepared."""
    return tuple(pipeline.per_sample(Image.new("RGB", (8, 8))).shape)


def _as_list(images):
    if isinstance(images, torch.Tensor) and images.dim() == 4:
        return list(images)
    one = isinstance(images, (str, os.PathLike, Image.Image, np.ndarray, torch.Tensor))
    return [images] if one else list(images)


def _pil_image(image, number, grey_bits):
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, grey_bits)
    if isinstance(image, Image.Image):
        try:
            return upright_rgb(image, grey_bits, f"number {number}")
        except Exception as error:  # a file that was opened lazily can turn out to be damaged in nearly any way
            raise UnreadableImageError(f"image number {number}: cannot be read ({error})") from error
    if isinstance(image, torch.Tensor) and image.dim() == 3 and image.shape[0] == 3:
        image = image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2:] == (3,)):
        return Image.fromarray(image).convert("RGB")
    shape, dtype = getattr(image, "shape", ""), getattr(image, "dtype", type(image).__name__)
    raise DataError(
        f"image number {number} is {dtype} {tuple(shape)}; expected a path, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor"
        " (3, H, W)"
    )
