"""`scripts/compare.sh`: which methods stand side by side, under which rule and protocol, and what is left of it."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from dassl_vr.cli import comparison
from dassl_vr.cli.compare import build_compare_parser, main, settle
from dassl_vr.cli.comparison import EpochsRule
from dassl_vr.cli.fitting import cells_that_fit
from dassl_vr.cli.train import build_parser, setup_cfg
from dassl_vr.cli.train import main as train
from dassl_vr.config import to_yaml
from dassl_vr.paper.clip_16shot import NOTE, Clip16Shot
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import INPUT_REGISTRY
from dassl_vr.runs import executors
from dassl_vr.runs.cells import Cell, cell_of
from dassl_vr.runs.plan import Run

QUIET = ["--", "VERBOSE", "False", "TEST.TRAIN_GAP", "False", "TRAIN.END_FIGURES", "False"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch, repository, tmp_path):
    load_plugins()
    monkeypatch.chdir(repository)
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))


@pytest.fixture
def in_this_process(monkeypatch):
    """train.py without a start of Python for each run."""
    monkeypatch.setattr(executors.Children, "run", lambda self, command, **options: train(command[3:]))


def results_of(directory):
    return json.loads((directory / "results.json").read_text())


def dry_run(capsys, *arguments):
    """(what is announced, directories below the data set's)."""
    assert main(["digits", *arguments, "--dry-run"]) == 0
    announced, _, runs = capsys.readouterr().out.partition("\n\n")
    return announced, [line.split("/digits/")[1] for line in runs.splitlines()[:-1]]


def test_what_fits_is_what_has_a_recipe_for_the_backbone(capsys, tmp_path):
    announced, directories = dry_run(capsys, "lite0")
    assert "protocol: full" in announced and "8 epochs for every trainer (as in configs/trainers/SMM/lite0.yaml)" in announced
    methods = ("narrow", "medium", "full", "pad", "ar", "evp", "lorvp", "autovp", "acavp")
    names = {f"{name}/lite0" for name in ("FullFT", "LinearProbe", "SMM", *(f"VR-{method}" for method in methods))}
    expected = {f"{name}/default/seed1" for name in {*names, "SMM/lite0_head"}}
    assert set(directories) == expected, "those of scripts/smm.sh and its like"
    _, directories = dry_run(capsys, "tiny_vit")
    assert {"VPT-shallow/tiny_vit/default/seed1", "VPT-deep/tiny_vit/default/seed1"} < set(directories)
    assert not any(name.startswith(("CoOp", "ZeroshotCLIP")) for name in directories)
    announced, directories = dry_run(capsys, "tiny_clip")
    (methods,) = (line.removeprefix("methods:").split(",") for line in announced.splitlines() if line.startswith("methods:"))
    assert len(methods) == len(set(methods)), "each once, also a METHOD and a MAPPING of one name"
    assert {f"ZeroshotCLIP-{name}/tiny_clip/default/seed1" for name in ("template", "ensemble")} < set(directories), "no epochs"
    pairs = {f"{trainer}/tiny_clip_{f_out}" for trainer in ("SMM", "VR-ar") for f_out in ("attrvr", "rvp")}
    pairs |= {"SMM/tiny_clip_head", "SMM/tiny_clip_dvp", "VR-dvp/tiny_clip", "VR-dvp_lite/tiny_clip"}
    assert {f"{pair}/default/seed1" for pair in pairs} < set(directories), "an f_in with each f_out that has a recipe"
    assert not (tmp_path / "out").exists(), "a dry run leaves nothing"


def test_runs_lie_where_train_py_puts_them(tmp_path):
    """So that each finds what the other has trained."""
    args = build_compare_parser().parse_args(["digits", "tiny_clip"])
    settle(args)
    for cell in cells_that_fit(args):
        cfg = cell.run(1, tmp_path, "default", "data").cfg
        of_train_py = cell_of(cfg, cell.recipe, "configs/datasets/digits.yaml")
        assert of_train_py.directory("out", "default") == cell.directory("out", "default")


def test_what_has_rates_of_its_own_takes_part_with_a_recipe_of_its_own(capsys, tmp_path):
    """Low-rank patterns and ACAVP are not compared at the watermarks' rate; an f_in of a plug-in is."""
    _, directories = dry_run(capsys, "rn18", "--trainers", "VR")
    methods = ("narrow", "medium", "full", "pad", "lorvp", "autovp")
    assert {name.partition("/")[0] for name in directories} == {f"VR-{method}" for method in methods}
    plain = "from dassl_vr.reprogramming import INPUT_REGISTRY, InputPrompt\n\n\n"
    (tmp_path / "mine.py").write_text(f"{plain}@INPUT_REGISTRY.register(name='mine')\nclass Mine(InputPrompt):\n    pass\n")
    try:
        _, directories = dry_run(capsys, "rn18", "--trainers", "VR-mine", "--plugin", str(tmp_path / "mine.py"))
    finally:
        INPUT_REGISTRY.remove("mine")
    assert directories == ["VR-mine/rn18/default/seed1"]


# What each of the four CLIPs has under `clip-16shot`; tokens beside the patches need a transformer
EVERYWHERE = {
    *("CoOp", "CoCoOp", "KgCoOp", "LinearProbe", "LPPP", "SMM", "SMM attrvr", "SMM rvp", "TaskRes", "TipAdapterF", "VP"),
    *(f"VR {name}" for name in ("narrow", "medium", "full", "ar", "dvp", "attrvr", "rvp")),
    *("ZeroshotCLIP template", "ZeroshotCLIP ensemble"),
}
TRANSFORMERS = {"CLIPLoRA", "MaPLe", "PromptSRC", "VPT shallow", "VPT deep"}


def test_clip_16shot_has_every_method_on_each_backbone(capsys):
    assert main(["dtd", "all", "--protocol", "clip-16shot", "--seeds", "1", "--dry-run"]) == 0
    out = capsys.readouterr().out
    found = [set(line.removeprefix("methods:  ").split(", ")) for line in out.splitlines() if line.startswith("methods:  ")]
    assert [methods >= EVERYWHERE for methods in found] == 4 * [True]
    assert [TRANSFORMERS & methods for methods in found] == [set(), set(), TRANSFORMERS, TRANSFORMERS]
    assert out.count("each recipe's own number of epochs") == 4
    for backbone in ("clip_rn50", "clip_rn101", "clip_vit_b32", "clip_vit_b16"):
        assert f"/dtd/VP/{backbone}_16shot/16shots/seed1\n" in out, "the baseline of these papers, not the recipe of VP's own"
        assert f"/dtd/VP/{backbone}/16shots" not in out
        assert f"/dtd/VR-ar/{backbone}_attrvr/16shots/seed1\n" in out


def test_clip_16shot_over_all_data_sets(capsys):
    assert main(["all", "clip_rn50", "--protocol", "clip-16shot", "--trainers", "VR-ar", "--dry-run"]) == 0
    lines = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if "seed" in line and "/" in line]
    places = [line.partition("/out/")[2] for line in lines]
    assert places == [f"{name}/VR-ar/clip_rn50/16shots/seed{seed}" for name in Clip16Shot.datasets for seed in (1, 2, 3)]
    assert len(places) == 33 and {"resisc45/VR-ar/clip_rn50/16shots/seed1"} < set(places) and "imagenet" not in "".join(places)


