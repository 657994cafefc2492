import threading
from http.server import ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from dassl_vr.config import get_cfg_default, merge_list
from dassl_vr.data import (
    DATASET_REGISTRY,
    ArrayDatum,
    BatchLoader,
    DatasetBase,
    DatasetWrapper,
    Datum,
    build_sampler,
    build_transform,
)
from dassl_vr.utils.images import read_image

from .server import Handler

VR = ("vr_squash", "vr_crop", "vr_flip", "normalize")
FAMILY = ("random_resized_crop", "random_flip", "colorjitter", "cutout", "normalize", "gaussian_noise")


@pytest.fixture
def make_cfg():
    """`make_cfg("INPUT.SIZE", (32, 32), ...)`: the defaults, quiet, with a seed, and these keys."""

    def make(*pairs):
        cfg = get_cfg_default()
        merge_list(cfg, ["SEED", 3, "VERBOSE", False, "INPUT.SIZE", (32, 32), "DATALOADER.NUM_WORKERS", 0])
        merge_list(cfg, list(pairs))
        return cfg

    return make


@pytest.fixture
def image_items(tmp_path):
    """22 image files of several sizes, 2 classes."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(22):
        path = tmp_path / f"{number:02d}.png"
        size = (int(rng.integers(36, 60)), int(rng.integers(36, 60)), 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
        items.append(Datum(path, number % 2, 0, "ab"[number % 2]))
    return items


@pytest.fixture
def array_items():
    rng = np.random.default_rng(1)
    return [ArrayDatum(rng.integers(0, 256, (8, 8), dtype=np.uint8), f"toy/{n}", n % 2, 0, "ab"[n % 2]) for n in range(11)]


@pytest.fixture
def register():
    """`register(train, val, test, train_u)`: the name of a registered data set with these images."""
    names = []

    def add(train, val=None, test=None, train_u=None):
        name = f"toy{len(names)}"

        class Toy(DatasetBase):
            def __init__(self, cfg):
                super().__init__(train_x=train, train_u=train_u, val=val, test=test if test is not None else train)

        DATASET_REGISTRY.register(Toy, name=name, force=True)
        names.append(name)
        return name

    yield add
    for name in names:
        DATASET_REGISTRY.remove(name)


def loader_of(cfg, items, num_workers=0, wrapper=DatasetWrapper, transform=None, sampler="RandomSampler"):
    transform = transform or build_transform(cfg)
    return BatchLoader(
        wrapper(cfg, items, transform=transform, is_train=True),
        build_sampler(sampler, cfg, items),
        batch_size=5,
        num_workers=num_workers,
        persistent=True,
        seed=cfg.SEED,
    )


def pictures_of(loader, epoch):
    """{index: picture}"""
    loader.set_epoch(epoch)
    return {int(n): img for batch in loader for n, img in zip(batch["index"], batch["img"])}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[n], second[n]) for n in first)


class ForeignWrapper(DatasetWrapper):
    """As in the family's repositories: reads by path and transforms on its own."""

    def __getitem__(self, idx):
        item = self.data_source[idx]
        img = self._transform_image(self.transform, read_image(item.impath))
        return {"label": item.label, "index": idx, "img": img}


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: `server.url(manner)` for an address, `server.log` for what was asked for."""
    monkeypatch.setattr("dassl_vr.data.fetch.BACKOFF", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.log = []
    server.url = lambda name: f"http://127.0.0.1:{server.server_port}/{name}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
