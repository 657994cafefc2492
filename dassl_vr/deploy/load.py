"""From a run's directory, a bundle or an exported graph to a model that predicts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..backbones.base import PRECISIONS
from ..backbones.from_cfg import backbone_from_cfg
from ..backbones.weights import require_same_weights
from ..config import get_cfg_default, merge_mapping, read_yaml, validate_cfg
from ..data import name_of_data
from ..data.transforms import build_transform
from ..engine import TRAINER_REGISTRY
from ..engine.results import RESULTS_FILE, read_results
from ..engine.run_directory import CONFIG_FILE
from ..engine.trainer import resolve_precision
from ..methods import PromptLearning
from ..names import BUNDLE
from ..plugins import load_plugins
from ..reprogramming.classifier import inner_backbone
from ..utils.checkpoint import CHECKPOINT, find_checkpoint, load_checkpoint, load_trained_state
from ..utils.devices import AUTO, open_device
from ..utils.errors import ConfigError, DataError, WeightsError
from .bundle import read_states
from .description import DESCRIPTION_FILE, LARGEST_SIDE, check_classnames, check_preprocessing, read_description
from .hub import fetch_bundle, hub_place
from .model import ImageClassifier, PromptedModel, pixel_shape_of


def load_prompted(
    directory: str | os.PathLike,
    device: str | None = None,
    weights: str | os.PathLike = "",
    precision: str | None = None,
    plugins: Sequence[str | os.PathLike] = (),
) -> ImageClassifier:
    """The model that a run has trained, ready to predict.

    Args:
        directory: of a finished run, of a bundle, or of an exported ONNX graph; or `hub:USER/NAME` or `hub:USER/NAME@REVISION`, a
            bundle on the Hugging Face hub.
        device: where it is to work, as the key DEVICE; None = auto, an accelerator if there is one.
        weights: a local file with the backbone's weights, in place of where the run found them.
        precision: arithmetic of the backbone, "fp32", "bf16" or "fp16"; None = as `TRAIN.PRECISION` of the run says.
        plugins: files with the trainer or the backbone, if these are not of this package.

    Returns:
        A `PromptedModel` in evaluation mode; of an ONNX graph an `OnnxModel`, which predicts alike.

    Raises:
        ConfigError: there is no such directory, or nothing in it that can be loaded.
        DataError, WeightsError: a file in it is missing or damaged, or the backbone is not the one it was trained on.
    """
    place = hub_place(directory)
    directory = fetch_bundle(place) if place else Path(directory)
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory; expected that of a finished run or of a bundle")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision '{precision}' is unknown; it is one of {', '.join(PRECISIONS)}")
    device = open_device(device or AUTO, what="device")
    load_plugins(plugins)
    description = read_description(directory) if (directory / DESCRIPTION_FILE).is_file() else None
    if description and description["format"] != BUNDLE:
        from .exported import open_exported  # here: needs the extra `onnx`

        return open_exported(directory, description, _configuration(description["config"], directory / DESCRIPTION_FILE))
    parts = _from_bundle(directory, description) if description else _from_run(directory)
    return assemble(parts, device, weights, precision)


@dataclass
class Parts:
    """What a model is put together from.

    Attributes:
        cfg: its configuration, resolved.
        classnames: K names in the order of the labels.
        states: {registered name: its trained tensors}, or a callable from the names to that.
        source: where it comes from, for messages.
        results: of the run.
        weights_sha256: of the backbone that it was trained on; None = not known, taken as it is.
    """

    cfg: object
    classnames: list
    states: object
    source: str
    results: dict
    weights_sha256: str | None = None


def _from_run(directory):
    if not (directory / CONFIG_FILE).is_file():
        raise ConfigError(f"{directory}: neither a run nor a bundle; expected {CONFIG_FILE} or {DESCRIPTION_FILE} in it")
    cfg = _configuration(read_yaml(directory / CONFIG_FILE), directory / CONFIG_FILE)
    if not (directory / RESULTS_FILE).is_file():
        raise DataError(f"{directory}: the run has no {RESULTS_FILE}, so it is not finished; continue with --resume {directory}")
    results = read_results(directory)
    path = directory / RESULTS_FILE
    if not results.get("classnames"):
        raise DataError(f"{path}: has no classnames, as of an older version; train the run again")
    check_classnames(results["classnames"], path)

    def states(names):
        files = {name: find_checkpoint(directory / name) for name in names}
        return {name: load_checkpoint(file, CHECKPOINT)["state_dict"] for name, file in files.items()}

    return Parts(cfg, results["classnames"], states, str(directory), results, results.get("weights_sha256"))


def _from_bundle(directory, description):
    path = directory / DESCRIPTION_FILE
    cfg = _configuration(description["config"], path)
    check_preprocessing(description, cfg, pixel_shape_of(build_transform(cfg, is_train=False)), path)
    states = read_states(directory)
    sha256 = description["backbone"]["weights_sha256"]
    return Parts(
        cfg,
        description["classnames"],
        lambda names: {**{name: {} for name in names}, **states},
        str(directory),
        description["results"],
        sha256,
    )


def _configuration(mapping, path):
    cfg = get_cfg_default()
    merge_mapping(cfg, mapping, path)
    validate_cfg(cfg)
    if min(cfg.INPUT.SIZE) <= 0 or max(cfg.INPUT.SIZE) > LARGEST_SIDE:
        raise ConfigError(f"{path}: INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}; expected the configuration that a run has written")
    return cfg


def assemble(parts: Parts, device: torch.device, weights: str | os.PathLike = "", precision: str | None = None) -> PromptedModel:
    """The `PromptedModel` of `parts`; nothing random is drawn from the global generators. Raises as `load_prompted`."""
    cfg = parts.cfg
    cfg.VERBOSE = False
    cfg.MODEL.BACKBONE.WEIGHTS = str(weights) or cfg.MODEL.BACKBONE.WEIGHTS
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not issubclass(trainer, PromptLearning):
        raise ConfigError(
            f"{parts.source}: trainer {cfg.TRAINER.NAME} builds its model inside of the training engine; only trainers made of"
            " `PromptLearning` can be loaded without it"
        )
    precision = precision or resolve_precision(cfg.TRAIN.PRECISION, device)
    with torch.random.fork_rng(devices=[]):  # built on the CPU; `torch.manual_seed` would seed the accelerators too
        torch.default_generator.manual_seed(cfg.SEED % 2**63)  # a backbone without pre-trained weights starts from the run's seed
        backbone = backbone_from_cfg(cfg, precision, frozen=trainer.freeze_backbone)
        require_same_weights(parts.weights_sha256, backbone.weights_sha256, parts.source, "--weights")
        height, width = cfg.INPUT.SIZE
        if backbone.kind != "cnn" and height != width:
            raise ConfigError(f"{parts.source}: INPUT.SIZE is {height} x {width}; {cfg.MODEL.BACKBONE.NAME} takes square images")
        backbone = backbone.to(device)
        try:
            network = trainer.build_network(cfg, backbone, parts.classnames).to(device)
        except ValueError as error:
            raise ConfigError(f"{parts.source}: {error}") from error
    modules = {name: module for name, (module, _) in trainer.trained_parts(cfg, network).items()}
    states = parts.states(list(modules))
    if set(states) != set(modules):
        expected, found = (", ".join(sorted(names)) or "none" for names in (modules, states))
        raise WeightsError(f"{parts.source}: has the trained parts {found}; trainer {cfg.TRAINER.NAME} has {expected}")
    for name, module in modules.items():
        load_trained_state(module, states[name], f"{parts.source}: {name}")
    details = Details(cfg, parts.results, backbone, modules)
    return _prompted(network, build_transform(cfg, is_train=False), parts.classnames, details)


def model_of(trainer: PromptLearning) -> PromptedModel:
    """The model of a trainer in this process as it is now; its modules are the trainer's own, in evaluation mode from now on."""
    trainer.set_model_mode("eval")
    cfg, network = trainer.cfg, trainer.model
    modules = {name: module for name, (module, _) in trainer.trained_parts(cfg, network).items()}
    details = Details(cfg, {}, inner_backbone(network), modules)
    return _prompted(network, trainer.dm.tfm_test, trainer.dm.dataset.classnames, details)


def _prompted(network, pipeline, classnames, details):
    model = PromptedModel(network, pipeline, classnames, details.cfg.DATALOADER.TEST.BATCH_SIZE).eval()
    model.grey_bits = details.cfg.DATASET.GREY_BITS
    model.details = details
    return model


@dataclass
class Details:
    """What a `PromptedModel` was made from, for bundles and pictures.

    Attributes:
        cfg, results: of the run.
        backbone: the pre-trained model inside of the network.
        modules: {registered name: what of the network was trained}.
    """

    cfg: object
    results: dict
    backbone: object
    modules: dict

    @property
    def data_name(self) -> str:
        """What the data that it was trained on are called; a bundle knows it from its results, for it keeps no paths."""
        return self.results.get("dataset") or name_of_data(self.cfg)