def test_shots_epochs_recipes_and_tags_keep_runs_apart(capsys):
    options = ["lite0", "--trainers", "smm", "VR-pad", "--seeds", "1", "2", "--shots", "4", "--epochs", "3", "--tag", "mine"]
    announced, directories = dry_run(capsys, *options)
    assert "protocol: few-shot" in announced and "3 epochs for every trainer (--epochs)" in announced
    tag = "mine-4shots-ep3"
    places = ("SMM/lite0", "SMM/lite0_head", "VR-pad/lite0")
    assert directories == [f"{place}/{tag}/seed{seed}" for place in places for seed in (1, 2)]
    announced, directories = dry_run(capsys, "lite0", "--trainers", "SMM", "--recipes", "best", "--epochs", "recipe")
    assert "each recipe's own number" in announced and "SMM, SMM head, SMM best" in announced
    assert directories == [f"SMM/{name}/default/seed1" for name in ("lite0", "lite0_head", "lite0_best")]
    _, directories = dry_run(capsys, "lite0", "--trainers", "VR-pad", "--protocol", "few-shot")
    assert directories == [f"VR-pad/lite0/{shots}shots/seed1" for shots in (1, 2, 4, 8, 16)]


def test_warm_up_and_steps_keep_their_share(monkeypatch):
    optim = setup_cfg(build_parser().parse_args([])).OPTIM
    optim.MAX_EPOCH, optim.WARMUP_EPOCH, optim.STEPSIZE = 100, 10, (50, 0.72)
    monkeypatch.setattr(comparison, "recipe_cfg", lambda cell: type("Cfg", (), {"OPTIM": optim}))
    cell = Cell("VPT", "deep", "digits", "vit_b32")
    keys = EpochsRule(20, "").settings(cell)
    assert keys == ("OPTIM.MAX_EPOCH", "20", "OPTIM.WARMUP_EPOCH", "2", "OPTIM.STEPSIZE", "(10, 0.72)")
    assert EpochsRule(100, "").settings(cell) == EpochsRule(None, "").settings(cell) == ()
    optim.MAX_EPOCH = 0  # as many as the data ask for
    assert EpochsRule(20, "").settings(cell) == ("OPTIM.MAX_EPOCH", "20")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "lite1"], "there are: clip_rn101"),
        (["digitz", "lite0"], "did you mean 'digits'"),
        (["digits", "lite0", "--trainers", "CoOp"], "--trainers CoOp: no such trainer with a recipe for lite0"),
        (["digits", "lite0", "--recipes", "weak"], "there are: best"),
        (["digits", "lite0", "--epochs", "0"], "--epochs"),
        (["digits", "lite0", "--jobs", "none"], "--jobs"),
        (["digits", "lite0", "--seeds", "-1"], "--seeds -1"),
        (["digits", "lite0", "--protocol", "full", "--shots", "4"], "--shots cannot be combined with"),
        (["digits", "lite0", "--protocol", "base-to-new"], "choose a CLIP backbone"),
        (["all", "lite0"], "'all' is for --protocol clip-16shot"),
        (["digits", "all", "--shots", "16"], "'all' is for --protocol clip-16shot"),
        (["digits", "tiny_clip", "--protocol", "base-to-new", "--shots", "1", "2"], "one number of --shots"),
        (["digits", "tiny_clip", "--protocol", "cross-dataset"], "--targets"),
        (["digits", "tiny_clip", "--protocol", "cross-dataset", "--targets", "digitz"], "did you mean 'digits"),
        (["digits", "tiny_clip", "--protocol", "clip-16shot", "--shots", "4"], "--shots cannot be combined with"),
        (["digits", "lite0", "--protocol", "clip-16shot", "--trainers", "CoOp"], "no such trainer"),
        (["all", "tiny_clip"], "'all'"),
        (["digits", "lite0", "--", "OPTIM.MAX_EPOCH", "3"], "sets OPTIM.MAX_EPOCH itself"),
        (["digits", "lite0", "--", "TRAINER.VR.METHOD", "full"], "sets TRAINER.VR.METHOD itself"),
    ],
)
def test_mistakes_end_before_the_first_run(capsys, tmp_path, arguments, words):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_base_to_new_from_training_to_the_table(capfd, tmp_path):
    methods = ["--trainers", "CoOp", "LinearProbe", "ZeroshotCLIP-template"]
    command = ["digits", "tiny_clip", "--protocol", "base-to-new", "--shots", "2", "--epochs", "1", "--jobs", "2", *methods, *QUIET]
    assert main(command) == 0
    out, _ = capfd.readouterr()
    assert "not applicable, because their label mapping or head belongs to the training classes: LinearProbe" in out
    content = json.loads((tmp_path / "out/digits/comparison-tiny_clip-base-to-new-2shots-ep1.json").read_text())
    assert content["protocol"] == "base-to-new" and content["epochs_rule"] == "1 epoch for every trainer (--epochs)"
    assert [row["method"] for row in content["methods"]] == ["ZeroshotCLIP template", "CoOp"], "from small to large"
    assert content["not_applicable"] == ["LinearProbe"] and not content["failed"]
    for name, tag, row in zip(("ZeroshotCLIP-template", "CoOp"), ("2shots", "2shots-ep1"), content["methods"], strict=True):
        base, new = (results_of(tmp_path / f"out/digits/{name}/tiny_clip/{tag}-{half}/seed1") for half in ("base", "new"))
        assert base["protocol"] == new["protocol"] == "base-to-new"
        assert (base["classnames"], new["classnames"]) == (list("01234"), list("56789"))
        assert new["evaluated_model"] == "checkpoint" and base["accuracy"] > 50 < new["accuracy"], "names carry over"
        harmonic = 2 * base["accuracy"] * new["accuracy"] / (base["accuracy"] + new["accuracy"])
        assert row["harmonic_mean"] == [pytest.approx(harmonic)]
        (line,) = [line for line in out.splitlines() if line.startswith(row["method"])][-1:]
        assert [f"{number:.1f}" for number in (base["accuracy"], new["accuracy"], harmonic)] == line[len(row["method"]) :].split()[
            :3
        ]

    # Again: everything is there; but a model that was trained anew would be tested anew
    assert main(command) == 0
    again, _ = capfd.readouterr()
    assert again.count("] finished ") == 4 and again[again.index("\nmethod  ") :] == out[out.index("\nmethod  ") :]
    trained = tmp_path / "out/digits/ZeroshotCLIP-template/tiny_clip/2shots-base/seed1"
    tested = trained.parent.with_name("2shots-new") / "seed1"
    test = Run("", tested, {}, ["VERBOSE", "False"], model_dir=trained)
    assert test.task() == "finished"
    os.utime(trained / "results.json")
    assert test.task() == "test"


