"""Runs that were never made, and two that were."""

import json
from pathlib import Path

import pytest

from dassl_vr.cli.train import main as train
from dassl_vr.config import to_yaml
from dassl_vr.config.recipes import recipe_path, recipes_of
from dassl_vr.runs import build_cfg

VERSIONS = {"python": "3.11", "torch": "2.9"}


@pytest.fixture
def make_run(tmp_path):
    """make_run("SMM", seed=0, accuracy=70.0, patch_size=4, settings={"TRAINER.SMM.LAYERS": 6}, ...) writes what a finished run
    of the recipe for the backbone, with those settings, leaves below tmp_path/output."""

    def make(trainer, *, seed, method=None, tag="default", patch_size=None, settings=(), **changes):
        method = method or trainer.lower()
        name = trainer if method == trainer.lower() else f"{trainer}-{method}"
        results = {
            "trainer": trainer,
            "method": method,
            "dataset": "EuroSAT",
            "backbone": "rn18",
            "mapping": "ilm",
            "seed": seed,
            "shots": -1,
            "epochs": 200,
            "accuracy": 90.0,
            "macro_f1": 88.0,
            "accuracy_train": 91.5,
            "params_trainable": 150528,
            "params_backbone": 11689512,
            "seconds_train": 61.0,
            "peak_memory_bytes": 2**30,
            "precision": "fp32",
            "subsample_classes": "all",
            "split_sha256": "a" * 64,
            "versions": VERSIONS,
            "history": [{"epoch": n, "loss": 2.0 / n, "acc": 30.0 * n, "seconds": 1.0} for n in (1, 2, 3)],
            **changes,
        }
        directory = tmp_path / "output" / results["dataset"].lower() / name / results["backbone"] / tag / f"seed{seed}"
        directory.mkdir(parents=True)
        (directory / "results.json").write_text(json.dumps(results))
        suffix = "_pad" if method == "pad" else ""
        if f"{results['backbone']}{suffix}" in recipes_of(trainer):
            recipe = recipe_path(trainer, results["backbone"], suffix[1:])
            names = {"TRAINER.NAME": trainer, "DATASET.NAME": results["dataset"], "DATASET.NUM_SHOTS": results["shots"]}
            names |= {"DATASET.SUBSAMPLE_CLASSES": results["subsample_classes"]}
            if results["mapping"]:
                names[f"TRAINER.{trainer.upper()}.MAPPING"] = results["mapping"]
            if patch_size:
                names["TRAINER.SMM.PATCH_SIZE"] = patch_size
            cfg = build_cfg([recipe], {**names, "OPTIM.MAX_EPOCH": results["epochs"], **dict(settings)})
            (directory / "config.yaml").write_text(to_yaml(cfg))
        return directory

    return make


@pytest.fixture(scope="session")
def real_runs(tmp_path_factory):
    """{trainer: directory} of two tiny runs on 30 digits, one of them with images that only the prompt sees small."""
    root, out = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("real")
    opts = ["INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "3", "DATALOADER.TRAIN_X.BATCH_SIZE", "8", "OPTIM.MAX_EPOCH", "2"]
    opts += ["TRAIN.END_FIGURES", "False"]
    runs = {}
    for trainer, recipe in (("SMM", "tiny_vit"), ("VR", "tiny_vit_pad")):
        runs[trainer] = out / trainer / "seed1"
        command = ["--trainer", trainer, "--config-file", str(root / f"configs/trainers/{trainer}/{recipe}.yaml")]
        command += ["--dataset-config-file", str(root / "configs/datasets/digits.yaml"), "--seed", "1"]
        assert train([*command, "--output-dir", str(runs[trainer]), *opts]) == 0
    return runs
