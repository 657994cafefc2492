"""A table of the paper as text, on results written for the test."""

import pytest

from dassl_vr.paper import DATASETS, paper_table
from dassl_vr.report.paper import paper_text
from dassl_vr.report.runs import group_runs


@pytest.fixture
def shown(make_run):
    """shown("methods", [(label, column, {changes of the results}), ...], datasets) -> rows as {heading: text}."""

    def show(name, cells, datasets, seeds=(0,)):
        table, done = paper_table(name), []
        for label, column, changes in cells:
            (variant,) = (v for v in table.variants() if (v.label, v.column) == (label, column))
            method = {"method": variant.method} if variant.method else {}
            mapping = {"mapping": label} if column else {}
            directory = make_run(variant.trainer, seed=0, tag=variant.tag or "default", **method, **mapping, **changes)
            done += [(variant, group) for group in group_runs([directory])]
        headers, rows = paper_text(table, done, datasets, seeds)
        return [dict(zip(headers, row, strict=True)) for row in rows]

    return show


def test_averages_are_over_the_data_sets_that_are_there(shown):
    cells = [
        ("smm", "", {"dataset": "EuroSAT", "accuracy": 92.0}),
        ("smm", "", {"dataset": "DescribableTextures", "accuracy": 34.0}),
        ("full", "", {"dataset": "EuroSAT", "accuracy": 84.0}),
    ]
    rows = shown("methods", cells, ["eurosat", "dtd"], seeds=(0, 1))
    smm, full = rows[-2:]
    assert (smm["data"], smm["accuracy %"], smm["paper"], smm["difference"]) == ("average, 2 of 11", "63.0", "62.9", "+0.1")
    assert (full["data"], full["accuracy %"], full["paper"], full["difference"]) == ("average, 1 of 11", "84.0", "84.3", "-0.3")
    assert [row["missing seeds"] for row in rows] == ["1", "1", "1", "", ""]


def test_an_average_with_a_run_of_another_setting_has_no_number_of_the_paper(shown):
    cells = [("smm", "", {"dataset": "EuroSAT"}), ("smm", "", {"dataset": "DescribableTextures", "epochs": 100})]
    first, second, average = shown("methods", cells, ["eurosat", "dtd"])
    assert first["paper"] and not second["paper"] and not average["paper"]
    assert second["not as in the paper"] == "OPTIM.MAX_EPOCH"


def test_data_sets_that_are_none_of_the_papers_have_an_average_of_their_own(shown):
    cells = [("smm", "", {"dataset": name, "accuracy": accuracy}) for name, accuracy in (("digits", 80.0), ("FashionMNIST", 70.0))]
    *_, average = shown("methods", cells, ["digits", "fashion_mnist"])
    assert (average["data"], average["accuracy %"]) == ("average, 2 of 2", "75.0") and "paper" not in average


def test_without_with_and_improvement_stand_in_one_row(shown):
    cells = [("flm", "without", {"accuracy": 85.0}), ("flm", "with", {"accuracy": 92.0}), ("ilm", "with", {"accuracy": 92.2})]
    flm, ilm, *averages = shown("mapping", cells, ["eurosat"])
    assert [flm[name] for name in ("mapping", "without", "with", "improvement")] == ["flm", "85.0", "92.0", "+7.0"]
    assert [flm[f"paper: {name}"] for name in ("without", "with", "improvement")] == ["86.0", "92.7", "+6.7"]
    assert flm["difference"] == "+0.3" and (ilm["without"], ilm["improvement"]) == ("", "")
    assert [row["data"] for row in averages] == ["average, 1 of 11"] * 2


def test_training_accuracy_of_both_and_reads_of_pixels(shown):
    cells = [("26,499", "", {"accuracy": 92.0, "accuracy_train": 96.0})]
    (row,) = shown("generator_size", cells, ["eurosat"])
    assert (row["train %"], row["paper's train %"], row["paper"], row["trained"]) == ("96.0", "96.2", "92.2", "150,528")
    (row,) = shown("interpolation", [("patch", "", {"dataset": "CIFAR10", "seconds_train": 400.0})], ["cifar10"])
    assert (row["s per epoch"], row["pixel accesses"]) == ("2.00", "150,528")


def test_two_averages_of_which_the_paper_has_only_the_numbers_of_one(shown):
    small = [("lora", "", {"dataset": name, "accuracy": 80.0}) for name in ("CIFAR10", "CIFAR100", "SVHN", "GTSRB")]
    large = ("OxfordFlowers", "DescribableTextures", "UCF101", "Food101", "SUN397", "EuroSAT", "OxfordPets")
    cells = small + [("lora", "", {"dataset": name, "accuracy": 84.4}) for name in large]
    fixed = {"backbone": "vit_l16_384", "epochs": 10, "mapping": "head"}
    rows = shown("lora", [(*cell[:2], {**cell[2], **fixed}) for cell in cells], DATASETS)
    shortened = [[row[name] for name in ("data", "accuracy %", "paper", "difference")] for row in rows[-2:]]
    assert shortened == [
        ["average of 32 px, 4 of 4", "80.0", "77.9", "+2.1"],
        ["average of 128 px, 7 of 7", "84.4", "83.4", "+1.0"],
    ]
    assert [row["paper"] for row in rows[:5]] == ["95.9", "83.6", "65.3", "66.6", ""]