def test_a_run_that_cannot_be_does_not_cost_the_others(in_this_process, capfd, tmp_path):
    taken = tmp_path / "out/digits/ZeroshotCLIP-template/tiny_clip/2shots/seed1"
    taken.mkdir(parents=True)
    (taken / "config.yaml").write_text("SEED: 7\n")
    command = ["digits", "tiny_clip", "--shots", "1", "2", "--trainers", "ZeroshotCLIP-template", "--format", "csv", *QUIET]
    assert main(command) == 1
    out, err = capfd.readouterr()
    accuracy = results_of(tmp_path / "out/digits/ZeroshotCLIP-template/tiny_clip/1shots/seed1")["accuracy"]
    assert f"\nmethod,1 shot,2 shots,seeds,trained,train s,memory MiB\nZeroshotCLIP template,{accuracy:.1f},,0 to 1,0," in out
    assert "1 of 2 runs failed" in err and str(taken) in err and "choose another --tag" in err
    content = json.loads((tmp_path / "out/digits/comparison-tiny_clip-few-shot.json").read_text())
    assert [failed["run"] for failed in content["failed"]] == ["ZeroshotCLIP template, seed 1"]
    assert (tmp_path / "out/digits/comparison-tiny_clip-few-shot.png").read_bytes().startswith(b"\x89PNG")


