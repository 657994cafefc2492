"""Cards: one small JSON file per measured cell - method, backbone, data, shots - from which the tables of the documents are made.

A card keeps the figures of every seed, so that a table of cards is made as one of runs is, and says what they were measured with.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..config import read_yaml
from ..config.validate import leaves
from ..engine.run_directory import CONFIG_FILE, NEUTRAL_KEYS
from ..paper import Published, published_for
from ..utils import kinds
from ..utils.errors import DataError
from ..utils.files import read_checked_json, write_json
from .runs import Group, mean_interval, warnings_about

# Entries of results.json that a card keeps: those of each seed, and those in which all seeds agree
OF_A_SEED = {
    "accuracy": kinds.PERCENT,
    **dict.fromkeys(("macro_f1", "accuracy_train"), kinds.optional(kinds.PERCENT)),
    **dict.fromkeys(("ece", "nll", "seconds_train", "images_per_second"), kinds.optional(kinds.AMOUNT)),
    "peak_memory_bytes": kinds.optional(kinds.COUNT),
    **dict.fromkeys(("split_sha256", "commit"), kinds.optional(kinds.TEXT)),
    "date": kinds.TEXT,
}
OF_ALL_SEEDS = {
    **dict.fromkeys(("protocol", "subsample_classes", "precision", "device", "evaluated_split", "evaluated_model"), kinds.TEXT),
    "shots": kinds.INTEGER,
    **dict.fromkeys(("epochs", "params_trainable", "params_backbone", "cores", "processes"), kinds.COUNT),
    **dict.fromkeys(("flops", "test_batch_size", "templates"), kinds.optional(kinds.COUNT)),
    "mapping_size": kinds.optional(kinds.list_of(kinds.COUNT, 2)),
    "weights_sha256": kinds.optional(kinds.TEXT),
    "versions": kinds.dict_of(kinds.optional(kinds.TEXT)),
}
OPTIONAL = {name for name, of in (OF_A_SEED | OF_ALL_SEEDS).items() if not of(None, name)}
NAMES = ("trainer", "method", "dataset", "backbone", "mapping", "tag")
SEED = kinds.kind("a seed", lambda key: isinstance(key, str) and re.fullmatch(r"-?[0-9]{1,18}", key) is not None)


def _needed(entries):
    return {name: of for name, of in entries.items() if name not in OPTIONAL}, {n: of for n, of in entries.items() if n in OPTIONAL}


CARD = kinds.record(
    {
        **dict.fromkeys(NAMES, kinds.TEXT),
        "mapping": kinds.optional(kinds.TEXT),
        **_needed(OF_ALL_SEEDS)[0],
        "runs": kinds.dict_of(kinds.record(*_needed(OF_A_SEED), rest=kinds.NOTHING), SEED),
        "mean": kinds.PERCENT,
        "std": kinds.optional(kinds.AMOUNT),
        "interval": kinds.optional(kinds.tuple_of(kinds.NUMBER, kinds.NUMBER)),
        "published": kinds.optional(
            kinds.record({"accuracy": kinds.PERCENT, "std": kinds.optional(kinds.AMOUNT), "source": kinds.TEXT}, rest=kinds.NOTHING)
        ),
        "not_as_published": kinds.list_of(kinds.TEXT),
        "command": kinds.TEXT,
    },
    _needed(OF_ALL_SEEDS)[1],
    rest=kinds.NOTHING,
)
# Flags of a command that say where files are, which is no part of what was measured
PLACES = ("--output-dir", "--resume", "--root")
OF_THE_SEED = {"SEED", "DATASET.FEW_SHOT_FILE"}  # public draws have a file per seed


def write_cards(groups: Sequence[Group], directory: str | os.PathLike) -> tuple[list[Path], list[str]]:
    """Write a card for each of `groups`; returns their paths, and why others have none.

    Raises:
        DataError: two of them would have the same card, or a run is older than what a card states; nothing is written then.
    """
    cards, left_out = {}, []
    for group in groups:
        if reason := _unfit(group):
            left_out.append(f"{group.dataset} {group.backbone} {group.name} {group.tag}: {reason}")
            continue
        card = card_of(group)
        path = Path(directory, place_of(card))
        if path in cards:
            raise DataError(f"two groups of runs give the card {path}; name the directory of one of them")
        cards[path] = card
    for path, card in cards.items():
        write_json(card, path)
    return list(cards), left_out


def _unfit(group):
    runs = group.runs.values()
    if group.unfinished:
        return f"{', '.join(group.unfinished)} has not finished"
    if any(run["accuracy"] is None or run.get("evaluated_split") not in ("test", "val") for run in runs):
        return "tested neither on the test nor on the validation images"
    if any(run.get("evaluated_model") == "checkpoint" for run in runs):
        return "a test of what another run has trained"
    return ""


def card_of(group: Group) -> dict:
    """The card of the runs of one cell, of the kind CARD.

    Raises:
        DataError: the runs of different seeds differ in what a card says of all, or are older than what it says.
    """
    seeds = sorted(group.runs)
    first = group.runs[seeds[0]]
    where = group.directories[seeds[0]]
    differing = [f"'{name}'" for name in OF_ALL_SEEDS if any(group.runs[seed].get(name) != first.get(name) for seed in seeds)]
    setting, *others = (_setting(group.directories[seed]) for seed in seeds)
    for other in others:
        differing += sorted(key for key in setting.keys() | other.keys() if setting.get(key) != other.get(key))
    if differing:
        raise DataError(f"{where.parent}: the runs of different seeds differ in {differing[0]}; a card holds runs of one setting")
    published, keys = group.published or published_for(group)
    shown = published is not None and not keys and first["evaluated_split"] == "test"
    values = group.values("accuracy")
    card = {
        **{name: getattr(group, name) for name in NAMES},
        "mean": group.mean("accuracy"),
        "std": group.std("accuracy"),
        "interval": mean_interval(values),
        "published": {"accuracy": published.accuracy, "std": published.std, "source": published.source} if shown else None,
        "not_as_published": list(keys),
        "runs": {str(seed): _kept(group.runs[seed], OF_A_SEED) for seed in seeds},
        **_kept(first, OF_ALL_SEEDS),
        "command": _without_places(first.get("command") or ""),
    }
    if problem := CARD(card, ""):
        raise DataError(f"{where}: no card can be made of this run: {problem}; train it again with this version")
    return card


def _setting(directory):
    """{key: value} of a run's configuration, without what may differ between seeds; {} where it was not kept."""
    path = directory / CONFIG_FILE
    flat = dict(leaves(read_yaml(path))) if path.is_file() else {}
    return {key: value for key, value in flat.items() if key not in NEUTRAL_KEYS and key not in OF_THE_SEED}


