"""Cards: what `--cards` writes of finished runs, what is read of it, and what ends in one line."""

import json
import shutil
import statistics

import pytest
from scipy import stats

from dassl_vr.cli.report import main
from dassl_vr.report.cards import provenance, read_card, read_table
from dassl_vr.report.runs import group_runs, mean_interval
from dassl_vr.report.tables import results_table
from dassl_vr.utils.errors import DataError

ACCURACIES = (90.0, 91.0, 93.0)


@pytest.fixture
def finished(make_run):
    """finished("SMM", ...) makes a run as this version leaves it."""

    def make(trainer, **changes):
        more = {"evaluated_split": "test", "evaluated_model": "last_step", "protocol": "full", "device": "a machine", "cores": 2}
        command = "python -m dassl_vr.cli.train --trainer SMM --root data --seed 0 --output-dir 'a b' --resume 'a b' OPTIM.LR 0.1"
        more |= {"processes": 1, "date": "2026-11-27", "commit": "abc", "command": command}
        return make_run(trainer, **more | changes)

    return make


@pytest.fixture
def three_seeds(finished):
    for seed, accuracy in enumerate(ACCURACIES):
        finished("SMM", seed=seed, accuracy=accuracy)


def write(tmp_path, capsys):
    """The exit code, and what is said on standard error."""
    code = main([str(tmp_path / "output"), "--cards", str(tmp_path / "results")])
    return code, capsys.readouterr().err


def test_a_card_holds_the_seeds_and_what_follows_from_them(three_seeds, tmp_path, capsys):
    assert write(tmp_path, capsys) == (0, f"wrote 1 card to {tmp_path / 'results'}\n")
    (path,) = (tmp_path / "results").rglob("*.json")
    assert path.relative_to(tmp_path / "results").as_posix() == "eurosat/rn18/full/SMM-ilm.json"
    card = read_card(path)
    assert [card["runs"][str(seed)]["accuracy"] for seed in range(3)] == list(ACCURACIES)
    assert (card["mean"], card["std"]) == (pytest.approx(274 / 3), pytest.approx(statistics.stdev(ACCURACIES)))
    textbook = stats.t.interval(0.95, 2, loc=statistics.fmean(ACCURACIES), scale=stats.sem(ACCURACIES))
    assert card["interval"] == pytest.approx(list(textbook))
    assert card["published"] == {"accuracy": 92.2, "std": 0.2, "source": "Cai et al., ICML 2024"}, "the recipe is the paper's"
    assert card["command"] == "python -m dassl_vr.cli.train --trainer SMM --seed 0 OPTIM.LR 0.1", "wherever the files were"
    assert "history" not in path.read_text() and path.stat().st_size < 4096


def test_the_table_of_cards_is_that_of_the_runs(three_seeds, finished, tmp_path, capsys):
    finished("VR", method="full", seed=1, accuracy=80.5, settings={"OPTIM.LR": 0.1}, params_trainable=9, ece=1.5, nll=0.25)
    assert write(tmp_path, capsys)[0] == 0
    groups = read_table(tmp_path / "results/eurosat/rn18/full")
    assert [group.name for group in groups] == ["VR full", "SMM"], "from small to large"
    runs = sorted(group_runs([tmp_path / "output"]), key=lambda group: group.name, reverse=True)
    assert results_table(groups) == results_table(runs)
    headers, rows = results_table(groups)
    smm = dict(zip(headers, rows[1]))
    assert (smm["accuracy %"], smm["95 % interval"], smm["paper"]) == ("91.3 ± 1.5", "87.5 to 95.1", "92.2 ± 0.2")
    assert dict(zip(headers, rows[0]))["not as in the paper"] == "OPTIM.LR"
    assert provenance(groups) == (
        "Measured 2026-11-27 on a machine (2 cores), fp32; dassl_vr None, torch 2.9, commit abc. 4 runs, "
        "4 minutes of training in all."
    )
    assert groups[0].runs[1]["ece"] == 1.5 and groups[0].runs[1]["nll"] == 0.25