def test_cross_dataset(in_this_process, capfd, tmp_path):
    names = ["--targets", "digits_stripes", "--trainers", "zeroshotclip-template"]
    assert main(["digits", "tiny_clip", "--protocol", "cross-dataset", *names, *QUIET]) == 0
    out, _ = capfd.readouterr()
    run = results_of(tmp_path / "out/digits_stripes/ZeroshotCLIP-template/tiny_clip/16shots-from-digits/seed1")
    assert (run["dataset"], run["protocol"]) == ("digits_stripes", "cross-dataset")
    clean = results_of(tmp_path / "out/digits/ZeroshotCLIP-template/tiny_clip/16shots/seed1")
    assert clean["accuracy"] > run["accuracy"] + 10, "with stripes it is harder"
    assert f"{clean['accuracy']:.1f}" in out and "average of targets" in out


@pytest.fixture
def finished_at_once(monkeypatch):
    """train.py that leaves the results of a run of accuracy 50 + SEED, of the data set and method that it was asked for."""

    def finish(self, command, **options):
        cfg = setup_cfg(build_parser().parse_args(command[3:]))
        section = cfg.TRAINER[cfg.TRAINER.NAME.upper()]
        names = {"trainer": cfg.TRAINER.NAME, "dataset": cfg.DATASET.NAME, "backbone": cfg.MODEL.BACKBONE.NAME, "seed": cfg.SEED}
        names |= {"method": section.METHOD, "mapping": section.MAPPING, "shots": cfg.DATASET.NUM_SHOTS}
        numbers = {"accuracy": 50.0 + cfg.SEED, "params_trainable": 1, "params_backbone": 2, "epochs": cfg.OPTIM.MAX_EPOCH}
        Path(cfg.OUTPUT_DIR, "config.yaml").write_text(to_yaml(cfg))
        Path(cfg.OUTPUT_DIR, "results.json").write_text(json.dumps({**names, **numbers}))
        return 0

    monkeypatch.setattr(executors.Children, "run", finish)


