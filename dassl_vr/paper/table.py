"""A table of the paper: its rows, defaults and published numbers; and which published number a run may be compared with."""

import csv
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.recipes import recipes_of
from ..config.validate import leaves, lookup
from ..runs.cells import Cell, recipe_cfg
from ..utils.errors import ConfigError
from ..utils.registry import Registry, nearest
from .setting import differences, plain, recipe_of_the_paper, short_name

if TYPE_CHECKING:
    from ..report.runs import Group

PAPER_REGISTRY = Registry("table of the paper")
SMALL_SIDE = ("cifar10", "cifar100", "svhn", "gtsrb")  # images of 32 pixels
# The eleven of the paper, by the names of their files in configs/datasets
DATASETS = (*SMALL_SIDE, "oxford_flowers", "dtd", "ucf101", "food101", "sun397", "eurosat", "oxford_pets")
# What makes two methods share a recipe
RECIPE_SECTIONS = ("INPUT", "DATALOADER", "OPTIM")


@dataclass(frozen=True)
class Variant:
    """A row of a table: one way to train, the same on every backbone and data set.

    Attributes:
        label: shown in the table, and the key in the file of published numbers.
        method: of a trainer that has several; "" = its default.
        tag: part of its run directories, where the recipe does not have these settings already.
        settings: {key: value} on top of the recipe.
        recipe_of: the trainer whose recipe gives images, batches and learning rates; "" = its own.
        column: heading of its accuracy, in a table with several accuracies per row.
    """

    label: str
    trainer: str
    method: str = ""
    tag: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    recipe_of: str = ""
    column: str = ""


@dataclass(frozen=True)
class Published:
    """A number of the paper, with the setting in which it was measured.

    Attributes:
        accuracy: on the test images in percent; None where the paper gives only an average over data sets.
        std: over three seeds; None where it is not stated.
        train: accuracy on the training images, None where it is not stated.
        setting: {key: value}.
        source: where it stands.
        remark: what is not as in a run of that setting, though no key says so; "" = nothing.
    """

    accuracy: float | None
    std: float | None
    train: float | None
    setting: Mapping[str, Any]
    source: str = ""
    remark: str = ""

    def unlike(self, config: Mapping) -> list[str]:
        """In what a run with this configuration is not what the number was measured with: keys, and the remark."""
        return [*differences(config, self.setting), *filter(None, [self.remark])]


@dataclass(frozen=True)
class Quick:
    """What `--quick` uses instead of a table's defaults: a trial of the whole pipeline on images that come with packages."""

    backbones: Sequence[str] = ("lite0",)
    datasets: Sequence[str] = ("digits",)
    seeds: Sequence[int] = (0,)
    settings: Mapping[str, Any] = field(
        default_factory=lambda: {
            "INPUT.SIZE": (32, 32),
            "DATASET.NUM_SHOTS": 2,
            "DATALOADER.TRAIN_X.BATCH_SIZE": 10,
            "OPTIM.MAX_EPOCH": 1,
            "TRAIN.END_FIGURES": False,
        }
    )


class PaperTable:
    """A table: a subclass that is registered with `PAPER_REGISTRY`. Its numbers are in a CSV file beside it, if it has any.

    Attributes:
        title: what it compares.
        source: where its numbers stand.
        remarks: {label of a variant: `remark` of its numbers}.
        backbones, datasets, seeds: what it is made of by default.
        quick: the same for `--quick`, with a tiny budget.
        rows: heading of the column with its variants' labels.
        columns: {heading: function of (the runs of a row, its published number or None) that gives the text}.
        averages: {name: data sets} over which the last rows average; {} = over all of `datasets`.
        pair: headings of two variants that share a row, which also shows the improvement of the second over the first; () = none.
    """

    title = ""
    source = "Cai et al., ICML 2024"
    remarks: Mapping[str, str] = {}
    backbones: Sequence[str] = ("rn18",)
    datasets: Sequence[str] = DATASETS
    seeds: Sequence[int] = (0, 1, 2)
    quick = Quick()
    rows = "method"
    columns: Mapping[str, Callable[["Group", Published | None], str]] = {}
    averages: Mapping[str, Sequence[str]] = {}
    pair: tuple[str, ...] = ()

    def variants(self) -> list[Variant]:
        """Its rows in order; empty where nothing is trained."""
        return []

    def own_rows(self, backbones: Sequence[str]) -> list[dict[str, str]]:
        """The rows of a table that needs no training: {heading: text}."""
        return []

    def setting(self, variant: Variant, backbone: str, dataset: str) -> Mapping[str, Any]:
        """The setting in which the published number of a cell was measured."""
        return recipe_of_the_paper(variant.trainer, variant.method, backbone, dataset) | variant.settings

    def cells(self, dataset: str, backbone: str) -> list[tuple[Variant, Cell]]:
        """What is to be trained for one data set and backbone.

        Raises:
            ConfigError: there is no recipe for the backbone.
        """
        return [(variant, _cell(variant, dataset, backbone)) for variant in self.variants()]

    @functools.cached_property
    def published(self) -> dict[tuple[str, str, str, str], Published]:
        """{(backbone, data set as `short_name` gives it, label, column): number}."""
        path = Path(inspect.getfile(type(self))).with_suffix(".csv")
        variants = {(variant.label, variant.column): variant for variant in self.variants()}
        found = {}
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ():
            numbers = [float(row[name]) if row.get(name) else None for name in ("accuracy", "std", "train")]
            place = (row["row"], row.get("column", ""))
            setting = self.setting(variants[place], row["backbone"], row["dataset"])
            published = Published(*numbers, setting, self.source, self.remarks.get(row["row"], ""))
            found[row["backbone"], short_name(row["dataset"]), *place] = published
        return found