@pytest.mark.parametrize(
    ("run", "place"),
    [
        ({"trainer": "SMM", "tag": "ep20"}, "eurosat/rn18/full/SMM-ilm-ep20.json"),
        ({"trainer": "SMM", "evaluated_split": "val"}, "eurosat/rn18/full-val/SMM-ilm.json"),
        ({"trainer": "VR", "method": "full", "shots": 16, "tag": "16shots"}, "eurosat/rn18/16shots/VR-full-ilm.json"),
        ({"trainer": "CoOp", "mapping": None, "shots": 16, "tag": "mine-16shots-ep5"}, "eurosat/rn18/16shots/CoOp-mine-ep5.json"),
        ({"trainer": "SMM", "subsample_classes": "base", "tag": "base"}, "eurosat/rn18/base/SMM-ilm.json"),
        ({"trainer": "SMM", "backbone": "timm:../a b", "dataset": "My/Data"}, "my-data/timm-..-a-b/full/SMM-ilm.json"),
    ],
)
def test_a_folder_is_what_is_compared(finished, tmp_path, capsys, run, place):
    finished(seed=0, **run)
    assert write(tmp_path, capsys)[0] == 0
    (path,) = (tmp_path / "results").rglob("*.json")
    assert path.relative_to(tmp_path / "results").as_posix() == place


def test_a_recipe_of_another_name_has_a_card_of_its_own(finished, tmp_path, capsys):
    robust = finished("SMM", seed=0, accuracy=50.0)
    place = robust.parents[2] / "rn18_robust/default/seed0"
    place.parent.mkdir(parents=True)
    robust.rename(place)
    finished("SMM", seed=0, accuracy=90.0)
    assert write(tmp_path, capsys)[0] == 0
    folder = tmp_path / "results/eurosat/rn18/full"
    assert {path.name: read_card(path)["mean"] for path in folder.iterdir()} == {"SMM-ilm.json": 90.0, "SMM-ilm-robust.json": 50.0}


def test_two_runs_of_one_seed_end_in_one_line(finished, tmp_path, capsys):
    shutil.copytree(finished("SMM", seed=0).parents[3], tmp_path / "output/copy")
    code, error = write(tmp_path, capsys)
    assert code == 2 and "same method, data, recipe and seed" in error and error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_seeds_of_different_settings_are_no_cell(finished, tmp_path, capsys):
    for seed, rate in ((0, 0.1), (1, 0.2)):
        finished("SMM", seed=seed, settings={"OPTIM.LR": rate, "SEED": seed})
    code, error = write(tmp_path, capsys)
    assert code == 2 and "the runs of different seeds differ in OPTIM.LR" in error and error.count("\n") == 1


def test_a_card_names_no_folders_of_the_machine(finished, tmp_path, capsys):
    words = "/usr/bin/python train.py --root=/home/me --output-dir=/home/me/out --plugin /home/me/mine.py DATASET.ROOT /home/me"
    finished("SMM", seed=0, command=f"{words} --resume /home/me/out --config-file=/home/me/lite0.yaml OPTIM.LR 1")
    assert write(tmp_path, capsys)[0] == 0
    (path,) = (tmp_path / "results").rglob("*.json")
    expected = "python train.py --plugin mine.py DATASET.ROOT me --config-file=lite0.yaml OPTIM.LR 1"
    assert read_card(path)["command"] == expected


def test_a_command_that_no_shell_reads_stays_as_it_is(finished, tmp_path, capsys):
    finished("SMM", seed=0, command="train 'it")
    assert write(tmp_path, capsys)[0] == 0
    (path,) = (tmp_path / "results").rglob("*.json")
    assert read_card(path)["command"] == "train 'it"


def test_a_card_of_validation_images_has_no_published_figure(finished, tmp_path, capsys):
    """The published one is of test images, whatever the setting."""
    for seed, accuracy in enumerate(ACCURACIES):
        finished("SMM", seed=seed, accuracy=accuracy, evaluated_split="val")
    assert write(tmp_path, capsys)[0] == 0
    assert read_card(tmp_path / "results/eurosat/rn18/full-val/SMM-ilm.json")["published"] is None