def test_clip_16shot_on_one_data_set(finished_at_once, capfd, tmp_path):
    assert main(["dtd", "clip_vit_b16", "--protocol", "clip-16shot", "--trainers", "VR-ar", "VR-attrvr", "--format", "csv"]) == 0
    out, err = capfd.readouterr()
    assert f"note: {NOTE}" in err
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(out[out.index("\ndata,") + 1 :]))}
    for name, published in (("VR ar", 62.0), ("VR attrvr", 65.6)):
        row = rows[name]
        assert (row["accuracy %"], row["95 % interval"], row["seeds"]) == ("52.0 ± 1.0", "49.5 to 54.5", "3")
        assert (row["paper"], row["difference"]) == (str(published), f"{52 - published:+.1f}")
    run = results_of(tmp_path / "out/dtd/VR-ar/clip_vit_b16_attrvr/16shots/seed3")
    assert (run["shots"], run["epochs"], run["mapping"]) == (16, 200, "attrvr")


def test_clip_16shot_over_all_data_sets_in_one_table(finished_at_once, capfd, tmp_path):
    assert main(["all", "clip_vit_b16", "--protocol", "clip-16shot", "--trainers", "VR-ar", "--seeds", "1", "--format", "csv"]) == 0
    out, err = capfd.readouterr()
    (row,) = csv.DictReader(io.StringIO(out[out.index("\nmethod,") + 1 :]))
    assert row["dtd %"] == "51.0 (62.0)" and row["average"] == "51.0 (76.5)"
    assert f"note: {NOTE}" in err and "note: in brackets: the published number" in err
    content = json.loads((tmp_path / "out/all/comparison-clip_vit_b16-clip-16shot-16shots-recipe-epochs.json").read_text())
    assert content["datasets"] == list(Clip16Shot.datasets) and content["methods"][0]["average"] == [51.0]


def test_another_data_set_is_tested_under_its_own_facts(tmp_path):
    """What the run took from the facts of its data set is dropped; what was set manually for the same data set stays."""
    run = ["--trainer", "ZeroshotCLIP", "--config-file", "configs/trainers/ZeroshotCLIP/tiny_clip.yaml", "--seed", "1"]
    keys = ["DATASET.NAME", "digits", "DATASET.NUM_SHOTS", "1", "DATASET.TEMPLATE", "the {}.", "VERBOSE", "False"]
    assert train([*run, "--output-dir", str(tmp_path / "run"), *keys]) == 0
    evaluate = ["--eval-only", "--model-dir", str(tmp_path / "run")]

    def dataset(*more):
        return setup_cfg(build_parser().parse_args([*evaluate, *more])).DATASET

    assert (dataset().TEMPLATE, dataset().FLIP) == ("the {}.", False)
    assert dataset("DATASET.NAME", "DIGITS").TEMPLATE == "the {}."
    cifar = dataset("DATASET.NAME", "cifar10")
    assert (cifar.TEMPLATE, cifar.FLIP, cifar.NATIVE_SIZE) == ("a photo of a {}.", True, 32)
    assert dataset("DATASET.NAME", "eurosat").TEMPLATE == "a centered satellite photo of {}."
    assert dataset("DATASET.NAME", "eurosat", "DATASET.TEMPLATE", "my {}").TEMPLATE == "my {}"


def test_a_head_is_not_tested_on_other_classes(tmp_path, tiny_command, capsys):
    out = tmp_path / "run"
    assert train(tiny_command(out, "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", "1", trainer="VR")) == 0
    assert train(["--eval-only", "--model-dir", str(out)]) == 0
    capsys.readouterr()
    assert train(["--eval-only", "--model-dir", str(out), "DATASET.SUBSAMPLE_CLASSES", "new"]) == 2
    error = capsys.readouterr().err
    assert "VR was trained on other classes than these (only now: '5'; '6'; '7'; and 2 more; only then: '0'" in error
    assert error.count("\n") == 1
