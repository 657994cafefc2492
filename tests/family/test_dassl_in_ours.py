"""Files of the Dassl family under our train.py with `--plugin`."""

import json
import pickle

import pytest
import torch

from dassl_vr.family.dassl import SURFACE

from .conftest import REPOSITORY, last_accuracy

TINY = ["INPUT.SIZE", "(16, 16)", "INPUT.TRANSFORMS", "['normalize']", "DATALOADER.TRAIN_X.BATCH_SIZE", "6"]
TINY += ["OPTIM.NAME", "sgd", "OPTIM.LR", "0.5", "OPTIM.MAX_EPOCH", "4", "DATASET.NAME", "EuroSAT"]


def command(checkout, *more, plugins=("train.py",), trainer="MeanColour"):
    flags = [word for plugin in plugins for word in ("--plugin", checkout / plugin)]
    flags += ["--trainer", trainer, "--root", checkout.parent / "data", "--seed", 1]
    return [REPOSITORY / "train.py", *flags, *more, *TINY]


def test_a_run_and_its_evaluation(checkout, run_python, tmp_path):
    """Its train.py declares the keys, imports the data set and the trainer, and says `import dassl_vr.register`."""
    out = tmp_path / "run"
    run = run_python(*command(checkout, "--output-dir", out), original=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("dassl_vr serves the name 'dassl'") == 1
    assert f"{checkout}/train.py replaces these of dassl_vr in this process: data set EuroSAT" in run.stdout
    results = json.loads((out / "results.json").read_text())
    assert results["trainer"] == "MeanColour" and results["accuracy"] > 90
    saved = torch.load(out / "net/model.pth.tar-4", weights_only=True)
    assert set(saved) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
    assert saved["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.5 * 0.5**4)
    assert (out / "net/checkpoint").read_text().strip() == "model.pth.tar-4"
    log = (out / "log.txt").read_text()
    assert log.index("Finish training") < log.index("=> result", log.index("Finish training")) < log.rindex("* accuracy")
    again = run_python(*command(checkout, "--eval-only", "--model-dir", out))
    assert again.returncode == 0, again.stderr
    assert last_accuracy(again.stdout) == last_accuracy(run.stdout)
    missing = run_python(*command(checkout, "--eval-only", "--model-dir", out, "--load-epoch", 9))
    assert missing.returncode == 2 and "--load-epoch" in missing.stderr and len(missing.stderr.splitlines()) == 1


def test_files_given_one_by_one_with_keys_in_a_file_of_the_users(checkout, run_python, tmp_path):
    keys = tmp_path / "keys.py"
    keys.write_text(
        "from yacs.config import CfgNode as CN\n"
        "def extend_cfg(cfg):\n    cfg.TRAINER.MEANCOLOUR = CN()\n    cfg.TRAINER.MEANCOLOUR.PREC = 'fp32'\n"
    )
    plugins = ("trainers/meancolour.py", "datasets/eurosat.py", keys)
    more = ["TRAINER.MEANCOLOUR.PREC", "amp"]
    run = run_python(*command(checkout, "--output-dir", tmp_path / "run", plugins=plugins), *more)
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "run/results.json").read_text())["accuracy"] > 90


