"""`scripts/reproduce.sh`: which runs a table needs, what becomes of them, and what an interruption costs."""

import csv
import fcntl
import io
import json
import os
import re
import signal
import threading
import time

import pytest

from dassl_vr.cli.reproduce import main
from dassl_vr.paper import PAPER_REGISTRY, PaperTable, Variant, paper_table

TINY = ["--", "INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "2", "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "VERBOSE", "False"]
# Cheap enough, and long enough to be interrupted
RUN = [*TINY, "OPTIM.MAX_EPOCH", "6", "TRAIN.END_FIGURES", "False"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch, repository, tmp_path):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))


@pytest.fixture
def one_cell():
    """`one`, a table with SMM alone."""

    @PAPER_REGISTRY.register(name="one")
    class One(PaperTable):
        def variants(self):
            return [Variant("smm", "SMM")]

    yield
    PAPER_REGISTRY.remove("one")


def dry_run(capsys, *arguments):
    """(exit code, {directory below the data set's: state})."""
    code = main([*arguments, "--dry-run"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:-1]]
    return code, {directory.split("/digits/")[1]: state for state, directory in lines}


@pytest.mark.parametrize(
    ("table", "directories"),
    [
        ("methods", [f"{name}/lite0/default" for name in ("VR-pad", "VR-narrow", "VR-medium", "VR-full", "SMM")]),
        ("ablation", [f"{name}/lite0/default" for name in ("VR-full", "SMM-only_mask", "SMM-single_channel", "SMM")]),
        ("patch_size", [f"SMM/lite0/{tag}" for tag in ("patch1", "patch2", "patch4", "default", "patch16", "patch32")]),
    ],
)
def test_the_runs_of_a_table(capsys, tmp_path, table, directories):
    code, states = dry_run(capsys, table, "--backbone", "lite0", "--datasets", "digits", "--seeds", "0", "2")
    assert code == 0 and set(states.values()) == {"train"}
    assert list(states) == [f"{directory}/seed{seed}" for directory in directories for seed in (0, 2)]
    assert not (tmp_path / "out").exists(), "a dry run leaves nothing"


