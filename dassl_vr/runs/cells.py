"""What a run of a table is made of - trainer, method, data set, backbone - and the command of train.py that follows from it."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..cli.train import build_parser, find_config, setup_cfg
from ..utils.errors import ConfigError

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
    def name(self):
        """`SMM`, `VR-pad`: as in the run's directory."""
        return f"{self.trainer}-{self.method}" if self.method else self.trainer

    @property
    def recipe(self):
        """A method with a recipe of its own (Pad) has it in `<backbone>_<method>.yaml`."""
        paths = [recipe_path(self.trainer, self.backbone, suffix) for suffix in (self.method, "")]
        return next((path for path in paths if os.path.isfile(find_config(path))), paths[-1])

    def directory(self, output, tag):
        """Where scripts/_run.sh puts the same run; the seed is yet to come."""
        return Path(output, self.dataset, self.name, self.backbone, join_tags(tag, self.variant))

    def arguments(self, directory, seed, root, more):
        """Arguments of train.py, as scripts/_run.sh gives them."""
        options = self.options
        if options is None:
            options = (f"TRAINER.{self.trainer.upper()}.METHOD", self.method) if self.method else ()
        data_flags, data_keys = data_arguments(self.dataset)
        return [
            *("--trainer", self.trainer, "--config-file", self.recipe),
            *data_flags,
            *("--root", root, "--seed", str(seed), "--output-dir", str(directory), "--resume", str(directory)),
            *("DATASET.DOWNLOAD", "True"),
            *data_keys,
            *options,
            *self.settings,
            *more,
        ]


def add_plugin_flag(parser):
    """The flag of the commands that train tables of runs: each of these gets it too (see `plugin_arguments`)."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PATH",
        help="Python file (or folder) with more trainers, f_in, label mappings or data sets; may be repeated",
    )


def plugin_arguments(paths):
    """The same for train.py, wherever it is started."""
    return [word for path in paths for word in ("--plugin", os.path.abspath(path))]


def data_arguments(dataset):
    """(flags, KEY VALUE pairs) of train.py for a data set: its YAML, or its name alone where it has none."""
    path = f"configs/datasets/{dataset}.yaml"
    if os.path.isfile(find_config(path)):
        return ["--dataset-config-file", path], []
    return [], ["DATASET.NAME", dataset]


def join_tags(tag, *more):
    """One tag of several; `default` stands for none."""
    tags = [part for part in (tag, *more) if part and part != "default"]
    return "-".join(tags) or "default"


def recipe_path(trainer, backbone, suffix=""):
    """Path of a recipe, to be looked for with `find_config`."""
    return f"configs/trainers/{trainer}/{backbone}{f'_{suffix}' if suffix else ''}.yaml"


def recipes_of(trainer):
    """Names of the recipes of a trainer, without `.yaml`."""
    return sorted(path.stem for path in Path(find_config(f"configs/trainers/{trainer}")).glob("*.yaml"))


def recipe_cfg(cell):
    """The configuration that the recipe of `cell` gives."""
    return setup_cfg(build_parser().parse_args(["--trainer", cell.trainer, "--config-file", cell.recipe]))


def check_settings(settings, taken):
    """Raises `ConfigError` if one of the keys in `settings`, KEY VALUE pairs, is in `taken` or tells runs apart."""
    found = sorted((set(taken) | RUN_KEYS) & set(settings[::2]))
    if found:
        raise ConfigError(f"this command sets {', '.join(found)} itself; leave it out after --")


def check_checkout():
    """Raises `ConfigError` unless train.py can be called from here."""
    if not os.path.isfile("train.py"):
        raise ConfigError("no train.py here; this command works in the checkout of the repository (bash scripts/...)")
