"""A list of images as items with their transforms."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from yacs.config import CfgNode

from .augment_rng import STREAM_X, SampleKeys, derive_seed, seeded_generators
from .datasets import Datum, read_item_image
from .pipeline import Pipeline
from .store_content import DeviceStore, ImageStore
from .transforms import plain_pipeline


class DatasetWrapper(TorchDataset):
    """Images of a list of `Datum` with their transforms.

    An item holds `img` (3, H, W) float32 (a list of K with DATALOADER.K_TRANSFORMS = K > 1 in training), `label`,
    `domain`, `impath` and `index`; `img2`, `img3`, ... for further transforms; `img0`, without augmentation, if
    RETURN_IMG0.

    The loader does the same in two steps: `read_item` in its workers, `finish` on the whole batch on the device. A
    subclass that overrides `__getitem__` or `_transform_image` is asked for finished items instead.

    Args:
        data_source: list of `Datum`.
        transform: a `Pipeline` or any callable on PIL images, or a list of them; None leaves PIL images.
        is_train: whether K_TRANSFORMS applies.

    Raises:
        ValueError: K_TRANSFORMS above 1 without a transform.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Callable | Sequence[Callable] | None = None,
        is_train: bool = False,
    ):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.to_tensor = plain_pipeline(cfg, normalize="normalize" in cfg.INPUT.TRANSFORMS)
        self.epoch = 0
        self.stream = STREAM_X
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"cannot transform an image {self.k_tfm} times (K_TRANSFORMS) without a transform")
        transforms = transform if isinstance(transform, (list, tuple)) else [transform]
        self._views = {f"img{number}" if number > 1 else "img": tfm for number, tfm in enumerate(transforms, start=1)}

    def __len__(self):
        return len(self.data_source)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that augmentation belongs to."""
        self.epoch = epoch

    @property
    def works_in_two_steps(self) -> bool:
        """Whether `read_item` and `finish` may replace `__getitem__`."""
        cls = type(self)
        return cls.__getitem__ is DatasetWrapper.__getitem__ and cls._transform_image is DatasetWrapper._transform_image

    def stored_views(self) -> dict[str, Pipeline] | None:
        """{name: pipeline} of all pictures in an item, if an image store can replace `read_item`; else None."""
        views = {**self._views, **({"img0": self.to_tensor} if self.return_img0 else {})}
        storable = all(isinstance(tfm, Pipeline) and tfm.deterministic for tfm in views.values())
        return views if self.works_in_two_steps and storable else None

    def stored_items(self, index: np.ndarray, stores: dict[str, ImageStore | DeviceStore], pin: bool = False) -> dict:
        """The collated `read_item`s of these indices.

        Args:
            index: (B,) whole numbers.
            stores: {name: `ImageStore`} for `stored_views`.
        """
        data = [self.data_source[idx] for idx in index]
        batch = {
            "label": torch.tensor([datum.label for datum in data]),
            "domain": torch.tensor([datum.domain for datum in data]),
            "impath": [datum.impath for datum in data],
            "index": torch.as_tensor(index),
        }
        for name, store in stores.items():
            images = store.gather(index, pin)
            batch[name] = [images] * self.k_tfm if self.k_tfm > 1 and name != "img0" else images
        return batch

    def __getitem__(self, idx):
        if self.works_in_two_steps:
            return self._finish(self.read_item(idx), np.array([idx]), lambda op, x, keys: op(x[None], keys)[0])
        item, img0 = self._read(idx)
        with seeded_generators(self._item_seed(idx)):
            for name, tfm in self._views.items():
                item[name] = img0 if tfm is None else self._transform_image(tfm, img0)
        if self.return_img0:
            item["img0"] = self.to_tensor(img0)
        return item

    def _transform_image(self, tfm, img0):
        """`img0` transformed, or the list of its K versions, with random numbers from the global generators."""
        images = [tfm(img0) for _ in range(self.k_tfm)]
        return images if len(images) > 1 else images[0]

    def read_item(self, idx: int) -> dict:
        """The item with images as `Pipeline.per_sample` leaves them (finished where a transform is no `Pipeline`)."""
        item, img0 = self._read(idx)
        for number, (name, tfm) in enumerate(self._views.items()):
            if tfm is None:
                item[name] = img0
                continue
            transform = tfm.per_sample if isinstance(tfm, Pipeline) else tfm
            if getattr(tfm, "deterministic", False):
                images = [transform(img0)] * self.k_tfm
            else:
                with seeded_generators(self._item_seed(idx, number)):
                    images = [transform(img0) for _ in range(self.k_tfm)]
            item[name] = images if len(images) > 1 else images[0]
        if self.return_img0:
            item["img0"] = self.to_tensor.per_sample(img0)
        return item

    def finish(self, batch: dict, index: np.ndarray) -> dict:
        """Complete a batch of collated `read_item`s in place, on the device of its images, and return it.

        Args:
            index: (B,) the indices of its items.
        """
        return self._finish(batch, index, lambda op, x, keys: op(x, keys))

    def _finish(self, batch, index, apply):
        for number, (name, tfm) in enumerate(self._views.items()):
            if isinstance(tfm, Pipeline):
                images = batch[name] if isinstance(batch[name], list) else [batch[name]]
                images = [apply(tfm.per_batch, x, self._keys(index, number * self.k_tfm + k)) for k, x in enumerate(images)]
                batch[name] = images if len(images) > 1 else images[0]
        if self.return_img0:
            batch["img0"] = apply(self.to_tensor.per_batch, batch["img0"], self._keys(index, 0))
        return batch

    def _read(self, idx):
        """(item without images, PIL image)."""
        datum = self.data_source[idx]
        item = {"label": datum.label, "domain": datum.domain, "impath": datum.impath, "index": idx}
        return item, read_item_image(datum)

    def _keys(self, index, repetition):
        return SampleKeys(self.cfg.SEED, self.epoch, index, repetition, self.stream)

    def _item_seed(self, idx, view=0):
        return derive_seed("item", self.cfg.SEED, self.epoch, int(idx), view, self.stream)
