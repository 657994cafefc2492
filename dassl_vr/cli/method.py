"""Train one method on one data set: what the scripts smm.sh, vr.sh, coop.sh, ... call."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..utils.arguments import called_as
from ..utils.errors import ConfigError
from .errors import one_line_errors
from .tables import data_and_output, split_settings

if TYPE_CHECKING:
    from ..runs.plan import Run

SEEDS, SHOTS = "[SEED...]", "[SHOTS]"
BEST = "best"  # `<backbone>_best.yaml` is the recipe for few images and few epochs, as own images are: docs/recipe.md


@dataclass(frozen=True)
class Script:
    """What a script trains.

    Attributes:
        about: in a few words.
        words: what follows DATASET BACKBONE: seeds, or training images per class.
        method: of the trainer; None = it is the first word; where it is not empty, $METHOD may name another.
        seeds: without $SEEDS.
    """

    trainer: str
    about: str
    words: str = SHOTS
    method: str | None = ""
    seeds: str = "1"


SCRIPTS = {
    "smm": Script("SMM", "masks that depend on the sample", SEEDS, seeds="0"),
    "vr": Script("VR", "a shared mask: pad, narrow, medium or full", SEEDS, method=None, seeds="0"),
    "coop": Script("CoOp", "context vectors for a CLIP's text tower"),
    "cocoop": Script("CoCoOp", "context vectors that depend on the image"),
    "kgcoop": Script("KgCoOp", "context vectors kept near hand-made sentences"),
    "maple": Script("MaPLe", "tokens in both towers of a CLIP"),
    "promptsrc": Script("PromptSRC", "tokens in both towers of a CLIP, kept near it and averaged over epochs"),
    "vp": Script("VP", "a frame of pixels in front of a CLIP"),
    "vpt": Script("VPT", "tokens for a vision transformer; METHOD=shallow or deep", method="deep"),
    "lora": Script("LoRA", "low-rank updates in the attention of a vision transformer, and a linear layer"),
    "clip_lora": Script("CLIPLoRA", "low-rank updates in the attention of both towers of a CLIP"),
    "tip_adapter_f": Script("TipAdapterF", "a cache of training images beside a CLIP's text head"),
    "taskres": Script("TaskRes", "a residual on a CLIP's text features"),
    "lppp": Script("LPPP", "LP++, a linear layer blended with a CLIP's text features"),
    "linear_probe": Script("LinearProbe", "a linear layer on the frozen features"),
    "full_ft": Script("FullFT", "everything, with a new linear layer"),
    "zeroshot": Script("ZeroshotCLIP", "nothing, only tests; METHOD=template or ensemble", method="template"),
}
HELP = """usage: {usage}

Train {trainer} ({about}) with its recipe in configs/trainers/{trainer},
BACKBONE.yaml, or for a folder of images BACKBONE_best.yaml where there is one.
A run that was interrupted is resumed, one that is finished is left alone.

  DATASET       a file in configs/datasets, a registered name, or a folder of images with one folder per class
  SEED          one or several, trained one after the other
  SHOTS         training images per class; 0 = all (default)
  KEY VALUE     keys of the configuration, on top of the recipe
environment: DATA (directory of the data sets, ./data), OUTPUT (./output), TAG (part of the runs' directories),
  SEEDS ({seeds}), SHOTS, PYTHON"""


def usage_of(script: Script) -> str:
    """The form of the command."""
    name = called_as()
    if not name.endswith(".sh"):
        name = f"{name} {next(key for key, value in SCRIPTS.items() if value is script)}"
    return f"{name} {'METHOD ' if script.method is None else ''}DATASET BACKBONE {script.words} [-- KEY VALUE...]"


def plan(script: Script, words: list[str], settings: list[str]) -> list[Run]:
    """The runs, one per seed. Raises `ConfigError` for what no run could do."""
    from ..config.recipes import find_config, recipe_path, recipes_of
    from ..runs.cells import Cell, join_tags, of_own_images, shots_tag

    needed = 3 if script.method is None else 2
    if len(words) < needed:
        raise ConfigError(f"expected {usage_of(script)}")
    method = script.method
    if method is None:
        method, *words = words
    elif method:
        method = os.environ.get("METHOD") or method
    dataset, backbone, *more = words
    # Own images are not in a published table, whose seeds some scripts have: one seed, so that runs on them pair up
    default = Script.seeds if of_own_images(dataset) else script.seeds
    shots, seeds = os.environ.get("SHOTS") or "0", (os.environ.get("SEEDS") or default).split()
    if script.words == SEEDS:
        seeds = more or seeds
    elif more:
        shots, *rest = more
        if rest:
            raise ConfigError(f"'{rest[0]}' comes after SHOTS; seeds go into SEEDS=\"1 2 3\", further settings after --")
    for name, word in [*(("seed", seed) for seed in seeds), ("SHOTS", shots)]:
        if not re.fullmatch("[0-9]+", word):
            raise ConfigError(f"{name} '{word}' is not a whole number; further settings go after --")
    shots = shots.lstrip("0")  # a text, however long: the configuration says which numbers can be
    best = f"{backbone}_{BEST}"
    if of_own_images(dataset) and os.path.isfile(find_config(recipe_path(script.trainer, best))):
        backbone = best
        print(f"Own images: the recipe is {best}.yaml; for {script.trainer}'s own call train.py with --config-file")
    cell = Cell(script.trainer, method, dataset, backbone)
    if not os.path.isfile(find_config(cell.recipe)):
        path, known = recipe_path(script.trainer, backbone), " ".join(recipes_of(script.trainer))
        remedy = "for another backbone call train.py with --config-file and --backbone"
        raise ConfigError(f"no recipe {path} (there are: {known}); {remedy}")
    root, output = data_and_output()
    tag = join_tags(os.environ.get("TAG") or "default", shots_tag(shots))
    settings = [*(("DATASET.NUM_SHOTS", shots) if shots else ()), *settings]
    return [cell.run(seed, output, tag, root, settings) for seed in seeds]


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    words, settings = split_settings(argv)
    script = SCRIPTS.get(words[0]) if words else None
    known = f"{called_as()} NAME ..., where NAME is one of {', '.join(SCRIPTS)}"
    if {"-h", "--help"} & set(words):
        print(HELP.format(usage=usage_of(script), **vars(script)) if script else f"usage: {known}")
        raise SystemExit(0)  # as argparse does
    if script is None:
        raise ConfigError(f"expected {known}")
    from ..plugins import load_plugins
    from ..runs.executors import Here

    load_plugins()
    runs = plan(script, words[1:], settings)
    for run in runs:
        try:
            run.state()
        except ConfigError as error:
            raise ConfigError(str(error).replace("another --tag", "another tag with TAG=NAME before the command")) from error
    Here().execute(runs)
    code = next((run.code for run in runs if run.code), 0)
    return code if code >= 0 else 128 - code  # as a shell has it for a signal


if __name__ == "__main__":
    sys.exit(main())
