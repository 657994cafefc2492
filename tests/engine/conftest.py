"""Fixtures of the engine's tests."""

import pytest


@pytest.fixture
def trainer_of():
    """trainer_of(arguments): the trainer that `train.py` with these arguments would build."""
    from dassl_vr.cli.train import build_parser, settle, setup_cfg
    from dassl_vr.engine import build_trainer
    from dassl_vr.plugins import load_plugins
    from dassl_vr.utils.seeding import set_random_seed

    def build(arguments):
        load_plugins()
        cfg = setup_cfg(build_parser().parse_args(arguments))
        settle(cfg)
        set_random_seed(cfg.SEED)
        return build_trainer(cfg)

    return build
