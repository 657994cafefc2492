"""The cells of a table - trainer, method, data set, backbone - and the runs that follow from each."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from ..config.recipes import data_path, find_config, recipe_path
from ..utils.errors import ConfigError
from .plan import Run
from .settings import build_cfg

# Keys that tell the runs of a table apart: not for the command line's end
RUN_KEYS = {"SEED", "OUTPUT_DIR", "RESUME", "DATASET.NAME", "TRAINER.NAME", "MODEL.BACKBONE.NAME"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table, to be trained with several seeds.

    Attributes:
        method: what a trainer with several methods does, "" = its default; also the suffix of a recipe of its own.
        variant: what `settings` make of the recipe, "" where they leave it as it is; part of the directory's tag.
        settings: KEY, VALUE, ... on top of the recipe.
        options: KEY, VALUE, ... that make the method; None = `TRAINER.<NAME>.METHOD method`.
    """

    trainer: str
    method: str
    dataset: str
    backbone: str
    variant: str = ""
    settings: tuple = ()
    options: tuple | None = None

    @property
    def name(self) -> str:
        """`SMM`, `VR-pad`: as in the run's directory."""
        return f"{self.trainer}-{self.method}" if self.method else self.trainer

    @property
    def recipe(self) -> str:
        """A method with a recipe of its own (Pad) has it in `<backbone>_<method>.yaml`."""
        paths = [recipe_path(self.trainer, self.backbone, suffix) for suffix in (self.method, "")]
        return next((path for path in paths if os.path.isfile(find_config(path))), paths[-1])

    def directory(self, output: str, tag: str) -> Path:
        """Of all its runs; each seed has a directory of its own below."""
        return Path(output, self.dataset, self.name, self.backbone, join_tags(tag, self.variant))

    def run(self, seed: int | str, output: str, tag: str, root: str, more: Sequence = (), plugins: Sequence = ()) -> Run:
        """The run of one seed: that of `scripts/smm.sh` and its like, which other tables share.

        Args:
            output: directory of all runs.
            root: directory of the data sets.
            more: KEY, VALUE, ... on top.
            plugins: files that bring in more.
        """
        options = self.options
        if options is None:
            options = (f"TRAINER.{self.trainer.upper()}.METHOD", self.method) if self.method else ()
        data_flags, data_keys = data_arguments(self.dataset)
        flags = {"trainer": self.trainer, "config_file": self.recipe, **data_flags, "root": root, "seed": str(seed)}
        settings = ["DATASET.DOWNLOAD", "True", *data_keys, *options, *self.settings, *more]
        return Run(f"{self.name} seed {seed}", self.directory(output, tag) / f"seed{seed}", flags, settings, plugins)


def cell_of(cfg: CfgNode, recipe: str = "", data: str = "") -> Cell:
    """The cell that a run with the settled configuration `cfg` belongs to, as the scripts name it.

    Args:
        recipe: the trainer's YAML file, whose name gives the backbone and what is special to the recipe.
        data: the data set's YAML file, whose name gives the data set.
    """
    trainer = cfg.TRAINER.NAME
    method = str(cfg.TRAINER.get(trainer.upper(), {}).get("METHOD", ""))
    if method.lower() == trainer.lower():  # SMM's default, which is no part of the name
        method = ""
    of_trainer = Path(recipe).parent.name == trainer
    backbone = Path(recipe).stem.removesuffix(f"_{method}") if of_trainer else cfg.MODEL.BACKBONE.NAME
    dataset = Path(data).stem if data else cfg.DATASET.NAME
    return Cell(trainer, method, *(name.replace("/", "-").replace(":", "-") for name in (dataset, backbone)))


def data_arguments(dataset: str) -> tuple[dict, list]:
    """(flags, KEY VALUE pairs) for a data set: its YAML, or its name alone where it has none."""
    path = data_path(dataset)
    if os.path.isfile(find_config(path)):
        return {"dataset_config_file": path}, []
    return {}, ["DATASET.NAME", dataset]


def join_tags(tag: str, *more: str) -> str:
    """One tag of several; `default` means none."""
    tags = [part for part in (tag, *more) if part and part != "default"]
    return "-".join(tags) or "default"


def shots_tag(shots: int | str) -> str:
    """Part of a run's directory; "" for all images."""
    return f"{shots}shots" if shots else ""


def recipe_cfg(cell: Cell) -> CfgNode:
    """The configuration that the recipe of `cell` gives."""
    return build_cfg([cell.recipe], {"TRAINER.NAME": cell.trainer})


def check_settings(settings: Sequence, taken: Iterable[str]) -> None:
    """Raises `ConfigError` if one of the keys in `settings`, KEY VALUE pairs, is in `taken` or tells runs apart."""
    found = sorted((set(taken) | RUN_KEYS) & set(settings[::2]))
    if found:
        raise ConfigError(f"this command sets {', '.join(found)} itself; leave it out after --")
