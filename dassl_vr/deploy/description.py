"""`config.json` of a bundle or an exported graph: what the model is, and what is needed to run it."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from .. import __version__
from ..config import is_path
from ..engine.results import NEEDED, OTHERS
from ..names import BUNDLE, EXPORT_FORMATS, ONNX, TORCH
from ..reprogramming.pictures import named_edges
from ..utils import kinds
from ..utils.errors import DataError
from ..utils.files import read_checked_json, write_json
from .model import PromptedModel

DESCRIPTION_FILE = "config.json"
VERSION = 1  # of the form of the file; raised when older programs could not read it

# What of a run's results goes along: how good it is, and on what that was measured
RESULT_KEYS = (
    *("accuracy", "macro_f1", "accuracy_train", "evaluated_split", "evaluated_model", "num_train", "num_test", "split_sha256"),
    *("dataset", "seed", "shots", "subsample_classes", "epochs", "params_trainable", "params_backbone", "precision", "versions"),
)
FILES = {BUNDLE: "prompt.safetensors", ONNX: "model.onnx", TORCH: "model.pt2"}
LARGEST_SIDE = 4096  # pixels
SIDE = kinds.whole(1, LARGEST_SIDE)
RESULTS = {key: kinds.optional(kind) for key, kind in {**NEEDED, **OTHERS}.items() if key in RESULT_KEYS}
FORM = kinds.record(
    {
        "format": kinds.one_of(*EXPORT_FORMATS),
        "version": kinds.COUNT,
        "trainer": kinds.NAME,
        "backbone": kinds.record({"name": kinds.NAME, "weights_sha256": kinds.SHA256}),
        "classnames": kinds.list_of(kinds.NAME),
        "num_classes": kinds.COUNT,
        "preprocessing": kinds.record({
            "pixels": kinds.record({"shape": kinds.tuple_of(kinds.NAME, kinds.whole(3, 3), SIDE, SIDE)}),
            "size": kinds.list_of(SIDE, 2),
            "mean": kinds.list_of(kinds.NUMBER, 3),
            "std": kinds.list_of(kinds.NUMBER, 3),
        }),
        "results": kinds.record({}, RESULTS),
        "config": kinds.dict_of(kinds.ANYTHING),
        "files": kinds.dict_of(kinds.SHA256, kinds.NAME),
        "sha256": kinds.SHA256,
    },
    {"label_mapping": kinds.optional(kinds.dict_of(kinds.NAME, kinds.NAME))},
)  # fmt: skip


def describe(model: PromptedModel, form: str, files: Sequence[str | os.PathLike]) -> dict:
    """The content of `config.json`.

    Args:
        model: a `PromptedModel`.
        form: one of EXPORT_FORMATS.
        files: paths of the other files in the directory.
    """
    cfg, backbone = model.details.cfg, model.details.backbone
    section = cfg.TRAINER.get(cfg.TRAINER.NAME.upper(), {})
    content = {
        "format": form,
        "version": VERSION,
        "dassl_vr": __version__,
        "trainer": cfg.TRAINER.NAME,
        "method": section.get("METHOD", cfg.TRAINER.NAME.lower()),
        "backbone": {
            "name": backbone.spec.name,
            "kind": backbone.kind,
            "parameters": backbone.num_parameters,
            "weights_sha256": backbone.weights_sha256,
        },
        "classnames": model.classnames,
        "num_classes": len(model.classnames),
        "label_mapping": label_mapping(model),
        "preprocessing": {
            "input": "RGB",
            "to_pixels": [repr(op) for _, op in model.pipeline.image_ops],
            "pixels": {"shape": ["N", *model.pixel_shape], "type": "uint8"},
            "to_network": [name for name, _ in model.pipeline.batch_ops],
            "size": list(cfg.INPUT.SIZE),
            "mean": list(cfg.INPUT.PIXEL_MEAN),
            "std": list(cfg.INPUT.PIXEL_STD),
        },
        "results": {key: model.details.results.get(key) for key in RESULT_KEYS},
        "config": _portable(cfg),
        "files": {Path(path).name: sha256_of_file(path) for path in files},
    }
    return {**content, "sha256": _seal(content)}


def label_mapping(model: PromptedModel) -> dict[str, str] | None:
    """{target class: the source class that weighs most for it}, or None where a model has no label mapping."""
    return {target: source for target, source, _ in named_edges(model.network, model.classnames)} or None


def _portable(cfg):
    """The sections of `cfg` that the model depends on, as plain values, without where things lay on the machine that trained."""
    plain = _without_places(json.loads(json.dumps(cfg)))
    kept = {key: plain[key] for key in ("SEED", "INPUT", "DATASET", "MODEL")}
    kept["DATALOADER"] = {"TEST": plain["DATALOADER"]["TEST"]}
    kept["TRAIN"] = {"PRECISION": plain["TRAIN"]["PRECISION"]}
    own = cfg.TRAINER.NAME.upper()
    kept["TRAINER"] = {key: value for key, value in plain["TRAINER"].items() if key in ("NAME", own)}
    kept["DATASET"].pop("DOWNLOAD", None)
    return kept


def _without_places(node, prefix=""):
    """Without paths; of a list of them the files' names stay, because their number matters."""
    kept = {}
    for key, value in node.items():
        if isinstance(value, dict):
            kept[key] = _without_places(value, f"{prefix}{key}.")
        elif not is_path(prefix + key):
            kept[key] = value
        elif isinstance(value, list):
            kept[key] = [os.path.basename(path) for path in value]
    return kept


