"""`import dassl_vr.register` in a checkout of the family, on a stand-in for the original Dassl."""

import json
import re

import pytest
import torch

from .conftest import REPOSITORY, last_accuracy

RECIPE = REPOSITORY / "configs/trainers/SMM/lite0.yaml"
TINY = ["INPUT.SIZE", "(32, 32)", "OPTIM.MAX_EPOCH", "2", "DATALOADER.TRAIN_X.BATCH_SIZE", "8", "TRAIN.END_FIGURES", "False"]


def arguments(checkout, out, *more, trainer="SMM"):
    recipe = ["--config-file", REPOSITORY / f"configs/trainers/{trainer}/lite0.yaml"] if trainer in ("SMM", "VR") else []
    data = ["--root", checkout.parent / "data", "--seed", 1]
    return [checkout / "train.py", "--trainer", trainer, *recipe, *data, "--output-dir", out, *more]


BUDGET = ["OPTIM.MAX_EPOCH", "0", "OPTIM.BATCHES_PER_SHOT", "1"]  # ten batches for ten images per class: two epochs of four


SHOWN = ["TRAIN.END_FIGURES", "True"]


@pytest.mark.parametrize(("trainer", "flags", "more"), [("SMM", ["--load-epoch", 2], []), ("VR", [], [*BUDGET, *SHOWN])])
def test_trained_and_evaluated_from_the_checkpoint_in_a_fresh_process(checkout, run_python, tmp_path, trainer, flags, more):
    opts = ["DATASET.NAME", "EuroSAT", *TINY, *more, f"TRAINER.{trainer}.MAPPING", "ilm"]
    run = run_python(*arguments(checkout, tmp_path / "run", *opts, trainer=trainer), original=True)
    assert run.returncode == 0, run.stderr
    # 30 images in batches of 8: nothing is dropped
    assert re.search(r"batch \[4/4\] 6 ", run.stdout)
    prompt = torch.load(tmp_path / "run/prompt/model.pth.tar-2", weights_only=True)["state_dict"]
    assert {"delta", "mapping.source_index"} <= set(prompt)
    assert len(list((tmp_path / "run/tensorboard").rglob("sprite.png"))) == (2 if more else 0), "without and with the prompt"
    command = arguments(
        checkout, tmp_path / "again", "--eval-only", "--model-dir", tmp_path / "run", *flags, *opts, trainer=trainer
    )
    again = run_python(*command, original=True)
    assert again.returncode == 0, again.stderr
    assert last_accuracy(again.stdout) == last_accuracy(run.stdout)


def test_a_trainer_on_features_with_its_own_batches(checkout, run_python, tmp_path):
    """LP++ takes all images at once, has two optimizers, and starts from features of the images."""
    recipe = ["--config-file", REPOSITORY / "configs/trainers/LPPP/tiny_clip.yaml"]
    opts = ["DATASET.NAME", "EuroSAT", *TINY]
    run = run_python(*arguments(checkout, tmp_path / "run", *recipe, *opts, trainer="LPPP"), original=True)
    assert run.returncode == 0, run.stderr
    assert "batch [1/1]" in run.stdout and (tmp_path / "run/blend/model.pth.tar-2").is_file()
    evaluate = [*recipe, "--eval-only", "--model-dir", tmp_path / "run", *opts]
    again = run_python(*arguments(checkout, tmp_path / "again", *evaluate, trainer="LPPP"), original=True)
    assert again.returncode == 0, again.stderr
    assert last_accuracy(again.stdout) == last_accuracy(run.stdout)


def test_names_that_are_taken_or_will_be_stay_theirs(checkout, run_python, tmp_path):
    code = (
        "{lines}\n"
        "from dassl.engine import TRAINER_REGISTRY\nfrom dassl.data.datasets import DATASET_REGISTRY\n"
        "print(DATASET_REGISTRY.get('EuroSAT').__module__, TRAINER_REGISTRY.get('MeanColour').__module__,\n"
        "      TRAINER_REGISTRY.get('SMM').__mro__[-2].__module__, DATASET_REGISTRY.get('GTSRB').__mro__[1].__module__)\n"
    )
    imports = ["import datasets.eurosat, trainers.meancolour", "import dassl_vr.register"]
    for lines in (imports, imports[::-1]):
        run = run_python("-c", code.format(lines="\n".join(lines)), original=True, cwd=checkout)
        assert run.returncode == 0, run.stderr
        modules = "datasets.eurosat trainers.meancolour dassl.engine dassl_vr.datasets.gtsrb"
        assert run.stdout.splitlines()[-1] == modules


