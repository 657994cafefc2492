"""`train.py` on small real data: what a run leaves, what it refuses, and how it ends."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dassl_vr.cli.train import main
from dassl_vr.config import read_yaml
from dassl_vr.engine.charts import FINAL, PROMPT, TRAINED, WORKINGS

# The rule by which the family's scripts read a log: the first "* accuracy: N%" after "Finish training"
ACCURACY = re.compile(r"\* accuracy: ([.\deE+-]+)%")


def accuracy_in_log(path):
    finished = False
    for line in path.read_text().splitlines():
        finished = finished or line == "Finish training"
        match = ACCURACY.search(line)
        if finished and match:
            return float(match.group(1))
    return None


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, request):
    """A finished SMM run, shared by the tests that only look at it."""
    out = tmp_path_factory.mktemp("runs") / "smm"
    repository = Path(__file__).resolve().parents[2]
    recipe = ["--trainer", "smm", "--config-file", str(repository / "configs/trainers/SMM/lite0.yaml")]
    data = ["--dataset-config-file", str(repository / "configs/datasets/digits.yaml"), "--seed", "0"]
    opts = ["INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "4", "OPTIM.MAX_EPOCH", "3", "TRAIN.CHECKPOINT_FREQ", "1"]
    opts += ["DATALOADER.TRAIN_X.BATCH_SIZE", "8", "TEST.PER_CLASS_RESULT", "True", "TEST.COMPUTE_CMAT", "True"]
    assert main([*recipe, *data, "--output-dir", str(out), *opts]) == 0
    return out


def test_results_file(finished_run):
    results = json.loads((finished_run / "results.json").read_text())
    assert (results["trainer"], results["method"], results["mapping"]) == ("SMM", "smm", "ilm")
    assert (results["dataset"], results["backbone"], results["seed"], results["shots"]) == ("digits", "lite0", 0, 4)
    assert results["epochs"] == 3 == len(results["history"])
    assert 0 <= results["accuracy"] <= 100 and 0 <= results["macro_f1"] <= 100
    assert results["params_trainable"] == 3 * 32 * 32 + 26499
    assert results["params_backbone"] == 4_652_008, "as published, whatever was folded"
    assert results["seconds_train"] > 0 and results["peak_memory_bytes"] > 1e8
    assert results["versions"]["torch"] and re.fullmatch("[0-9a-f]{64}", results["split_sha256"])
    assert results["command"]
    assert [epoch["epoch"] for epoch in results["history"]] == [1, 2, 3]


def test_log_is_read_by_the_familys_rule(finished_run):
    results = json.loads((finished_run / "results.json").read_text())
    assert accuracy_in_log(finished_run / "log.txt") == pytest.approx(results["accuracy"], abs=0.05)
    log = (finished_run / "log.txt").read_text()
    for pattern in (r"epoch \[1/3\] batch \[5/5\] time .* loss .* lr .* eta", r"^=> result$", r"^\* total: 539$",
                    r"^\* correct: \d+$", r"^\* error: ", r"^\* macro_f1: ", r"^\* class: 0 \("):  # fmt: skip
        assert re.search(pattern, log, re.MULTILINE), pattern


def test_resolved_config_is_saved(finished_run):
    config = read_yaml(finished_run / "config.yaml")
    assert config["SEED"] == 0
    assert config["TRAINER"]["NAME"] == "SMM", "the registered name, whatever the case on the command line"
    assert config["INPUT"]["PIXEL_MEAN"] == [0.5, 0.5, 0.5], "lite0's own normalization"
    assert config["DATASET"]["FLIP"] is False, "a fact of the data set"


def test_checkpoints_hold_only_what_is_trained(finished_run):
    for name, size in (("prompt", 3 * 32 * 32), ("mask_generator", 26499)):
        assert (finished_run / name / "checkpoint").read_text().strip() == "model.pth.tar-3"
        assert (finished_run / name / "model.pth.tar-1").is_file()
        checkpoint = torch.load(finished_run / name / "model.pth.tar-3", weights_only=True)
        assert set(checkpoint) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
        assert checkpoint["epoch"] == 3
        parameters = {k: v for k, v in checkpoint["state_dict"].items() if not re.search("running|num_batches|mapping", k)}
        assert sum(value.numel() for value in parameters.values()) == size
    assert (finished_run / "cmat.pt").is_file()


def test_tensorboard(finished_run):
    events = EventAccumulator(str(finished_run / "tensorboard"), size_guidance={"images": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    workings = {f"{WORKINGS}/{curve}" for curve in ("lr/prompt", "lr/mask_generator", "images_per_second")}
    assert workings | {"train/loss", "train/acc"} <= scalars
    assert [event.step for event in events.Scalars("val/accuracy")] == [5, 10, 15], "after each epoch"
    once = {tag for tag in scalars if len(events.Scalars(tag)) == 1}
    assert once == {tag for tag in scalars if tag.startswith(f"{FINAL}/")} and f"{FINAL}/accuracy" in once
    images = set(events.Tags()["images"])
    groups = sorted({tag.partition("/")[0] for tag in scalars | images})
    assert groups[:2] == ["train", "val"], "TensorBoard opens these"
    assert {tag for tag in scalars if tag.startswith("train/")} == {"train/loss", "train/acc"}
    parts = ["1 input", "2 mask red", "2 mask green", "2 mask blue", "3 pattern", "4 mask x pattern", "5 result"]
    assert {f"{PROMPT}/{part}" for part in parts} == {tag for tag in images if tag.startswith(f"{PROMPT}/")}
    figures = [*(f"1 image {number}" for number in range(1, 5)), "2 pattern", "3 label mapping", "4 features"]
    assert {f"{TRAINED}/{figure}" for figure in figures} == {tag for tag in images if tag.startswith(f"{TRAINED}/")}
    (tag,) = [t for t in events.Tags()["tensors"] if t.startswith("label mapping")]
    table = events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
    assert table.count("\n") == 11, "a head of two lines and a row for each of ten classes"
    assert "_hparams_/experiment" in str(events.summary_metadata.keys())
    size = sum(path.stat().st_size for path in (finished_run / "tensorboard").rglob("*") if path.is_file())
    of_prompt = sum(len(event.encoded_image_string) for part in parts for event in events.Images(f"{PROMPT}/{part}"))
    assert size - of_prompt < 1e6, "and the pictures of the prompt are below 2 MB (tests/methods/test_pictures.py)"


def test_eval_only_gives_the_accuracy_of_the_end(finished_run, tmp_path):
    results = json.loads((finished_run / "results.json").read_text())
    assert main(["--eval-only", "--model-dir", str(finished_run), "--output-dir", str(tmp_path / "eval")]) == 0
    again = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert again["accuracy"] == results["accuracy"] and again["macro_f1"] == results["macro_f1"]
    log = (tmp_path / "eval" / "log.txt").read_text()
    assert float(ACCURACY.search(log[log.index("=> result") :]).group(1)) == pytest.approx(results["accuracy"], abs=0.05)


def test_eval_only_of_an_earlier_epoch_differs_and_leaves_the_run_alone(finished_run, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*") if path.is_file()}
    assert main(["--eval-only", "--model-dir", str(finished_run), "--load-epoch", "1", "TEST.COMPUTE_CMAT", "False"]) == 0
    assert "model.pth.tar-1 into prompt (epoch=1)" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*") if path.is_file()} == before


def test_a_finished_run_is_left_alone(finished_run, capsys):
    before = (finished_run / "results.json").read_bytes()
    config = str(finished_run / "config.yaml")
    assert main(["--config-file", config, "--output-dir", str(finished_run)]) == 0
    assert "finished already" in capsys.readouterr().out
    assert (finished_run / "results.json").read_bytes() == before


def test_a_used_directory_refuses_another_configuration(finished_run, capsys):
    command = ["--config-file", str(finished_run / "config.yaml"), "--output-dir", str(finished_run)]
    assert main([*command, "--resume", str(finished_run), "OPTIM.LR", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "OPTIM.LR 0.01 -> 0.5" in error and error.count("\n") == 1


def test_an_unfinished_run_is_resumed_only_with_the_flag(tmp_path, tiny_command, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "log.txt").write_text("a run that died\n")
    assert main(tiny_command(out)) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(tiny_command(out, "--resume", out)) == 0


def test_a_run_goes_where_the_scripts_put_it(tmp_path, tiny_command, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OUTPUT", raising=False)
    monkeypatch.delenv("TAG", raising=False)
    command = tiny_command("none", "OPTIM.MAX_EPOCH", "1", seed=4)
    at = command.index("--output-dir")
    command[at : at + 2] = []
    assert main(command) == 0
    place = "output/digits/SMM/tiny_vit/3shots/seed4"
    assert json.loads((tmp_path / place / "results.json").read_text())["epochs"] == 1
    assert f"The run's files go to {place}\n" in capsys.readouterr().out
    assert main(command) == 0 and "finished already" in capsys.readouterr().out
    assert main([*command, "OPTIM.LR", "0.5"]) == 2 and "another configuration" in capsys.readouterr().err
    command[command.index("--seed") + 1] = "-1"  # that of the run which is continued
    assert main([*command, "OPTIM.MAX_EPOCH", "1", "RESUME", place]) == 0 and "finished already" in capsys.readouterr().out
    assert main([*command, "OPTIM.MAX_EPOCH", "1", "MODEL.BACKBONE.NAME", "lite0"]) == 0
    assert {path.name for path in (tmp_path / "output/digits/SMM").iterdir()} == {"tiny_vit", "lite0"}
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["digits"]


def test_no_train_writes_nothing(tmp_path, tiny_command):
    assert main(tiny_command(tmp_path / "run", "--no-train")) == 0
    assert not (tmp_path / "run").exists()


def test_drawn_seed_is_recorded(tmp_path, tiny_command):
    assert main(tiny_command(tmp_path / "run", "OPTIM.MAX_EPOCH", "1", seed=-1)) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["seed"] >= 0 and read_yaml(tmp_path / "run" / "config.yaml")["SEED"] == results["seed"]


def test_seed_of_the_yaml_is_kept_without_the_flag(tmp_path, tiny_command):
    command = tiny_command(tmp_path / "run")
    at = command.index("--seed")
    command[at : at + 2] = []
    (tmp_path / "data.yaml").write_text("DATASET:\n  NAME: digits\nSEED: 7\n")
    command[command.index("--dataset-config-file") + 1] = str(tmp_path / "data.yaml")
    assert main([*command, "OPTIM.MAX_EPOCH", "1"]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["seed"] == 7


def test_merge_order(tmp_path, tiny_command):
    """data-set YAML < trainer YAML < flags < KEY VALUE; facts of a data set lie below all of them."""
    from dassl_vr.cli.train import build_parser, setup_cfg
    from dassl_vr.plugins import load_plugins

    load_plugins()
    (tmp_path / "data.yaml").write_text("DATASET:\n  NAME: digits\nSEED: 1\nOPTIM:\n  LR: 1\n  GAMMA: 0.9\n")
    (tmp_path / "trainer.yaml").write_text("SEED: 2\nOPTIM:\n  LR: 2\n")
    files = ["--dataset-config-file", str(tmp_path / "data.yaml"), "--config-file", str(tmp_path / "trainer.yaml")]
    cfg = setup_cfg(build_parser().parse_args([*files, "--seed", "3", "OPTIM.LR", "4"]))
    assert (cfg.SEED, cfg.OPTIM.LR, cfg.OPTIM.GAMMA, cfg.DATASET.FLIP) == (3, 4.0, 0.9, False)
    cfg = setup_cfg(build_parser().parse_args([*files, "SEED", "5", "DATASET.FLIP", "True"]))
    assert (cfg.SEED, cfg.DATASET.FLIP) == (5, True)


# ------------------------------------------------------------------------------------------------------ user errors
def folder_of_images(root, broken=None, empty=None):
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (20, 20), (i * 30, 90, 200)).save(root / name / f"{i}.png")
    if broken:
        (root / "cat" / broken).write_bytes(b"not an image")
    if empty:
        (root / empty).mkdir()
    return root


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["OPTIM.LRR", "1"], ["OPTIM.LRR", "OPTIM.LR"]),
        (["OPTIM.MAX_EPOCH", "ten"], ["OPTIM.MAX_EPOCH", "ten"]),
        (["--trainer", "SSM"], ["SSM", "SMM"]),
        (["DATASET.NAME", "digit"], ["digit", "digits"]),
        (["--backbone", "resnet19"], ["resnet19", "resnet18"]),
        (["INPUT.TRANSFORMS", "['vr_squish']"], ["vr_squish", "vr_squash"]),
        (["TRAINER.SMM.PATCH_SIZE", "7"], ["patch_size is 7", "8"]),
        (["TRAINER.SMM.PATCH_SIZE", "32"], ["32", "layers=6"]),
        (["TRAINER.SMM.WIDTH", "0.3"], ["width is 0.3", "8, 16, 32, 64"]),
        (["TRAINER.SMM.MAPPING", "ilmm"], ["ilmm", "ilm"]),
        (["DATASET.NAME", "eurosat"], ["--root"]),
        (["DATASET.NAME", "eurosat", "DATASET.ROOT", "nowhere"], ["nowhere"]),
        (["MODEL.BACKBONE.NORM", "config", "INPUT.PIXEL_MEAN", "[1e39, 1e39, 1e39]"], ["INPUT.PIXEL_MEAN", "1000 or less"]),
        (["MODEL.BACKBONE.WEIGHTS", "nowhere.pth"], ["nowhere.pth"]),
        (["--config-file", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--config-file", "lite0"], ["did you mean configs/trainers/SMM/lite0.yaml?"]),
        (["--config-file", "configs/trainer/SMM/lite.yaml"], ["did you mean configs/trainers/SMM/lite0.yaml?"]),
        (["--dataset-config-file", "digit.yaml"], ["did you mean configs/datasets/digits.yaml?"]),
        (["--config-file", "recipe.py"], ["recipe.py", ".yaml"]),
        (["--plugin", "nowhere.py"], ["nowhere.py"]),
        (["--eval-only", "--model-dir", "nowhere"], ["nowhere"]),
        (["--resume", "nowhere"], ["nowhere"]),
        (["TEST.FINAL_MODEL", "best_vall"], ["best_vall", "best_val"]),
    ],
)
def test_user_errors_end_in_one_line(tmp_path, tiny_command, capsys, arguments, words):
    assert main(tiny_command(tmp_path / "run", *arguments)) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ")
    for word in words:
        assert word in error[0]
    assert not list(tmp_path.rglob("resume.pt")) and not list(tmp_path.rglob("*.pth*"))


@pytest.mark.parametrize(("kind", "words"), [({"broken": "bad one.png"}, ["bad one.png"]), ({"empty": "bird"}, ["bird"])])
def test_bad_folders_are_named(tmp_path, tiny_command, capsys, kind, words):
    root = folder_of_images(tmp_path / "images", **kind)
    command = tiny_command(tmp_path / "run", "--root", root, "DATASET.NAME", "folder", "DATASET.NUM_SHOTS", "-1")
    assert main(command) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and all(word in error[0] for word in words)


def test_more_target_than_source_classes(tmp_path, tiny_command, capsys, monkeypatch):
    plugin = tmp_path / "many.py"
    plugin.write_text(
        "import numpy as np\n"
        "from dassl_vr.data import DATASET_REGISTRY, ArrayDatum, DatasetBase\n"
        "if 'Many' not in DATASET_REGISTRY:\n"
        "    @DATASET_REGISTRY.register()\n"
        "    class Many(DatasetBase):\n"
        "        def __init__(self, cfg):\n"
        "            image = np.zeros((8, 8, 3), np.uint8)\n"
        "            items = [ArrayDatum(image, f'many/{i}', i, classname=f'c{i}') for i in range(1001)]\n"
        "            super().__init__(train_x=items, test=items)\n"
    )
    command = tiny_command(tmp_path / "run", "--plugin", plugin, "DATASET.NAME", "many", "DATASET.NUM_SHOTS", "-1")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "1001 target classes" in error and "40 source classes" in error and error.count("\n") == 1


def test_the_last_good_checkpoint_survives_a_nan_and_the_log_says_why_the_run_ended(tmp_path, tiny_command, capsys):
    plugin = tmp_path / "late_nan.py"
    plugin.write_text(
        "from dassl_vr.engine import TRAINER_REGISTRY\n"
        "SMM = TRAINER_REGISTRY.get('SMM')\n"
        "class LateNan(SMM):\n"
        "    def model_backward(self, loss):\n"
        "        super().model_backward(loss * float('nan') if self.epoch == 2 else loss)\n"
        "    @property\n"
        "    def options(self):\n"
        "        return self.cfg.TRAINER.SMM\n"
        "def extend_cfg(cfg):\n"
        "    cfg.TRAINER.LATENAN = cfg.TRAINER.SMM.clone()\n"
        "TRAINER_REGISTRY.register(LateNan, force=True)\n"
    )
    out = tmp_path / "run"
    command = tiny_command(out, "--plugin", plugin, "TRAIN.CHECKPOINT_FREQ", "1")
    command[command.index("--trainer") + 1] = "LateNan"
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "NaN or infinite in epoch 3" in error and error.count("\n") == 1
    assert torch.load(out / "resume.pt", weights_only=True)["next_epoch"] == 2
    assert (out / "prompt" / "checkpoint").read_text().strip() == "model.pth.tar-2"
    assert not (out / "results.json").exists()
    assert "error: the loss became NaN" in (out / "log.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["TRAINER.SMM.MASK_LR", "-1"], ["TRAINER.SMM.MASK_LR is -1", "not be negative"]),
        (["OPTIM.ADAM_BETA1", "2.0"], ["OPTIM.ADAM_BETA1 is 2.0", "below 1"]),
        (["OPTIM.LR", "nan"], ["OPTIM.LR"]),
        (["INPUT.PIXEL_STD", "(0, 0, 0)"], ["INPUT.PIXEL_STD"]),
        (["INPUT.PIXEL_MEAN", "['a', 'b', 'c']"], ["INPUT.PIXEL_MEAN"]),
        (["INPUT.TRANSFORMS", "(1, 2)"], ["INPUT.TRANSFORMS"]),
        (["SEED", "99999999999999999999"], ["SEED"]),
        (["DATALOADER.TRAIN_X.N_INS", "0"], ["N_INS"]),
        (["DATALOADER.K_TRANSFORMS", "2"], ["K_TRANSFORMS"]),
        (["DATASET.NAME", "{[]:1}"], ["{[]:1}"]),
        (["INPUT.MARGIN", "-50"], ["INPUT.MARGIN"]),
        (["DATASET.VAL_PERCENT", "2.0"], ["VAL_PERCENT"]),
        (["--foo", "1"], ["--foo"]),
        (["--datset-config-file", "1"], ["--datset-config-file", "did you mean --dataset-config-file?"]),
        (["--sed=1"], ["--sed", "did you mean --seed?"]),
        (["OPTIM.LR", "1", "--foo", "1"], ["--foo", "before the first KEY"]),
        (["--eval-only"], ["--model-dir"]),
    ],
)
def test_odd_values_end_in_one_line(tmp_path, tiny_command, capsys, arguments, words):
    command = tiny_command(tmp_path / "run")
    assert main([*arguments, *command] if arguments[0].startswith("--") else [*command, *arguments]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and all(word in error[0] for word in words), error


def test_the_name_of_a_directory_is_taken_literally(tmp_path, tiny_command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(tiny_command("2024_07_01", "OPTIM.MAX_EPOCH", "1")) == 0
    assert (tmp_path / "2024_07_01" / "results.json").is_file()


def test_saved_config_trains_another_run(finished_run, tmp_path, tiny_command):
    """It says nothing of where its own run was resumed from, nor of trainers that have nothing to do with it."""
    out = tmp_path / "first"
    assert main(tiny_command(out, "--resume", out, "OPTIM.MAX_EPOCH", "1")) == 0
    config = read_yaml(out / "config.yaml")
    assert config["RESUME"] == "" and set(config["TRAINER"]) == {"NAME", "SMM"}
    assert main(["--config-file", str(out / "config.yaml"), "--output-dir", str(tmp_path / "second")]) == 0
    assert len(json.loads((tmp_path / "second" / "results.json").read_text())["history"]) == 1


def test_another_folder_is_another_run(tmp_path, tiny_command, capsys):
    first, second = folder_of_images(tmp_path / "a"), folder_of_images(tmp_path / "b")
    (second / "cat" / "0.png").rename(second / "cat" / "other.png")
    command = tiny_command(tmp_path / "run", "DATASET.NAME", "folder", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1")
    assert main([*command, "DATASET.ROOT", str(first)]) == 0
    assert main([*command, "DATASET.ROOT", str(first)]) == 0, "finished already"
    assert main([*command, "DATASET.ROOT", str(second)]) == 2
    assert f"on the images of {first}, and those of {second} are not the same" in capsys.readouterr().err


def test_resuming_on_other_images_is_refused(tmp_path, tiny_command, capsys):
    root = folder_of_images(tmp_path / "images")
    settings = ["DATASET.NAME", "folder", "DATASET.ROOT", root, "DATASET.NUM_SHOTS", "-1", "OPTIM.MAX_EPOCH", "1"]
    assert main(tiny_command(tmp_path / "run", *settings)) == 0
    (tmp_path / "run" / "results.json").unlink()
    (root / "cat" / "0.png").rename(root / "cat" / "other.png")
    assert main(tiny_command(tmp_path / "run", "--resume", tmp_path / "run", *settings)) == 2
    assert "other images or labels" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_saved(tmp_path, tiny_command, capsys, monkeypatch):
    """Every loss is finite; what the last update of the second epoch makes of the weights is not."""
    from dassl_vr.engine.trainer import TrainerBase

    update = TrainerBase.model_update

    def spoil(trainer, names=None):
        update(trainer, names)
        if trainer.epoch == 1 and trainer.batch_idx + 1 == trainer.num_batches:
            trainer.model.f_in.delta.data[0, 0, 0] = float("nan")

    monkeypatch.setattr(TrainerBase, "model_update", spoil)
    out = tmp_path / "run"
    assert main(tiny_command(out, "TRAIN.CHECKPOINT_FREQ", "1")) == 2
    error = capsys.readouterr().err
    assert "'delta' of prompt became NaN or infinite in epoch 2" in error and error.count("\n") == 1
    assert torch.load(out / "resume.pt", weights_only=True)["next_epoch"] == 1
    assert (out / "prompt" / "checkpoint").read_text().strip() == "model.pth.tar-1"
    assert not (out / "prompt" / "model.pth.tar-2").exists()


def test_two_processes_do_not_share_a_directory(tmp_path, tiny_command, capsys):
    from dassl_vr.engine.run_directory import hold

    with hold(str(tmp_path / "run")):
        assert main(tiny_command(tmp_path / "run", "--resume", tmp_path / "run")) == 2
    assert "another process trains there" in capsys.readouterr().err
    assert not (tmp_path / "run" / "log.txt").exists()


def test_two_evaluations_do_not_share_a_directory(finished_run, tmp_path, capsys):
    from dassl_vr.engine.run_directory import hold

    test = ["--eval-only", "--model-dir", str(finished_run), "--output-dir", str(tmp_path / "run")]
    with hold(str(tmp_path / "run")):
        assert main(test) == 2
    assert "another process" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_files_of_others_stay(finished_run, tmp_path, tiny_command, capsys):
    out = tmp_path / "run"
    (out / "prompt").mkdir(parents=True)
    assert main(tiny_command(out)) == 2
    assert "prompt is there" in capsys.readouterr().err and not (out / "log.txt").exists()
    (out / "prompt").rmdir()
    # A run that died before it was first saved, and is started over
    (out / "config.yaml").write_text((finished_run / "config.yaml").read_text())
    (out / "tensorboard").mkdir()
    (out / "tensorboard" / "mine.txt").write_text("precious")
    assert main(["--config-file", str(out / "config.yaml"), "--output-dir", str(out), "--resume", str(out)]) == 0
    assert (out / "tensorboard" / "mine.txt").read_text() == "precious"


def test_nothing_to_resume_elsewhere(tmp_path, tiny_command, capsys):
    (tmp_path / "empty").mkdir()
    assert main(tiny_command(tmp_path / "run", "--resume", tmp_path / "empty")) == 2
    assert "nothing to continue from" in capsys.readouterr().err


def test_a_directory_to_resume_that_is_not_there_is_not_made(tmp_path, tiny_command, monkeypatch, capsys):
    """Also where it is the only one that is named."""
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    command = tiny_command(tmp_path / "unused", "--resume", tmp_path / "nothere")
    at = command.index("--output-dir")
    assert main(command[:at] + command[at + 2 :]) == 2
    error = capsys.readouterr().err
    assert f"--resume {tmp_path / 'nothere'}: nothing to continue from" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_eval_only_takes_another_data_set_but_no_other_trainer(finished_run, tmp_path, capsys):
    test = ["--eval-only", "--model-dir", str(finished_run)]
    root = folder_of_images(tmp_path / "images")
    (tmp_path / "data.yaml").write_text("DATASET:\n  NAME: folder\n")
    assert main([*test, "--dataset-config-file", str(tmp_path / "data.yaml"), "--root", str(root)]) == 2
    assert "was trained on other classes" in capsys.readouterr().err, "two classes where ten were trained"
    assert main([*test, "--trainer", "VR"]) == 2
    assert "was trained with SMM, not with VR" in capsys.readouterr().err


def test_an_evaluation_is_not_taken_for_a_finished_run(finished_run, tmp_path, tiny_command, capsys):
    out = tmp_path / "evaluation"
    assert main(["--eval-only", "--model-dir", str(finished_run), "--output-dir", str(out)]) == 0
    assert main(tiny_command(out)) == 2
    assert "results of an evaluation" in capsys.readouterr().err


def test_an_output_directory_that_cannot_be(tmp_path, tiny_command, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(tiny_command(out)) == 2
        assert "is a file" in capsys.readouterr().err


def test_a_full_disk_is_one_line(tmp_path, tiny_command, capsys, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device", "resume.pt")

    monkeypatch.setattr("dassl_vr.engine.trainer.save_resume_file", full)
    assert main(tiny_command(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert "No space left on device: resume.pt" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("resume.pt", {"a": 1}, "entry 'next_epoch' is missing; remove it"),
        ("resume.pt", [1], "its content is a list; expected named entries"),
        ("results.json", "{", "not valid JSON"),
        ("results.json", '{"accuracy": "high"}', "entry 'trainer' is missing"),
    ],
)
def test_odd_files_in_a_run(finished_run, tmp_path, capsys, file, content, words):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text((finished_run / "config.yaml").read_text())
    if isinstance(content, str):
        (out / file).write_text(content)
    else:
        torch.save(content, out / file)
    assert main(["--config-file", str(out / "config.yaml"), "--output-dir", str(out), "--resume", str(out)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def extend_cfg(cfg):\n    cfg.NONE.SUCH = 1\n", "extend_cfg"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_bad_plugins(tmp_path, run_python, text, words):
    """In a process of its own, since what a plug-in adds stays."""
    (tmp_path / "bad.py").write_text(text)
    code = "import sys; from dassl_vr.cli.train import main; sys.exit(main(sys.argv[1:]))"
    done = run_python("-c", code, "--plugin", tmp_path / "bad.py")
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_split_to_test_on_must_be_there_before_training(tmp_path, tiny_command, capsys):
    root = folder_of_images(tmp_path / "images")
    more = ["DATASET.NAME", "folder", "DATASET.ROOT", root, "DATASET.NUM_SHOTS", "-1", "DATASET.VAL_PERCENT", "0.0"]
    assert main(tiny_command(tmp_path / "run", *more, "TEST.SPLIT", "val")) == 2
    assert "TEST.SPLIT is val" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_one_class_is_none(tmp_path, tiny_command, capsys):
    import shutil

    root = folder_of_images(tmp_path / "images")
    shutil.rmtree(root / "dog")
    assert main(tiny_command(tmp_path / "run", "DATASET.NAME", "folder", "DATASET.ROOT", root, "DATASET.NUM_SHOTS", "-1")) == 2
    assert "1 class" in capsys.readouterr().err
