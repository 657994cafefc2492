"""Do two methods differ? Paired tests on the same images, instead of two means side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.predictions import StoredPredictions, read_predictions
from ..utils.errors import ConfigError, DataError
from ..utils.text import say

if TYPE_CHECKING:
    from .runs import Group

RESAMPLES, LEVEL, SEED = 10_000, 95, 0
CELLS = 10**7  # random numbers drawn at once, a bound on memory


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test (1947): among images that only one method gets right, is each equally often right?

    Args:
        only_first, only_second: number of images that only the first, only the second gets right.
    """
    from scipy.stats import binomtest  # here: a second, which a table of means saves

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


@dataclass
class Intervals:
    """(low, high) of a mean difference, LEVEL percent.

    Attributes:
        seeds: one for each seed alone, over images.
        images: of the mean over the seeds, which are taken as they are: would other images of the kind give the same?
        images_and_seeds: likewise, over other seeds too.
    """

    seeds: list[tuple[float, float]]
    images: tuple[float, float]
    images_and_seeds: tuple[float, float]


def bootstrap(differences: np.ndarray, resamples: int = RESAMPLES) -> Intervals:
    """Percentile intervals of the bootstrap (Efron 1979) of a mean; always the same for the same numbers.

    In each resample N images are drawn with replacement, the same ones for all seeds, since these are tested on the same images;
    for `images_and_seeds` S seeds are drawn with replacement as well, independently of the images.

    Args:
        differences: (S, N), for each seed and image.
    """
    rng = np.random.default_rng(SEED)
    number, images = differences.shape
    # Images with the same numbers in all seeds are drawn as one: how often each kind comes is multinomial
    kinds, counts = np.unique(differences, axis=1, return_counts=True)  # (S, U), (U,)
    chunk = max(1, CELLS // len(counts))
    sizes = [min(chunk, resamples - done) for done in range(0, resamples, chunk)]
    means = np.concatenate([rng.multinomial(images, counts / images, size) @ kinds.T for size in sizes]) / images  # (R, S)
    drawn = rng.multinomial(number, np.full(number, 1 / number), resamples) / number  # (R, S)
    return Intervals(
        [_interval(column) for column in means.T], _interval(means.mean(axis=1)), _interval((means * drawn).sum(axis=1))
    )


def _interval(values):
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, (tail, 100 - tail))
    return float(low), float(high)


# ------------------------------------------------------------------------------------------------------------ the table
HEADERS = ["data", "backbone", "A", "B", "seed", "images", "A %", "B %", "A - B", f"{LEVEL} % interval", "drawn anew"]
HEADERS += ["only A right", "only B right", "McNemar p"]


