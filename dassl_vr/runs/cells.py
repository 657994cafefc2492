"""The cells of a table - trainer, method, data set, backbone - and the runs that follow from each."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yacs.config import CfgNode

from ..config.recipes import data_path, find_config, recipe_path
from ..data import DATASET_REGISTRY, name_of_data, root_is_data
from ..home import expand_home
from ..utils.errors import ConfigError
from .plan import Run
from .settings import build_cfg, cfg_of_flags

# Keys that tell the runs of a table apart: not for the command line's end
RUN_KEYS = {"SEED", "OUTPUT_DIR", "RESUME", "DATASET.NAME", "TRAINER.NAME", "MODEL.BACKBONE.NAME"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table, to be trained with several seeds.

    Attributes:
        dataset: a file in configs/datasets, a registered name, or a folder of images.
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

    def directory(self, output: str, tag: str, data: str = "") -> Path:
        """Of all its runs; each seed has a directory of its own below.

        Args:
            data: what the data are called; "" = as `dataset`.
        """
        return Path(output, data or self.dataset, self.name, self.backbone, join_tags(tag, self.variant))

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
        run = Run(f"{self.name} seed {seed}", self.directory(output, tag) / f"seed{seed}", flags, settings, plugins)
        called = data_name(run.cfg, self.dataset)
        return run if called == self.dataset else replace(run, output_dir=self.directory(output, tag, called) / f"seed{seed}")


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
    return Cell(trainer, method, data_name(cfg, Path(data).stem), _as_folder(backbone))


def data_name(cfg: CfgNode, dataset: str = "") -> str:
    """What the data of a run are called in its directory.

    Args:
        dataset: a registered data set's name there (default: as it is registered).
    """
    return _as_folder(name_of_data(cfg, dataset))


def data_called(dataset: str, root: str, settings: Sequence = ()) -> str:
    """`data_name` of the runs of a `Cell.dataset`, from where the data sets are and KEY, VALUE, ..."""
    flags, keys = data_arguments(dataset)
    return data_name(cfg_of_flags({**flags, "root": root}, [*keys, *settings]), dataset)


def _as_folder(name):
    return name.replace("/", "-").replace(":", "-")


def of_own_images(dataset: str) -> bool:
    """Whether a data set as `Cell` takes it is a folder of the user's images. Raises `ConfigError` as `data_arguments`."""
    flags, keys = data_arguments(dataset)
    return root_is_data(keys[1] if keys else Path(flags["dataset_config_file"]).stem)


def data_arguments(dataset: str) -> tuple[dict, list]:
    """(flags, KEY VALUE pairs) for a data set: its YAML, its registered name where it has none, or a folder of images. `./digits`
    is a folder, whatever `digits` is.

    Raises:
        ConfigError: it is the path of a folder that is not there.
    """
    is_folder, is_path = expand_home(dataset).is_dir(), os.sep in dataset
    if is_path and not is_folder:
        raise ConfigError(f"{dataset}: no such directory; expected a data set, or a directory with one folder of images per class")
    path = data_path(dataset)
    if not is_path and os.path.isfile(find_config(path)):
        return {"dataset_config_file": path}, []
    if is_path or (is_folder and dataset not in DATASET_REGISTRY):
        return {}, ["DATASET.NAME", "folder", "DATASET.ROOT", dataset]
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
