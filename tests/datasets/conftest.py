import numpy as np
import pytest
from PIL import Image

from dassl_vr.config import get_cfg_default, merge_list, merge_mapping
from dassl_vr.data import DATASET_REGISTRY, build_dataset
from dassl_vr.plugins import load_plugins


@pytest.fixture(scope="session", autouse=True)
def plugins():
    load_plugins()


@pytest.fixture
def load():
    """`load(name, root, KEY, value, ...)`: the data set, its own facts counted as defaults."""

    def build(name, root="", *pairs):
        cfg = get_cfg_default()
        merge_mapping(cfg, {"DATASET": DATASET_REGISTRY.get(name).facts}, name)
        merge_list(cfg, ["SEED", 1, "VERBOSE", False, "DATASET.NAME", name, "DATASET.ROOT", str(root), *pairs])
        return build_dataset(cfg)

    return build


@pytest.fixture(scope="session")
def draw():
    """`draw(path)`: write a small image of random colours there."""
    rng = np.random.default_rng(0)

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path)

    return write
