"""The methods of a comparison: one cell for each recipe that fits the backbone."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from ..config.recipes import recipe_path, recipes_of
from ..engine import TRAINER_REGISTRY
from ..methods import PromptLearning
from ..runs.cells import Cell, cell_of, recipe_cfg
from ..utils.errors import ConfigError


def cells_that_fit(args: argparse.Namespace, preferred: str = "") -> dict[Cell, str]:
    """{cell: its name} of each method that has a recipe for the backbone, in the order of the registry.

    A trainer with label mappings also takes part with each mapping that has a recipe of its own, `<BACKBONE>_attrvr.yaml`.

    Args:
        preferred: a trainer's `<BACKBONE>_<preferred>.yaml` is used instead of its `<BACKBONE>.yaml`.

    Raises:
        ConfigError: there is none, or `--trainers` or `--recipes` names an unknown one.
    """
    cells, further = {}, {}  # further: suffix -> trainers with such a recipe, besides those of their methods
    recipes = {trainer: recipes_of(trainer) for trainer in TRAINER_REGISTRY.registered_names()}
    for trainer, names in recipes.items():
        of_its_own = [name.removeprefix(f"{args.backbone}_") for name in names if name.startswith(f"{args.backbone}_")]
        variants, methods, mappings = _variants(TRAINER_REGISTRY.get(trainer))
        backbone = f"{args.backbone}_{preferred}" if preferred in of_its_own else args.backbone
        taken = {preferred} if preferred in of_its_own else set()
        if backbone in names:
            variants |= {suffix: {"METHOD": suffix} for suffix in of_its_own if suffix in methods}
            for label, keys in variants.items():
                options = tuple(word for key, value in keys.items() for word in (f"TRAINER.{trainer.upper()}.{key}", str(value)))
                cells[Cell(trainer, label, args.datasets[0], backbone, options=options)] = f"{trainer} {label}".strip()
            taken |= set(variants)
        for suffix in of_its_own:
            if suffix in taken:  # also where a METHOD and a MAPPING have the same name
                continue
            if suffix in mappings:
                cells[_with_recipe(trainer, suffix, args)] = f"{trainer} {suffix}"
            else:
                further.setdefault(suffix, []).append(trainer)
    if not cells:
        stems = {stem for names in recipes.values() for stem in names}
        known = sorted(stem for stem in stems if not any(stem.startswith(f"{other}_") for other in stems))
        raise ConfigError(f"no recipe {recipe_path('*', args.backbone)} (there are: {', '.join(known)})")
    for suffix in args.recipes:
        if suffix not in further:
            there = ", ".join(sorted(further)) or "none besides the standard ones"
            raise ConfigError(f"--recipes {suffix}: no recipe {recipe_path('*', args.backbone, suffix)} (there are: {there})")
        cells |= {_with_recipe(trainer, suffix, args): f"{trainer} {suffix}" for trainer in further[suffix]}
    return _chosen(cells, args.trainers, args.backbone) if args.trainers else cells


def _with_recipe(trainer, suffix, args):
    cell = Cell(trainer, "", args.datasets[0], f"{args.backbone}_{suffix}", options=())
    return replace(cell, method=cell_of(recipe_cfg(cell), cell.recipe).method)  # in the directory that train.py would take


def _variants(trainer):
    """({name: {key: value}} of a trainer's class, the values of its METHOD, those of its MAPPING)."""
    if not issubclass(trainer, PromptLearning):
        return {"": {}}, (), ()
    choices = trainer.all_choices()
    return trainer.compared_as(), choices.get("METHOD", ()), choices.get("MAPPING", ())


def _chosen(cells: dict[Cell, str], trainers: Sequence[str], backbone: str) -> dict[Cell, str]:
    chosen = {}
    for wanted in trainers:
        names = {cell: (cell.trainer.lower(), name.lower().replace(" ", "-")) for cell, name in cells.items()}
        found = {cell: name for cell, name in cells.items() if wanted.lower() in names[cell]}
        if not found:
            there = ", ".join(name.replace(" ", "-") for name in cells.values())
            raise ConfigError(f"--trainers {wanted}: no such trainer with a recipe for {backbone} (there are: {there})")
        chosen |= found
    return chosen
