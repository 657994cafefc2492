"""Epochs that follow from the data: CLIP-LoRA's 500 iterations per shot."""

import pytest

from dassl_vr.config import get_cfg_default
from dassl_vr.optim import build_lr_scheduler, epochs_for
from dassl_vr.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("classes", "shots", "batch"), [(10, 16, 32), (10, 1, 32), (47, 4, 32), (397, 16, 32), (1000, 16, 32), (2, 1, 1), (102, 2, 256)]
)
def test_the_run_is_as_long_as_theirs_to_half_an_epoch(classes, shots, batch):
    """Batch after batch with none dropped, as their loop counts them (its lora.py)."""
    batches = -(-classes * shots // batch)
    epochs = epochs_for(get_cfg_default().OPTIM, classes * shots, classes, batches)
    assert epochs >= 1 and abs(epochs * batches - 500 * shots) <= batches / 2


def test_a_data_set_without_shots_counts_its_images_per_class():
    optim_cfg = get_cfg_default().OPTIM
    assert epochs_for(optim_cfg, 300, 10, 10) == 1500
    optim_cfg.BATCHES_PER_SHOT = 1
    assert epochs_for(optim_cfg, 30, 10, 100) == 1, "at least one"


def test_a_schedule_of_its_own_needs_a_number():
    optim_cfg = get_cfg_default().OPTIM
    optim_cfg.MAX_EPOCH = 0
    with pytest.raises(ConfigError, match=r"OPTIM\.MAX_EPOCH is 0, but this trainer's schedule takes a number of epochs"):
        build_lr_scheduler(None, optim_cfg)
