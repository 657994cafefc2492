"""The family's train.py: defaults imported by name, keys of the trainers declared here."""

import argparse

import trainers.meancolour  # noqa: F401
from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import set_random_seed

import dassl_vr.register  # noqa: F401
import datasets.eurosat  # noqa: F401


def extend_cfg(cfg):
    from yacs.config import CfgNode as CN

    cfg.TRAINER.MEANCOLOUR = CN()
    cfg.TRAINER.MEANCOLOUR.PREC = "fp32"


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--root", "--output-dir", "--trainer", "--config-file", "--model-dir"):
        parser.add_argument(flag, default="")
    parser.add_argument("--seed", type=int, default=-1)
    parser.add_argument("--load-epoch", type=int)
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cfg = get_cfg_default()
    extend_cfg(cfg)
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.DATASET.ROOT, cfg.OUTPUT_DIR, cfg.SEED, cfg.TRAINER.NAME = args.root, args.output_dir, args.seed, args.trainer
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    else:
        trainer.train()


if __name__ == "__main__":
    main()