def _seal(content):
    """SHA-256 of the values, whatever their order and spacing in the file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of_file(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256_in_blocks(file)


def _sha256_in_blocks(file):
    digest = hashlib.sha256()  # Python 3.10
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def write_description(content: dict, directory: str | os.PathLike) -> None:
    write_json(content, os.path.join(directory, DESCRIPTION_FILE))


def read_description(directory: str | os.PathLike) -> dict:
    """The checked content of `config.json` in `directory`, whose other files are checked too.

    Raises:
        DataError: as `read_sealed`, or one of the files is missing or changed.
    """
    content = read_sealed(directory)
    for name, sha256 in {FILES[content["format"]]: None, **content["files"]}.items():
        file = Path(directory, name)
        if file.parent != Path(directory) or not file.is_file():
            raise DataError(f"{file}: no such file, though {DESCRIPTION_FILE} names it; export the model again")
        if sha256_of_file(file) != sha256:
            raise DataError(f"{file}: was changed since it was written (its SHA-256 differs); export the model again")
    return content


def read_sealed(directory: str | os.PathLike) -> dict:
    """The checked content of `config.json` in `directory` alone; the files that it names need not be there yet.

    Raises:
        DataError: it is damaged, incomplete, changed or of a newer form.
    """
    path = Path(directory, DESCRIPTION_FILE)
    content = read_checked_json(path, "export the model again")
    newer = isinstance(content, dict) and content.get("version")
    if not kinds.COUNT(newer) and newer > VERSION:
        raise DataError(f"{path}: form {newer} is newer than this dassl_vr ({__version__}); update it")
    if problem := FORM(content):
        raise DataError(f"{path}: {problem}; export the model again")
    check_classnames(content["classnames"], path, content["num_classes"])
    if content["sha256"] != _seal({key: value for key, value in content.items() if key != "sha256"}):
        raise DataError(f"{path}: was changed since it was written; export the model again")
    return content


def check_preprocessing(description: dict, cfg: CfgNode, pixel_shape: tuple[int, int, int], path: str | os.PathLike) -> None:
    """Raises `DataError` unless images are prepared under `cfg` as the description says: of that size, mean and deviation.

    Args:
        pixel_shape: (3, h, w) of a prepared image.
    """
    said = description["preprocessing"]
    done = {"size": cfg.INPUT.SIZE, "mean": cfg.INPUT.PIXEL_MEAN, "std": cfg.INPUT.PIXEL_STD}
    pairs = {name: (said[name], list(value)) for name, value in done.items()}
    pairs["pixels.shape"] = said["pixels"]["shape"][1:], list(pixel_shape)
    for name, (expected, found) in pairs.items():
        if expected != found:
            raise DataError(
                f"{path}: 'preprocessing.{name}' says {expected}, but its configuration makes {found}; export the model again"
            )


def check_classnames(names: Sequence[str], path: str | os.PathLike, number: int | None = None) -> None:
    """Raises `DataError` unless `names` are `number` names."""
    number = len(names) if number is None else number
    if len(names) != number:
        raise DataError(f"{path}: {len(names)} class names for {number} classes; export the model again")
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise DataError(f"{path}: class {position} has no name; export the model again")