def test_a_trainer_that_reads_the_keys_of_the_method_it_descends_from(checkout, run_python, tmp_path):
    """As KgCoOp reads CoOp's: what was set there is kept with the run, for its evaluation and to tell runs apart."""
    (checkout / "trainers/descendant.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\nfrom nets import MeanColour as Net\nfrom .meancolour import MeanColour\n"
        "@TRAINER_REGISTRY.register()\nclass Descendant(MeanColour):\n"
        "    def build_model(self):\n        super().build_model()\n"
        "        print('reads PREC', self.cfg.TRAINER.MEANCOLOUR.PREC)\n"
        "        if self.cfg.TRAINER.MEANCOLOUR.PREC == 'fp32':\n"
        "            self.model.linear = self.model.linear.__class__(3, 9)\n"
    )
    out = tmp_path / "run"
    plugins = ("train.py", "trainers/descendant.py")
    train = command(checkout, "--output-dir", out, plugins=plugins, trainer="Descendant")
    run = run_python(*train, "TRAINER.MEANCOLOUR.PREC", "amp")
    assert run.returncode == 0, run.stderr
    evaluate = command(checkout, "--eval-only", "--model-dir", out, plugins=plugins, trainer="Descendant")
    again = run_python(*evaluate)
    assert again.returncode == 0, again.stderr
    assert "reads PREC amp" in again.stdout and last_accuracy(again.stdout) == last_accuracy(run.stdout)
    other = run_python(*train)
    assert other.returncode == 2 and "another configuration (TRAINER.MEANCOLOUR.PREC amp -> None)" in other.stderr
    unfit = run_python(*evaluate, "TRAINER.MEANCOLOUR.PREC", "fp32")
    (error,) = (line for line in unfit.stderr.splitlines() if line.startswith("error: "))
    assert unfit.returncode == 2 and "Traceback" not in unfit.stderr
    assert f"--model-dir {out} does not fit this model: size mismatch for linear.bias" in error


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["TRAINER.MEANCOLOUR.PREC", "amp"], ["TRAINER.MEANCOLOUR", "extend_cfg"]),
        ([], ["MeanColour", "MEANCOLOUR", "extend_cfg"]),
    ],
)
def test_keys_that_nobody_declared_end_in_one_line(checkout, run_python, tmp_path, more, words):
    plugins = ("trainers/meancolour.py", "datasets/eurosat.py")
    run = run_python(*command(checkout, "--output-dir", tmp_path / "run", plugins=plugins), *more)
    (error,) = (line for line in run.stderr.splitlines() if "Warning" not in line and not line.startswith(" "))
    assert run.returncode == 2 and error.startswith("error: ") and all(word in error for word in words)


def test_a_trainer_of_the_family_under_a_name_of_ours_whose_keys_nobody_declared(checkout, run_python, tmp_path):
    """Our CoOp has a section without PREC; CoOp's own trainer file, given without its train.py, wants it."""
    (checkout / "trainers/coop.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\nfrom .meancolour import MeanColour\n"
        "@TRAINER_REGISTRY.register()\nclass CoOp(MeanColour):\n"
        "    def check_cfg(self, cfg):\n        assert cfg.TRAINER.COOP.PREC in ['fp16', 'fp32']\n"
    )
    plugins = ("trainers/coop.py", "datasets/eurosat.py")
    for more, words in (
        (["TRAINER.COOP.PREC", "fp32"], "unknown key 'TRAINER.COOP.PREC'; a --plugin file can declare it in `extend_cfg(cfg)`"),
        ([], "trainer CoOp reads a key 'PREC' that is not declared"),
    ):
        run = run_python(*command(checkout, "--output-dir", tmp_path / "run", plugins=plugins, trainer="CoOp"), *more)
        assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr


def test_few_shot_files_are_read_by_both(checkout, run_python, tmp_path):
    """Same seed, same images; a pickle names `dassl`, so that the original reads what was written here, and the reverse."""
    shots = ["DATASET.NUM_SHOTS", "3"]
    path = tmp_path / "data/colours/split_fewshot/shot_3-seed_1.pkl"
    ours = run_python(*command(checkout, "--output-dir", tmp_path / "a"), *shots)
    assert ours.returncode == 0, ours.stderr
    assert b"dassl.data.datasets.base_dataset" in path.read_bytes() and b"dassl_vr" not in path.read_bytes()
    code = (
        "import pickle, sys\n"
        "for path in sys.argv[1:]:\n    print([item.impath for item in pickle.load(open(path, 'rb'))['train']])\n"
    )
    path.rename(tmp_path / "ours.pkl")
    family = [checkout / "train.py", "--trainer", "MeanColour", "--root", tmp_path / "data", "--output-dir", tmp_path / "b"]
    original = run_python(*family, "--seed", 1, *TINY, *shots, original=True)
    assert path.is_file(), original.stderr
    read = run_python("-c", code, path, tmp_path / "ours.pkl", original=True)
    theirs, ours = read.stdout.splitlines()
    assert theirs == ours and len(theirs) > 100, read.stderr
    assert run_python(*command(checkout, "--output-dir", tmp_path / "c"), *shots).returncode == 0


