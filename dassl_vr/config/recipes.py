"""Where the YAML files of data sets and trainers are: the user's own, or those that come with the package."""

import os
from pathlib import Path

from ..names import SHIPPED_CONFIGS
from ..utils.errors import ConfigError
from ..utils.registry import nearest

FOLDER = "configs"


def find_config(path: str | os.PathLike) -> str:
    """`path` itself, or the file or folder of that name that ships with the package (`configs/trainers/SMM/rn50.yaml`)."""
    path = os.fspath(path)
    shipped = os.path.join(SHIPPED_CONFIGS, path.removeprefix(f"{FOLDER}/"))
    return shipped if not os.path.exists(path) and os.path.exists(shipped) else path


def existing_config(path: str | os.PathLike, trainer: str = "") -> str:
    """`find_config`, for a file that has to be there.

    Args:
        trainer: whose recipes come first among those that the message may name.

    Raises:
        ConfigError: it is not there; names the most similar of the user's and the package's own.
    """
    found = find_config(path)
    if os.path.lexists(found) or Path(path).suffix not in ("", ".yaml", ".yml"):
        return found
    near = _nearest_config(os.fspath(path), trainer)
    raise ConfigError(f"config file {path}: no such file" + (f"; did you mean {near}?" if near else ""))


def _nearest_config(path, trainer):
    """For `configs/datasets/digit.yaml` the nearest path; for `digit.yaml` or `lite0` the file of the nearest name."""
    folders = (Path(), SHIPPED_CONFIGS.parent)
    found = {file.relative_to(folder).as_posix() for folder in folders for file in (folder / FOLDER).rglob("*.yaml")}
    of_trainer = sorted(found, key=lambda name: (Path(name).parent.name.lower() != trainer.lower(), name))
    by_stem = {}
    for name in of_trainer:
        by_stem.setdefault(Path(name).stem, name)
    return nearest(path, found) if "/" in path else by_stem.get(nearest(Path(path).stem, by_stem))


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
