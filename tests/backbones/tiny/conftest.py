import pytest
import torch

from dassl_vr.config import get_cfg_default
from dassl_vr.data import build_dataset
from dassl_vr.data.transforms import build_transform
from dassl_vr.plugins import load_plugins


@pytest.fixture(scope="session")
def split():
    """`split(name, part, backbone)`: (images as the backbone takes them, labels), through the ordinary test transform."""
    load_plugins()

    def load(name, part, backbone):
        cfg = get_cfg_default()
        cfg.DATASET.NAME, cfg.VERBOSE = name, False
        cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (backbone.input_size,) * 2, ("vr_squash", "normalize")
        cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(backbone.mean), list(backbone.std)
        items, transform = getattr(build_dataset(cfg), part), build_transform(cfg, is_train=False)
        return torch.stack([transform(item.read()) for item in items]), torch.tensor([item.label for item in items])

    return load