def test_packages_of_two_repositories_do_not_mix(checkout, run_python, tmp_path):
    other = tmp_path / "other/trainers"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / "second.py").touch()
    run = run_python(*command(checkout, plugins=("train.py", other / "second.py")))
    assert run.returncode == 2 and "another package 'trainers' is loaded already" in run.stderr


def test_an_original_that_is_loaded_already_is_not_replaced(checkout, run_python):
    code = (
        "import dassl.engine, sys\nfrom dassl_vr.plugins import load_plugins\nfrom dassl_vr.utils.errors import ConfigError\n"
        "try:\n    load_plugins([sys.argv[1]])\nexcept ConfigError as error:\n    print(error)\n"
    )
    run = run_python("-c", code, checkout / "train.py", original=True)
    assert "this process has loaded the original" in run.stdout, run.stderr


def test_every_name_is_served_and_nothing_else(run_python):
    lines = ["from dassl_vr.family.dassl import open_door", "open_door()"]
    for module, sources in SURFACE.items():
        names = [name for names in sources.values() for name in names]
        lines.append(f"from {module} import {', '.join(names)}" if names else f"import {module}")
    lines += ["from dassl.data.datasets import Datum", "from dassl_vr.data import Datum as Ours"]
    lines += ["assert issubclass(Datum, Ours)", "import dassl.nothing"]
    run = run_python("-c", "\n".join(lines))
    assert "dassl_vr serves no module 'dassl.nothing'" in run.stderr.splitlines()[-1]


def test_a_trainer_without_a_model_of_its_own_trains_a_simple_net(checkout, run_python, tmp_path):
    """A backbone of a plug-in, a head and a linear classifier, all trained."""
    (checkout / "trainers/plain.py").write_text(
        "from torch import nn\nfrom torch.nn import functional as F\n"
        "from dassl.engine import TRAINER_REGISTRY, TrainerX\nfrom dassl.modeling import BACKBONE_REGISTRY, Backbone\n"
        "class Pool(Backbone):\n"
        "    def __init__(self):\n        super().__init__()\n        self._out_features = 3\n"
        "    def forward(self, x):\n        return x.mean(dim=(2, 3))\n"
        "@BACKBONE_REGISTRY.register()\ndef pool(pretrained=True, **kwargs):\n    return Pool()\n"
        "@TRAINER_REGISTRY.register()\nclass Plain(TrainerX):\n"
        "    def forward_backward(self, batch):\n"
        "        image, label, domain = self.parse_batch_train(batch)\n"
        "        loss = F.cross_entropy(self.model(image), label)\n        self.model_backward_and_update(loss)\n"
        "        return {'loss': loss.item()}\n"
    )
    flags = ["--output-dir", tmp_path / "run", "--backbone", "pool", "--head", "mlp"]
    run = run_python(
        *command(checkout, *flags, plugins=("datasets/eurosat.py", "trainers/plain.py"), trainer="Plain"),
        *["MODEL.HEAD.HIDDEN_LAYERS", "(8,)", "OPTIM.LR", "0.1"],
    )
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["params_trainable"] == 3 * 8 + 8 + 2 * 8 + 8 * 3 + 3


def test_datum_survives_a_pickle():
    """Loaders of other platforms start their workers with pickled data sets."""
    from dassl_vr.data import Datum

    assert pickle.loads(pickle.dumps(Datum("a.png", 1))).impath == "a.png"
