"""The tables of the paper: what they publish, and that the recipes are the setting it was measured with."""

import pytest

from dassl_vr.paper import DATASETS, PAPER_REGISTRY, paper_table, published_of
from dassl_vr.paper.setting import differences
from dassl_vr.report.tables import mean_std
from dassl_vr.reprogramming import MaskGenerator
from dassl_vr.runs.plan import Run

TABLES = PAPER_REGISTRY.registered_names()


@pytest.mark.parametrize("name", TABLES)
def test_what_a_table_trains_by_default_is_the_published_setting(name, tmp_path):
    """The recipes, the facts of the data sets and the cells together give what the published numbers were measured with."""
    table = paper_table(name)
    backbones = {backbone for backbone, *_ in table.published}
    for backbone in backbones:
        # One of large batches and two of small ones
        for dataset in {"cifar10", "dtd", "oxford_pets"} & set(table.datasets) or set(table.datasets):
            for variant, cell in table.cells(dataset, backbone):
                published = published_of(table, variant, backbone, dataset)
                if published is not None:
                    run = cell.run(0, str(tmp_path), "default", str(tmp_path))
                    assert isinstance(run, Run) and differences(run.cfg, published.setting) == [], (variant, dataset, backbone)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("methods", 3 * 5 * 12),
        ("ablation", 4 * 12),
        ("mapping", 2 * 3 * 12),
        ("learning_rates", 8),
        ("ucf101_rates", 2),
        ("generator_size", 6),
        ("interpolation", 0),
        ("stanford_cars", 3 * 5),
        ("lora", 2 * (11 + 2)),
        ("finetuning", 2 * 12),
    ],
)
def test_every_published_number_is_there(name, count):
    assert len(paper_table(name).published) == count


@pytest.mark.parametrize(
    ("name", "label", "column", "backbone", "dataset", "expected"),
    [
        ("methods", "smm", "", "rn18", "OxfordFlowers", "38.7 ± 0.7"),
        ("methods", "smm", "", "rn18", "oxford_flowers", "38.7 ± 0.7"),
        ("methods", "pad", "", "rn50", "DescribableTextures", "40.5 ± 0.5"),
        ("methods", "full", "", "vit_b32", "OxfordPets", "75.3"),
        ("ablation", "only_mask", "", "rn18", "SVHN", "51.1 ± 3.1"),
        ("mapping", "rlm", "with", "rn18", "EuroSAT", "94.5"),
        ("mapping", "rlm", "without", "rn18", "average", "33.4"),
        ("learning_rates", "rate 0.0001, decay 0.1", "", "vit_b32", "CIFAR10", "97.3"),
        ("ucf101_rates", "rate 0.01, decay 0.1", "", "vit_b32", "UCF101", "49.9"),
        ("generator_size", "1,566,723", "", "rn18", "EuroSAT", "93.5"),
        ("stanford_cars", "smm", "", "vit_b32", "StanfordCars", "4.8 ± 0.9"),
        ("finetuning", "smm + head", "", "rn50", "SVHN", "86.9"),
    ],
)
def test_some_published_numbers(name, label, column, backbone, dataset, expected):
    table = paper_table(name)
    (variant,) = (v for v in table.variants() if (v.label, v.column) == (label, column))
    published = published_of(table, variant, backbone, dataset)
    assert mean_std(published.accuracy, published.std) == expected


def test_an_average_of_the_paper_is_that_of_its_numbers():
    table = paper_table("methods")
    for backbone in table.backbones:
        for variant in table.variants():
            numbers = [published_of(table, variant, backbone, dataset).accuracy for dataset in DATASETS]
            average = published_of(table, variant, backbone, "average").accuracy
            assert abs(sum(numbers) / len(numbers) - average) < 0.06, (variant.label, backbone)


def test_the_generators_have_the_published_sizes():
    for variant in paper_table("generator_size").variants():
        (width,) = variant.settings.values()
        generator = MaskGenerator(width=width)
        assert f"{sum(p.numel() for p in generator.parameters()):,}" == variant.label