def test_one_seed_has_no_interval():
    assert mean_interval([90.0]) is None
    assert mean_interval([94.4, 94.4]) == (94.4, 94.4), "no randomness"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"evaluated_split": "train_x"}, "tested neither on the test nor on the validation images"),
        ({"accuracy": None}, "tested neither on the test nor on the validation images"),
        ({"evaluated_model": "checkpoint"}, "a test of what another run has trained"),
    ],
)
def test_other_runs_have_no_card(three_seeds, finished, tmp_path, capsys, change, reason):
    finished("VR", method="full", seed=0, **change)
    code, said = write(tmp_path, capsys)
    assert code == 0 and f"no card: EuroSAT rn18 VR full default: {reason}" in said and "wrote 1 card" in said


def test_an_unfinished_seed_has_no_card(three_seeds, tmp_path, capsys):
    (tmp_path / "output/eurosat/SMM/rn18/default/seed2/results.json").unlink()
    code, said = write(tmp_path, capsys)
    assert code == 0 and "seed2 has not finished" in said and not list((tmp_path / "results").rglob("*.json"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "bf16"}, "differ in 'precision'"),
        ({"versions": {"torch": "2.8"}}, "differ in 'versions'"),
        ({"device": "another"}, "differ in 'device'"),
        ({"epochs": 3}, "differ in 'epochs'"),
        ({"date": None}, "entry 'runs.3.date' is missing; train it again with this version"),
    ],
)
def test_seeds_of_several_settings_make_no_card(three_seeds, finished, tmp_path, capsys, change, words):
    finished("SMM", seed=3, **change)
    results = tmp_path / "output/eurosat/SMM/rn18/default/seed3/results.json"
    results.write_text(json.dumps({k: v for k, v in json.loads(results.read_text()).items() if v is not None}))
    code, said = write(tmp_path, capsys)
    assert code == 2 and not (tmp_path / "results").exists()
    errors = [line for line in said.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1 and words in errors[0]


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("mean", 95.0, "entry 'mean' is not that of its runs"),
        ("std", 0.1, "entry 'std' is not that of its runs"),
        ("interval", None, "entry 'interval' is not that of its runs"),
        ("runs", {}, "entry 'runs' is empty"),
        ("runs", {"one": {}}, "expected a seed"),
        ("runs", {"0": {"accuracy": "high"}}, "entry 'runs.0.accuracy' is 'high'"),
        ("published", {"accuracy": 92.2, "std": None}, "entry 'published.source' is missing"),
        ("trainer", 5, "entry 'trainer' is 5"),
        ("remark", "", "entry 'remark'"),
    ],
)
def test_a_damaged_card_ends_in_one_line(three_seeds, tmp_path, capsys, entry, value, words):
    write(tmp_path, capsys)
    (path,) = (tmp_path / "results").rglob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(DataError) as error:
        read_table(path.parent)
    assert str(error.value).startswith(f"{path}: not a card: ") and words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_files_that_are_no_cards(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match="not a card"):
        read_table(tmp_path)


def test_a_folder_is_a_table(three_seeds, finished, tmp_path, capsys):
    write(tmp_path, capsys)
    folder = tmp_path / "results/eurosat/rn18/full"
    (folder / "SMM-ilm.json").rename(folder / "VR.json")
    with pytest.raises(DataError, match="by its content this card is eurosat/rn18/full/SMM-ilm.json"):
        read_table(folder)
    (folder / "VR.json").unlink()
    with pytest.raises(DataError, match="no cards"):
        read_table(folder)
    for seed in range(3):
        finished("VR", method="full", seed=seed, split_sha256="b" * 64)
    write(tmp_path, capsys)
    with pytest.raises(DataError, match="these cards make no table: .*split_sha256 differs"):
        read_table(folder)