def _cell(variant, dataset, backbone):
    known = recipes_of(variant.trainer)
    if backbone not in known:
        wanted = f"configs/trainers/{variant.trainer}/{backbone}.yaml"
        hint = f"; did you mean '{near}'?" if (near := nearest(backbone, known)) else f" (there are: {', '.join(known)})"
        raise ConfigError(f"--backbone {backbone}: no recipe {wanted}{hint}")
    cell = Cell(variant.trainer, variant.method, dataset, backbone)
    recipe = dict(leaves(recipe_cfg(cell)))
    settings = dict(variant.settings)
    if variant.recipe_of:
        other = recipe_cfg(Cell(variant.recipe_of, "", dataset, backbone))
        keys = [key for key in recipe if key.partition(".")[0] in RECIPE_SECTIONS]
        settings = {key: lookup(other, key) for key in keys} | settings
    changed = {key: value for key, value in settings.items() if key not in recipe or plain(recipe[key]) != plain(value)}
    if not changed:  # the recipe's own run, which other tables share
        return cell
    words = [word for key, value in changed.items() for word in (key, str(value))]
    return Cell(variant.trainer, variant.method, dataset, backbone, variant.tag, tuple(words))


def paper_table(name: str) -> PaperTable:
    """The table called `name`. Raises `ConfigError` with the known names if there is none."""
    return _made(PAPER_REGISTRY.get(name))


@functools.cache
def _made(kind):
    return kind()


def published_of(table: PaperTable, variant: Variant, backbone: str, dataset: str) -> Published | None:
    """The paper's number in one cell of `table`, whatever the setting of our run. `dataset` may be the name of an average."""
    return table.published.get((backbone, short_name(dataset), variant.label, variant.column))


def tables_with_numbers() -> list[PaperTable]:
    """Every table that publishes numbers: those of the paper, and the one beside the protocol `clip-16shot`."""
    from .clip_16shot import Clip16Shot  # here: it is made of this module's classes

    return [*map(paper_table, PAPER_REGISTRY.registered_names()), _made(Clip16Shot)]


def variants_of(table: PaperTable, group: "Group") -> list[Variant]:
    """The rows of `table` that the runs of `group` may be."""
    method = "" if group.method == group.trainer.lower() else group.method
    return [variant for variant in table.variants() if (variant.trainer, variant.method) == (group.trainer, method)]


def published_for(group: "Group", dataset: str = "") -> tuple[Published | None, list[str]]:
    """The published number for what the runs of `group` are, and in what they differ from its setting.

    Among several numbers for the same method, the one of the same label mapping, if there is one, that the runs are nearest to.
    (None, []) where none was published.

    Args:
        dataset: name of an average in place of the runs' data set.
    """
    found = []
    for table in tables_with_numbers():
        variants = variants_of(table, group)
        found += filter(None, (published_of(table, variant, group.backbone, dataset or group.dataset) for variant in variants))
    compared = [(number, number.unlike(group.config)) for number in found if number.accuracy is not None]
    return min(compared, key=lambda pair: (_of_another_mapping(pair[1]), len(pair[1])), default=(None, []))


def _of_another_mapping(keys):
    return any(key.endswith(".MAPPING") for key in keys)
