"""Checks of a merged configuration before anything is built."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from yacs.config import CfgNode

from ..utils.errors import ConfigError
from ..utils.registry import nearest
from .defaults import get_cfg_default
from .ranges import CHOICES, NAMES, RANGES, Range, is_finite, is_number


def lookup(cfg: CfgNode, dotted: str) -> Any:
    """The value of `A.B.C` in `cfg`."""
    for part in dotted.split("."):
        cfg = cfg[part]
    return cfg


def leaves(node: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of every value in a configuration."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed(cfg: CfgNode) -> dict[str, Any]:
    """{dotted key: value} of all that is not as by default."""
    before = dict(leaves(get_cfg_default()))
    return {key: value for key, value in leaves(cfg) if key not in before or before[key] != value}


def choice_problems(cfg: CfgNode, choices: Mapping[str, Collection]) -> list[str]:
    """One sentence for each key of `choices` ({dotted key: allowed values}) that holds something else."""
    problems = []
    for key, allowed in choices.items():
        value = lookup(cfg, key)
        if value not in allowed:
            hint = nearest(str(value), list(map(str, allowed)))
            did_you_mean = f" (did you mean '{hint}'?)" if hint else ""
            problems.append(f"{key} is '{value}'{did_you_mean}; it takes one of {', '.join(map(str, allowed))}")
    return problems


def range_problems(cfg: CfgNode, ranges: Mapping[str, Range]) -> list[str]:
    """One sentence for each key of `ranges` ({dotted key: `Range`}) that holds a number outside of it."""
    problems = ((key, lookup(cfg, key), allowed.problem(lookup(cfg, key))) for key, allowed in ranges.items())
    return [f"{key} is {value}; {problem}" for key, value, problem in problems if problem]


def _problem_of_any(key, value):
    """What no key may hold, those of plug-ins included; "" if nothing is wrong."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    if any(is_number(entry) and not is_finite(entry) for entry in entries):
        return f"{key} is {value}; it must be a finite number"
    if any(isinstance(entry, str) and "\0" in entry for entry in entries):
        return f"{key} is {value!r}; a text with a NUL character is no name of anything"
    return ""


def validate_cfg(cfg: CfgNode) -> None:
    """Check the engine's own keys, and that every number is finite. Raises `ConfigError` with every problem found, in one line."""
    problems = choice_problems(cfg, CHOICES) + range_problems(cfg, RANGES)
    problems += filter(None, (_problem_of_any(key, value) for key, value in leaves(cfg) if key not in RANGES))
    for key in NAMES:
        if not all(isinstance(entry, str) for entry in lookup(cfg, key)):
            problems.append(f"{key} is {lookup(cfg, key)}; it takes names")
    if len(set(map(bool, cfg.INPUT.SIZE))) > 1:
        problems.append(f"INPUT.SIZE is {cfg.INPUT.SIZE}; it takes height and width in pixels, such as (224, 224)")
    if cfg.INPUT.GB_K % 2 == 0:
        problems.append(f"INPUT.GB_K is {cfg.INPUT.GB_K}; it must be odd")
    if "{}" not in cfg.DATASET.TEMPLATE:
        problems.append(f"DATASET.TEMPLATE is '{cfg.DATASET.TEMPLATE}'; it takes a sentence with {{}} for the class's name")
    if not cfg.OPTIM.STEPSIZE:
        problems.append(f"OPTIM.STEPSIZE is {cfg.OPTIM.STEPSIZE}; it takes epochs or shares of the run, such as (0.5, 0.72)")
    if not cfg.OUTPUT_DIR:
        problems.append("OUTPUT_DIR is empty; name the directory that the run's files go to (--output-dir)")
    if problems:
        raise ConfigError("; ".join(problems))