def test_the_mapping_table_has_every_mapping_of_labels(capsys):
    code, states = dry_run(capsys, "mapping", "--backbone", "lite0", "--datasets", "digits", "--seeds", "0")
    tags = ["mapping-rlm", "mapping-flm", "default", "mapping-blm", "mapping-blm+", "mapping-linear"]
    assert code == 0
    for name in ("VR-full", "SMM"):
        found = [place.split("/")[2] for place in states if place.startswith(f"{name}/")]
        assert found[:3] == tags[:3] and set(tags) <= set(found) and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("table", "cells", "places"),
    [
        ("methods", 11 * 5 * 3, "cifar10/VR-pad/rn18/default oxford_pets/SMM/rn18/default"),
        ("ablation", 11 * 4 * 3, "dtd/SMM-only_mask/rn18/default"),
        ("patch_size", 11 * 6 * 3, "svhn/SMM/rn18/patch32"),
        ("learning_rates", 8 * 3, "cifar10/SMM/vit_b32/rate0.1-decay1 cifar10/SMM/vit_b32/default"),
        ("ucf101_rates", 2 * 3, "ucf101/SMM/vit_b32/rate0.01-decay0.1 ucf101/SMM/vit_b32/default"),
        ("generator_size", 6 * 3, "eurosat/SMM/rn18/width0.5 eurosat/SMM/rn18/default eurosat/SMM/rn18/width16"),
        ("interpolation", 3 * 3, "cifar10/SMM/rn18/default cifar10/SMM/rn18/bicubic"),
        ("stanford_cars", 3 * 5 * 3, "stanford_cars/VR-narrow/rn50/default stanford_cars/SMM/vit_b32/default"),
        ("lora", 11 * 2 * 3, "svhn/LoRA/vit_l16_384/default svhn/SMM/vit_l16_384/default"),
        ("finetuning", 11 * 2 * 3, "gtsrb/LinearProbe/rn50/smm-recipe gtsrb/SMM/rn50/mapping-head"),
    ],
)
def test_by_default_the_whole_table_of_the_paper(capsys, tmp_path, table, cells, places):
    assert main([table, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert text.endswith(f"\n{cells} train\n")
    for place in places.split():
        assert all(f"train     {tmp_path}/out/{place}/seed{seed}\n" in text for seed in (0, 1, 2))


def test_the_recipes_own_patch_is_no_variant(capsys):
    _, states = dry_run(capsys, "patch_size", "--backbone", "vit_b32", "--datasets", "digits", "--seeds", "0", "--tag", "mine")
    tags = ["mine-patch1", "mine-patch2", "mine-patch4", "mine", "mine-patch16", "mine-patch32"]
    assert list(states) == [f"SMM/vit_b32/{tag}/seed0" for tag in tags]
    five, six = (paper_table("patch_size").cells("digits", backbone)[-1][1].settings for backbone in ("rn18", "vit_b32"))
    assert five[2:] == ("TRAINER.SMM.LAYERS", "6"), "32 needs six layers"
    assert six == ("TRAINER.SMM.PATCH_SIZE", "32")


def test_every_table_at_once_and_what_quick_takes(capsys, tmp_path):
    assert main(["all", "--quick", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name}: " in text for name in PAPER_REGISTRY.registered_names())
    places = {line.split("/out/")[1] for line in text.splitlines() if "/out/" in line}
    datasets, backbones = ({place.split("/")[part] for place in places} for part in (0, 2))
    assert datasets == {"digits"} and backbones == {"lite0", "tiny_vit"}
    assert "digits/SMM/tiny_vit/quick-rate0.1-decay1/seed0" in places and "digits/SMM/lite0/quick/seed0" in places
    assert not (tmp_path / "out").exists()


def test_a_table_of_a_plug_in(capsys, tmp_path):
    (tmp_path / "margins.py").write_text(
        "from dassl_vr.paper import PAPER_REGISTRY, PaperTable, Variant\n"
        "@PAPER_REGISTRY.register(name='margins')\n"
        "class Margins(PaperTable):\n"
        "    backbones, datasets, seeds = ('lite0',), ('digits',), (4,)\n"
        "    def variants(self):\n"
        "        return [Variant(f'{n}', 'SMM', tag=f'margin{n}', settings={'INPUT.MARGIN': n}) for n in (16, 32)]\n"
    )
    try:
        code, states = dry_run(capsys, "margins", "--plugin", str(tmp_path / "margins.py"))
        assert code == 0 and list(states) == ["SMM/lite0/margin16/seed4", "SMM/lite0/margin32/seed4"]
    finally:
        PAPER_REGISTRY.remove("margins")


def test_parameters_need_no_run(capsys):
    assert main(["parameters", "--format", "csv"]) == 0
    first, second, third = csv.DictReader(io.StringIO(capsys.readouterr().out.strip()))
    assert (first["generator"], second["generator"], third["generator"]) == ("26,499", "26,499", "102,339")
    for row in (first, second, third):
        assert row["generator"] == row["paper"] and row["generator, % of backbone"] == row["paper's %"]
    assert (first["pattern"], third["pattern"]) == ("150,528", "442,368")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backbone", "rn51"], "no recipe configs/trainers/VR/rn51.yaml; did you mean 'rn50'?"),
        (["--datasets", "digitz"], "did you mean 'digits'"),
        (["--datasets", "digits", "--", "OPTIM.MAX", "3"], "OPTIM.MAX_EPOCH"),
        (["--datasets", "digits", "--", "SEED", "3"], "sets SEED itself"),
        (["--datasets", "digits", "--", "TRAINER.VR.METHOD", "full"], "sets TRAINER.VR.METHOD itself"),
        (["--datasets", "digits", "--seeds", "-1"], "--seeds -1"),
        (["--plugin", "nowhere.py"], "no such Python file"),
    ],
)
def test_mistakes_end_before_the_first_run(capsys, tmp_path, arguments, words):
    assert main(["methods", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_unknown_table(capsys):
    assert main(["metods", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "unknown table of the paper 'metods'; did you mean 'methods'?" in error and error.count("\n") == 1


def test_in_any_directory(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OUTPUT")
    code, states = dry_run(capsys, "methods", "--backbone", "lite0", "--datasets", "digits", "--seeds", "0")
    assert code == 0 and len(states) == 5 and not list(tmp_path.iterdir())


def rows_of(text):
    """The table at the end of what was printed as CSV, without its averages."""
    table = text[text.rindex("\n\ndata,") + 2 :]
    return [row for row in csv.DictReader(io.StringIO(table)) if not row["data"].startswith("average")]


def test_failure_interruption_and_the_same_table(one_cell, monkeypatch, tmp_path, capfd):
    # A run that fails is named, and the one after it done; `folder`, here `data`, has no images
    command = ["one", "--backbone", "tiny_vit", "--datasets", "folder", "digits", "--seeds", "1", "--format", "csv", *RUN]
    assert main(command) == 1
    out, err = capfd.readouterr()
    failed, good = tmp_path / "out/data/SMM/tiny_vit/default/seed1", tmp_path / "out/digits/SMM/tiny_vit/default/seed1"
    assert f"1 of 2 runs failed:\n  {failed}: " in err and "console.txt)" in err
    assert "failed: " in out and "error:" in (failed / "console.txt").read_text()
    assert re.search(r"\[2/2\] [\d.]+ % after 0:00:\d\d\n", out), "its accuracy and time, and nothing is left"
    assert re.search(r"\[1/2\] failed after 0:00:\d\d; 1 left, about 0:0\d:\d\d\n", out)
    assert (good / "results.json").is_file() and "epoch [6/6]" in (good / "console.txt").read_text()
    expected = rows_of(out)
    assert len(expected) == 1 and expected[0]["method"] == "smm" and expected[0]["seeds"] == "1"

    # The same in another place, stopped once there is something to resume from
    monkeypatch.setenv("OUTPUT", str(tmp_path / "again"))
    command[command.index("folder") : command.index("digits") + 1] = ["digits"]
    directory = tmp_path / "again/digits/SMM/tiny_vit/default/seed1"

    def stop():
        while not (directory / "resume.pt").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    assert main(command) == 130
    assert "interrupted; to continue: " in capfd.readouterr().err
    with open(directory / "console.txt") as console:
        fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while a process of the run lives
    assert not (directory / "results.json").exists(), "a child that lived on would have finished"
    capfd.readouterr()
    assert main([*command[: -len(RUN)], "--dry-run", *RUN]) == 0 and "resume " in capfd.readouterr().out

    assert main(command) == 0
    out, _ = capfd.readouterr()
    assert f"resume    {directory}" in out and rows_of(out) == expected
    assert (directory / "console.txt").read_text().count("Resumed from") == 1
    first, second = (json.loads((path / "results.json").read_text()) for path in (good, directory))
    losses = [[epoch["loss"] for epoch in run["history"]] for run in (first, second)]
    assert losses[0] == losses[1] and len(losses[0]) == 6, "as if nothing had happened"

    # Finished runs are left alone; settings that are not theirs do not go into their directory
    before = (directory / "results.json").stat().st_mtime_ns
    assert main(command) == 0 and f"finished  {directory}" in capfd.readouterr().out
    assert (directory / "results.json").stat().st_mtime_ns == before
    assert main([*command, "OPTIM.LR", "0.5"]) == 1
    assert "OPTIM.LR 0.01 -> 0.5); choose another --tag" in capfd.readouterr().err
    assert main([*command[: -len(RUN)], "--dry-run", *RUN, "OPTIM.LR", "0.5"]) == 1
    out, err = capfd.readouterr()
    assert f"cannot    {directory}: " in out and "OPTIM.LR 0.01 -> 0.5" in out and not err, "the reason, once"


def test_a_run_that_another_process_works_on_is_waited_for(one_cell, tmp_path, capfd):
    """As after `kill -9` of the command, when its child lives on: here the other one finishes the run meanwhile."""
    directory = tmp_path / "out/digits/SMM/tiny_vit/default/seed1"
    directory.mkdir(parents=True)
    other = open(directory / "console.txt", "w")  # noqa: SIM115
    fcntl.flock(other, fcntl.LOCK_EX)

    def finish():
        time.sleep(1.0)
        results = {"trainer": "SMM", "method": "smm", "dataset": "digits", "backbone": "tiny_vit", "mapping": "ilm", "seed": 1}
        results |= {"shots": 2, "epochs": 6, "accuracy": 50.0, "params_trainable": 1, "params_backbone": 1}
        (directory / "results.json").write_text(json.dumps(results))
        other.close()

    threading.Thread(target=finish, daemon=True).start()
    assert main(["one", "--backbone", "tiny_vit", "--datasets", "digits", "--seeds", "1", *RUN]) == 0
    out, _ = capfd.readouterr()
    assert "waiting for another process" in out and "50.0" in out
    assert (directory / "console.txt").read_text() == "", "nothing was trained"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_tables_train_at_a_tiny_budget_and_a_second_call_trains_nothing(capfd):
    """Every run of `all --quick` finishes, and every table is printed."""
    command = ["all", "--quick", "--jobs", "2"]
    assert main(command) == 0
    first = capfd.readouterr().out
    assert main(command) == 0
    second = capfd.readouterr().out
    assert not re.search("^(train|resume) ", second, re.MULTILINE)

    def tables(text):
        return text[text.index(f"\n{PAPER_REGISTRY.registered_names()[0]}: ") :]

    assert tables(first) == tables(second)
    for name in PAPER_REGISTRY.registered_names():
        assert f"\n{name}: {paper_table(name).title}\n" in first
