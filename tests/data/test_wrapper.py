import pickle

import pytest
import torch

from dassl_vr.data import DatasetWrapper

from .conftest import VR, loader_of


def test_without_transform_items_hold_pil_images(make_cfg, image_items):
    wrapper = DatasetWrapper(make_cfg(), image_items)
    assert wrapper[4]["img"].mode == "RGB"
    with pytest.raises(ValueError, match="K_TRANSFORMS"):
        DatasetWrapper(make_cfg("DATALOADER.K_TRANSFORMS", 2), image_items, is_train=True)


def test_the_wrapper_can_be_sent_to_spawned_workers(make_cfg, image_items):
    dataset = loader_of(make_cfg("INPUT.TRANSFORMS", VR), image_items).dataset
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3]["img"], dataset[3]["img"])