def test_only_missing_keys_are_added_to_the_defaults(run_python):
    code = (
        "from dassl.config.defaults import _C; from dassl.config import get_cfg_default; import json\n"
        "_C.INPUT.SIZE = (96, 96)\nimport dassl_vr.register\ncfg = get_cfg_default()\n"
        "print(json.dumps([cfg.INPUT.SIZE, cfg.TRAINER.SMM.PATCH_SIZE, cfg.DATALOADER.TRAIN_X.DROP_LAST, cfg.DATASET.FLIP]))\n"
    )
    run = run_python("-c", code, original=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == [[96, 96], 8, True, None]


def test_a_data_set_in_memory_with_its_facts(checkout, run_python, tmp_path):
    """Digits must not be mirrored; only our trainers can read what has no file."""
    opts = ["DATASET.NAME", "digits", "DATASET.NUM_SHOTS", "2", *TINY]
    (checkout / "train.py").write_text(
        (checkout / "train.py")
        .read_text()
        .replace("    if args.eval_only", "    print('FLIP', getattr(trainer.cfg.DATASET, 'FLIP'))\n    if args.eval_only")
    )
    run = run_python(*arguments(checkout, tmp_path / "run", *opts), original=True)
    assert run.returncode == 0, run.stderr
    assert "FLIP False" in run.stdout
    run = run_python(*arguments(checkout, tmp_path / "other", *opts, trainer="MeanColour"), original=True)
    assert run.returncode and "data set digits is in memory" in run.stderr.splitlines()[-1]


def test_a_method_is_put_on_the_originals_trainer(run_python):
    """`super()` in its body follows; what is declared with our own loop cannot run there and is named."""
    code = (
        "from dassl_vr.engine import TRAINER_REGISTRY, TrainerX\nfrom dassl_vr.methods import VisualReprogramming\n"
        "class Base(VisualReprogramming):\n"
        "    def check_cfg(self, cfg):\n        return 'base ' + type(self).__name__\n"
        "@TRAINER_REGISTRY.register()\nclass Derived(Base):\n"
        "    'Says who it is.'\n"
        "    def check_cfg(self, cfg):\n        return 'derived ' + super().check_cfg(cfg)\n"
        "    @classmethod\n    def make(cls):\n        return super().__new__(cls)\n"
        "@TRAINER_REGISTRY.register()\nclass Looped(VisualReprogramming, TrainerX):\n    pass\n"
        "import dassl.engine, dassl_vr.register\n"
        "cls = dassl.engine.TRAINER_REGISTRY.get('Derived')\n"
        "assert cls.make().check_cfg(None) == 'derived base Derived' and cls.__doc__ == 'Says who it is.'\n"
        "assert issubclass(cls, dassl.engine.TrainerX) and not issubclass(cls, TrainerX)\n"
        "assert 'Looped' not in dassl.engine.TRAINER_REGISTRY.registered_names()\n"
    )
    run = run_python("-c", code, original=True)
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if "Looped" in line]
    assert len(lines) == 1 and "leaves out" in lines[0] and "class X(VisualReprogramming)" in lines[0]


def test_without_an_original_the_error_says_so(run_python):
    run = run_python("-c", "import dassl_vr.register")
    assert "ImportError: dassl_vr.register needs an installed Dassl.pytorch" in run.stderr.splitlines()[-1]


def test_nothing_changes_because_a_dassl_can_be_imported(run_python):
    code = "import sys; from dassl_vr.plugins import load_plugins; load_plugins(); sys.exit('dassl' in sys.modules)"
    assert run_python("-c", code, original=True).returncode == 0