def _kept(run, entries):
    return {name: run[name] for name in entries if run.get(name) is not None}


def _without_places(command):
    try:
        words, kept = shlex.split(command), []
    except ValueError:  # no command of ours
        return command
    while words:
        word = words.pop(0)
        flag, equals, _ = word.partition("=")
        if flag in PLACES:
            words = words if equals else words[1:]
        else:
            kept.append(_without_folders(word))
    return shlex.join(kept)


def _without_folders(word):
    """A word of a command, with the last part alone of a path that begins at the root: the others are the machine's."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{equals}{os.path.basename(value)}" if os.path.isabs(value) else word


def place_of(card: dict) -> Path:
    """`digits/lite0/full/VR-full-ilm.json`, `dtd/clip_vit_b16/16shots/CoOp.json`: where a card lies. A folder is a table.

    What else the runs' directory is called after, such as the epochs of a comparison, is part of the file's name. Accuracy on
    validation images has folders of its own, such as `digits/lite0/full-val`.
    """
    shots = f"{card['shots']}shots" if card["shots"] >= 1 else ""
    images = [part for part in (shots, card["subsample_classes"]) if part not in ("", "all")] or ["full"]
    images += ["val"] if card["evaluated_split"] == "val" else []
    method = "" if card["method"] == card["trainer"].lower() else card["method"]
    tag = [part for part in card["tag"].split("-") if part not in (*images, "default")]
    name = "-".join(filter(None, (card["trainer"], method, card["mapping"], *tag)))
    return Path(*(_file_name(part) for part in (card["dataset"].lower(), card["backbone"], "-".join(images), f"{name}.json")))


def _file_name(text):
    return re.sub(r"[^\w.+-]+", "-", text).lstrip(".") or "-"


def read_card(path: str | os.PathLike) -> dict:
    """A card as it was written. Raises `DataError` in one line for a file that is none, or whose figures do not agree."""
    remedy = "restore it, or write it again with report --cards"
    return read_checked_json(path, remedy, lambda card: CARD(card) or _disagreement(card), f"{path}: not a card")


def _disagreement(card):
    """What was changed by hand in a card, "" if nothing was."""
    if not card["runs"]:
        return "entry 'runs' is empty; expected a seed or more"
    group = _group(card)
    expected = {"mean": group.mean("accuracy"), "std": group.std("accuracy"), "interval": group.interval("accuracy")}
    for name, value in expected.items():
        computed, written = _numbers(value), _numbers(card[name])
        if len(computed) != len(written) or any(abs(a - b) > 1e-9 for a, b in zip(computed, written)):
            return f"entry '{name}' is not that of its runs"
    return ""


def _numbers(entry):
    return [] if entry is None else [entry] if isinstance(entry, (int, float)) else list(entry)


def _group(card):
    group = Group(*(card[name] for name in NAMES))
    shared = {name: card.get(name) for name in OF_ALL_SEEDS}
    names = {name: card[name] for name in NAMES}
    for seed, run in card["runs"].items():
        group.runs[int(seed)] = {**names, **shared, **run, "seed": int(seed)}
    entry = card["published"]
    published = None if entry is None else Published(entry["accuracy"], entry["std"], None, {}, entry["source"])
    group.published = (published, list(card["not_as_published"]))
    return group


def read_table(directory: str | os.PathLike) -> list[Group]:
    """The cards in one folder as groups of runs, from the method that trains least to the one that trains most.

    Raises:
        DataError: there is no card, one is damaged or does not lie where its content says, or they do not compare.
    """
    directory = Path(directory)
    groups = []
    for path in sorted(directory.glob("*.json")):
        card = read_card(path)
        place = place_of(card)
        if path.parts[-len(place.parts) :] != place.parts:
            raise DataError(f"{path}: by its content this card is {place}; move it there")
        groups.append(_group(card))
    if not groups:
        raise DataError(f"{directory}: no cards; expected *.json files of report --cards")
    if lines := warnings_about(groups):
        raise DataError(f"{directory}: these cards make no table: {lines[0]}")
    return sorted(groups, key=lambda group: (next(iter(group.runs.values()))["params_trainable"], group.name, group.mapping or ""))


def provenance(groups: Iterable[Group]) -> str:
    """When, with what and on what the cards of a table were measured, in a sentence or two."""
    runs = [run for group in groups for run in group.runs.values()]
    dates = sorted({run["date"] for run in runs})
    commits = sorted({run["commit"] for run in runs if run.get("commit")})
    machines = sorted({f"{run['device']} ({run['cores']} cores), {run['precision']}" for run in runs})
    versions = sorted({f"dassl_vr {run['versions'].get('dassl_vr')}, torch {run['versions'].get('torch')}" for run in runs})
    minutes = sum(run.get("seconds_train") or 0 for run in runs) / 60
    spent = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{60 * minutes:.0f} seconds"
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    at = f", commit {', '.join(commits)}" if commits else ""
    return f"Measured {when} on {'; '.join(machines)}; {'; '.join(versions)}{at}. {len(runs)} runs, {spent} of training in all."
