"""The configuration of a run, from files and single settings."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from ..config import expand_paths, get_cfg_default, merge_list, merge_mapping, read_yaml, validate_cfg
from ..config.recipes import existing_config
from ..data import DATASET_REGISTRY
from ..engine import resolve_cfg
from ..engine.run_directory import CONFIG_FILE
from ..plugins import load_plugins


def build_cfg(
    files: Iterable[str | os.PathLike] = (),
    overrides: Mapping[str, Any] | Sequence = (),
    plugins: Sequence[str | os.PathLike] = (),
    trained: str | os.PathLike = "",
) -> CfgNode:
    """The configuration of a run, later ones win: defaults < facts of the data set < `trained` < `files` < `overrides`.

    On another data set than that of `trained`, the facts of this one come after what that run was trained with.

    Args:
        files: YAML files, as a rule that of the data set and that of the trainer. A name such as `configs/trainers/SMM/rn18.yaml`
            that is not there is the package's own.
        overrides: {"OPTIM.LR": 0.1, ...}, or a list KEY, VALUE, ...
        plugins: Python files (or folders of them) with more trainers, f_in, label mappings, data sets or backbones.
        trained: output directory of a run that is to be tested.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, or a value is of the wrong type.
    """
    load_plugins(plugins)
    pairs = [word for pair in overrides.items() for word in pair] if isinstance(overrides, Mapping) else list(overrides)
    trainer = next((str(value) for key, value in zip(pairs[::2], pairs[1::2]) if key == "TRAINER.NAME"), "")
    found = [existing_config(file, trainer) for file in files]
    path = os.path.join(trained, CONFIG_FILE)
    before = read_yaml(path) if trained and os.path.isfile(path) else {}

    def merge_all(cfg, facts=None):
        merge_mapping(cfg, before, path)
        merge_mapping(cfg, {"DATASET": facts or {}}, "facts of another data set")
        for file in found:
            merge_mapping(cfg, read_yaml(file), file)
        merge_list(cfg, pairs)
        return cfg

    cfg = get_cfg_default()
    name, name_before = merge_all(cfg.clone()).DATASET.NAME, before.get("DATASET", {}).get("NAME", "")
    if name_before and name in DATASET_REGISTRY and DATASET_REGISTRY.canonical_name(name) != name_before:
        # What the run knew of its data set is not true of this one
        return merge_all(cfg, {key: cfg.DATASET[key] for key in facts_of(name_before)} | facts_of(name))
    merge_mapping(cfg, {"DATASET": facts_of(name)}, f"facts of {name}")
    return merge_all(cfg)


# Flags that set one key each, as in the Dassl family: flag -> key
FLAG_KEYS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
}


def cfg_of_flags(flags: Mapping[str, Any], settings: Sequence = (), plugins: Sequence = (), trained: str = "") -> CfgNode:
    """`build_cfg` from the flags of the family's command line: data-set YAML < trainer YAML < flags < KEY VALUE.

    Args:
        flags: `dataset_config_file`, `config_file` and those of FLAG_KEYS; None = not given.
        settings: KEY, VALUE, ...
    """
    files = [flags[name] for name in ("dataset_config_file", "config_file") if flags.get(name)]
    given = [word for flag, key in FLAG_KEYS.items() if flags.get(flag) is not None for word in (key, flags[flag])]
    return build_cfg(files, [*given, *settings], plugins, trained)


def facts_of(name: str) -> dict:
    """What the data set of that name states of itself, {key of `cfg.DATASET`: value}."""
    return getattr(DATASET_REGISTRY.get(name), "facts", {}) if name in DATASET_REGISTRY else {}


def settle(cfg: CfgNode) -> None:
    """Check the whole configuration and fill in what follows from it, in place, before anything is built.

    Raises:
        ConfigError: a name is unknown, a value cannot be, or the parts do not go together.
    """
    validate_cfg(cfg)
    expand_paths(cfg)
    resolve_cfg(cfg)
