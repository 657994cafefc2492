"""Where the YAML files of data sets and trainers are: the user's own, or those that come with the package."""

import os
from pathlib import Path

from ..names import SHIPPED_CONFIGS

FOLDER = "configs"


def find_config(path: str | os.PathLike) -> str:
    """`path` itself, or the file or folder of that name that ships with the package (`configs/trainers/SMM/rn50.yaml`)."""
    path = os.fspath(path)
    shipped = os.path.join(SHIPPED_CONFIGS, path.removeprefix(f"{FOLDER}/"))
    return shipped if not os.path.exists(path) and os.path.exists(shipped) else path


def recipe_path(trainer: str, backbone: str, suffix: str = "") -> str:
    """Path of a recipe, to be looked for with `find_config`."""
    return f"{FOLDER}/trainers/{trainer}/{backbone}{f'_{suffix}' if suffix else ''}.yaml"


def data_path(dataset: str) -> str:
    """Path of a data set's file, to be looked for with `find_config`; not every data set has one."""
    return f"{FOLDER}/datasets/{dataset}.yaml"


def recipes_of(trainer: str) -> list[str]:
    """Names of the recipes of a trainer, without `.yaml`."""
    folders = (Path(FOLDER), SHIPPED_CONFIGS)
    return sorted({path.stem for folder in folders for path in (folder / "trainers" / trainer).glob("*.yaml")})