def paired_table(groups: Sequence[Group], pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) of text: for each pair of methods, on each data set and backbone that have both, a row per seed, and two rows
    of the mean over seeds where there are several.

    Args:
        pairs: (A, B): names as in the table of results, with `-` or a space, and `/RECIPE` behind where a method has several.

    Raises:
        ConfigError: there is no such method, or they are on no data set and backbone together, or have no seed in common.
        DataError: they were not tested on the same split, or their predictions are missing.
    """
    rows = []
    for first, second in pairs:
        for a, b in _pairs_of(groups, first, second):
            rows += _rows(a, b)
    return HEADERS, rows


def _pairs_of(groups, first, second):
    """Groups on the same data set and backbone, of the same recipe; of any where one is named, or where a method has only one."""
    candidates = _named(groups, first), _named(groups, second)
    places = dict.fromkeys((group.dataset, group.backbone) for group in candidates[0])
    found = []
    for place in places:
        one, other = ([group for group in named if (group.dataset, group.backbone) == place] for named in candidates)
        any_recipe = "/" in first + second or len(one) == len(other) == 1
        found += [(a, b) for a in one for b in other if a is not b and (any_recipe or a.tag == b.tag)]
    if not found:
        raise ConfigError(
            f"--pair {first} {second}: no two rows on the same data set, backbone and recipe; name recipes as in"
            f" {_label(groups[0])}/{groups[0].tag}"
        )
    return found


def _named(groups, wanted):
    name, _, tag = wanted.partition("/")
    found = [group for group in groups if _label(group).lower() == name.lower().replace(" ", "-") and tag in ("", group.tag)]
    if not found:
        there = ", ".join(dict.fromkeys(f"{_label(group)}/{group.tag}" for group in groups))
        raise ConfigError(f"--pair {wanted}: no finished runs of that name (there are: {there})")
    return found


def _label(group):
    return group.name.replace(" ", "-")


def _rows(a, b):
    seeds = sorted(a.runs.keys() & b.runs.keys())
    names = [f"{group.name}, {group.tag}" if a.tag != b.tag or a.name == b.name else group.name for group in (a, b)]
    if not seeds:
        raise ConfigError(f"{names[0]} and {names[1]} on {a.dataset} {a.backbone} have no seed in common")
    tested = [_same_images(a, b, seed) for seed in seeds]
    right = [np.stack([one.right, other.right]) for one, other in tested]  # of (2, N) bool
    same = all(_are_same(tested[0][0], one) for one, _ in tested)
    start = [a.dataset, a.backbone, *names]
    intervals = [bootstrap(_difference(part)[None]).seeds[0] for part in right]
    rows = []
    for seed, part, interval in zip(seeds, right, intervals):
        only = [int((part[0] & ~part[1]).sum()), int((part[1] & ~part[0]).sum())]
        p = f"{mcnemar(*only):.3g}"
        rows.append([*start, str(seed), *_numbers(part[None], interval), "images", *map(str, only), p])
    if len(seeds) > 1 and same:
        together = np.stack(right)  # (S, 2, N)
        over = bootstrap(_difference(together))
        seed = f"mean of {len(seeds)}"
        rows.append([*start, seed, *_numbers(together, over.images), "images", "", "", ""])
        rows.append([*start, seed, *_numbers(together, over.images_and_seeds), "images and seeds", "", "", ""])
    elif len(seeds) > 1:
        say(f"note: {names[0]} and {names[1]} on {a.dataset} {a.backbone}: each seed has other test images, so none over all seeds")
    return rows


def _difference(right):
    """(..., 2, N) bool -> (..., N) percent: 100 where only the first is right, -100 where only the second is."""
    return 100.0 * (right[..., 0, :].astype(float) - right[..., 1, :])


def _numbers(right, interval):
    """Cells of (S, 2, N) bool."""
    first, second = 100 * right.mean(axis=(0, 2))
    low, high = interval
    return [f"{right.shape[2]:,}", f"{first:.1f}", f"{second:.1f}", f"{first - second:+.1f}", f"{low:+.1f} to {high:+.1f}"]


def _same_images(a, b, seed):
    """The predictions of both, of the images whose true class is known."""
    runs, directories = [group.runs[seed] for group in (a, b)], [group.directories[seed] for group in (a, b)]
    for key in ("split_sha256", "evaluated_split", "dataset"):
        values = [run.get(key) for run in runs]
        if values[0] != values[1] or values[0] is None:
            raise DataError(
                f"{directories[0]} and {directories[1]} were not tested on the same split ({key} is {_short(values[0])} and"
                f" {_short(values[1])}); a paired test needs the same images and labels"
            )
    one, other = (read_predictions(directory) for directory in directories)
    if not _are_same(one, other):
        raise DataError(
            f"{directories[0]} and {directories[1]} hold predictions of different images (some could not be read?); a paired test"
            " needs the same ones"
        )
    known = one.labelled & other.labelled
    if not known.any():
        raise DataError(f"{directories[0]}: no test image has a label")
    return _part(one, known), _part(other, known)


def _are_same(one: StoredPredictions, other: StoredPredictions) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("index", "path", "label"))


def _part(predictions: StoredPredictions, known: np.ndarray) -> StoredPredictions:
    return StoredPredictions(**{name: values[known] for name, values in vars(predictions).items()})


def _short(value):
    return "not known" if value is None else str(value)[:12]
