"""What all visual-reprogramming trainers share: f_out o backbone o f_in, trained by cross entropy on the mapped labels."""

from collections.abc import Sequence

import torch
from torch import nn
from yacs.config import CfgNode as CN

from ..backbones import FrozenBackbone, backbone_spec
from ..data.transforms import pad_side
from ..prompting import TEMPLATE_SETS, AdaptedBackbone, class_prompts, fill_in, template_set
from ..reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY, SOURCE_REGISTRY, InputPrompt, LabelMapping
from ..reprogramming.classifier import ReprogrammedClassifier, SeveralViews, inner_backbone
from ..reprogramming.mappings import CLASSES, LABELS
from ..utils.errors import ConfigError
from .mapping_passes import MappingPasses
from .pictures import RunPictures


def add_reprogramming_keys(cfg: CN, name: str) -> CN:
    """Add `TRAINER.<NAME>` with the keys that every visual-reprogramming trainer has; returns the node for more."""
    node = cfg.TRAINER[name.upper()] = CN()
    # How source labels become target labels, any f_out of MAPPING_REGISTRY: rlm, flm, ilm, blm, blm+, linear, freq, semantic; text
    # (CLIP: the target classes' text features are the head); attrvr, dvp, rvp (CLIP: sentences about the classes are); head (a
    # trained linear layer on the features), lda (one that begins and ends with a linear discriminant), lda_text (CLIP: and with the
    # text features); one of a plug-in. On CLIP the source labels of those of the first line are a set of templates times the
    # classes
    node.MAPPING = "ilm"
    # That set. Options: ensemble (DATASET.TEMPLATE and seven general ones), imagenet (the 81 published with ilm and blm: "This is a
    # photo of a {}." and the eighty of CLIP's authors), vp ("This is a photo of a {}" alone), ar ("This is a photo of {}." alone).
    # Those of one sentence are for text too, which takes DATASET.TEMPLATE else
    node.TEMPLATES = "ensemble"
    # Images that flm looks at: "prompted", or "plain" ones (without the pattern)
    node.MAPPING_ON = "prompted"
    # Where ilm, blm, blm+ and dvp look before each epoch. Options: exact (a pass over all training images with the current prompt),
    # reuse (what training saw in the epoch before: no pass but the first; the prompt was a little older, and masks were those of
    # training mode. Accuracy of both: benchmarks/README.md)
    node.MAPPING_PASS = "exact"
    # The CLIP whose text tower compares names for the MAPPING, where the backbone is no CLIP (semantic)
    node.NAMES_BY = "clip_vit_b32"
    for mapping in MAPPING_REGISTRY.registered_names():
        MAPPING_REGISTRY.get(mapping).add_keys(node)
    return node


class PromptAndMapping(nn.Module):
    """An f_in and an f_out as one registered model, so that one checkpoint file carries both.

    What the f_in consists of has its own name here (`delta`), the f_out is `mapping`.

    Args:
        f_out: None = it is registered on its own.
        apart: submodules of `f_in` that are registered on their own.

    Raises:
        ValueError: `f_in` has something called `mapping`.
    """

    def __init__(self, f_in, f_out, apart=()):
        super().__init__()
        self._whole = (f_in,)  # no submodule: its parts are
        for name, parameter in f_in.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in f_in.named_buffers(recurse=False):
            self.register_buffer(name, buffer, persistent=name not in f_in._non_persistent_buffers_set)
        for name, module in f_in.named_children():
            if not any(module is other for other in apart):
                self.add_module(name, module)
        if hasattr(self, "mapping"):
            raise ValueError(f"{type(f_in).__name__} has a part called 'mapping', the name of the label mapping; rename it")
        if f_out is not None:
            self.mapping = f_out

    def train(self, mode: bool = True) -> "PromptAndMapping":
        self._whole[0].training = mode
        return super().train(mode)


class VisualReprogramming(MappingPasses):
    """A method that reprograms: f_out o backbone o f_in, trained by cross entropy on the mapped labels.

    Its f_in is the one of `INPUT_REGISTRY` that TRAINER.<NAME>.METHOD names, or what `build_input(cfg, size)` gives, which raises
    `ValueError` for settings that cannot be. Its f_out is the one of `MAPPING_REGISTRY` that TRAINER.<NAME>.MAPPING names.

    Besides what `PromptLearning` asks of the trainer behind it: `dm.train_loader_all` and `dm.train_loader_plain` (every training
    image once, with the transform for training and for testing), `steps_done()` and `results` (split -> metrics of the last test).
    """

    choices = {
        "MAPPING": MAPPING_REGISTRY,
        "TEMPLATES": TEMPLATE_SETS,
        "MAPPING_ON": ("prompted", "plain"),
        "MAPPING_PASS": ("exact", "reuse"),
    }

    def config_problems(self, cfg: CN) -> list[str]:
        problems = super().config_problems(cfg)
        height, width = cfg.INPUT.SIZE
        if height != width:
            problems.append(f"INPUT.SIZE is {cfg.INPUT.SIZE}; visual reprogramming takes square images")
        spec, mapping = backbone_spec(cfg.MODEL.BACKBONE.NAME), self.options_in(cfg).MAPPING
        where = f"TRAINER.{type(self).__name__.upper()}"
        reads_classes = mapping in MAPPING_REGISTRY and MAPPING_REGISTRY.get(mapping).reads == LABELS
        if spec.kind != "clip" and not spec.num_source_classes and reads_classes:
            problems.append(
                f"backbone '{spec.name}' has no classifier, or an embedding in its place (as a CLIP's image tower has), so there"
                f" are no source classes for MAPPING {mapping}; take MAPPING head, trainer LinearProbe, or one with a classifier"
            )
        compares = mapping in MAPPING_REGISTRY and MAPPING_REGISTRY.get(mapping).compares_names
        if compares and spec.kind != "clip" and backbone_spec(self.options_in(cfg).NAMES_BY).kind != "clip":
            problems.append(f"{where}.NAMES_BY is '{self.options_in(cfg).NAMES_BY}'; it takes a CLIP, such as clip_vit_b32")
        return problems

    def check_cfg(self, cfg: CN) -> None:
        super().check_cfg(cfg)
        self._sketch(cfg)  # it raises before data and weights are read

    @classmethod
    def _sketch(cls, cfg):
        """The f_in without memory and random numbers."""
        with torch.device("meta"):
            return cls._input_module(cfg)

    @classmethod
    def _input_module(cls, cfg):
        try:
            return cls.build_input(cfg, cfg.INPUT.SIZE[0])
        except ValueError as error:
            raise ConfigError(f"TRAINER.{cls.__name__.upper()}: {error}") from error

    @classmethod
    def build_input(cls, cfg: CN, size: int) -> InputPrompt:
        """The f_in for normalized images of side `size`, an `InputPrompt`."""
        method = cls.options_in(cfg).METHOD
        f_in = INPUT_REGISTRY.get(method)
        _check_transforms(method, f_in.transforms, cfg.INPUT.TRANSFORMS)
        return f_in.from_cfg(cls._input_options(cfg), size)

    @classmethod
    def _input_options(cls, cfg):
        """The trainer's keys with what `InputPrompt.from_cfg` may need to know of the images besides."""
        options = _with(cls.options_in(cfg), PIXEL_MEAN=cfg.INPUT.PIXEL_MEAN, PIXEL_STD=cfg.INPUT.PIXEL_STD)
        if "vr_pad" in cfg.INPUT.TRANSFORMS:
            options.PAD_SIDE = pad_side(cfg)
        return options

    @classmethod
    def compared_as(cls) -> dict[str, dict[str, object]]:
        registered = {name: INPUT_REGISTRY.get(name) for name in cls.all_choices().get("METHOD", ()) if name in INPUT_REGISTRY}
        shown = {
            name: {"METHOD": name}
            for name, f_in in registered.items()
            if f_in.trainer == cls.__name__ and not (f_in.transforms or f_in.own_recipe or cls.variants)
        }
        return super().compared_as() | shown

    @classmethod
    def takes_new_classes(cls, cfg: CN) -> bool:
        return MAPPING_REGISTRY.get(cls.options_in(cfg).MAPPING).takes_new_classes

    @classmethod
    def build_network(cls, cfg: CN, backbone: FrozenBackbone, classnames: Sequence[str]) -> ReprogrammedClassifier:
        return ReprogrammedClassifier(cls._input_module(cfg), *cls.build_output(cfg, backbone, classnames))

    @classmethod
    def build_output(
        cls, cfg: CN, backbone: FrozenBackbone | AdaptedBackbone, classnames: Sequence[str]
    ) -> tuple[nn.Module, LabelMapping]:
        """(source, f_out): a module with `logits(images)` of the source labels, and what maps them to the target classes."""
        views = cls._sketch(cfg).views
        options = _with(cls.options_in(cfg), SEED=cfg.SEED, VIEWS=views)
        if backbone.kind == "clip":
            templates = template_set(options.TEMPLATES, cfg.DATASET.TEMPLATE)
            prompts = [[fill_in(template, name) for name in classnames] for template in templates]
            options.CLASS_PROMPTS = class_prompts(options.TEMPLATES, cfg.DATASET.TEMPLATE, classnames)
            if options.TEMPLATES == "ensemble":  # class by class; the published set goes template by template, which decides ties
                prompts = zip(*prompts)
            options.PROMPTS = [prompt for group in prompts for prompt in group]
        mapping = MAPPING_REGISTRY.get(options.MAPPING)
        source = SOURCE_REGISTRY.get(mapping.reads)(options, backbone, classnames)
        if views > 1:
            source = SeveralViews(source, views)
        return source, mapping.from_cfg(options, len(source.source_classes), len(classnames))

    @classmethod
    def trained_parts(cls, cfg: CN, network: ReprogrammedClassifier) -> dict[str, tuple[nn.Module, CN]]:
        parts = network.f_in.parts(cls._input_options(cfg))
        of_mapping, apart = network.f_out.optim(cls.options_in(cfg)), [module for module, _ in parts.values()]
        prompt = PromptAndMapping(network.f_in, None if of_mapping else network.f_out, apart)
        if of_mapping:
            parts = {**parts, "mapping": (network.f_out, of_mapping)}
        return {
            "prompt": (prompt, cfg.OPTIM),
            **{name: (module, _with(cfg.OPTIM, **keys)) for name, (module, keys) in parts.items()},
        }

    def build_model(self) -> None:
        super().build_model()
        self.pictures = RunPictures(self)

    def own_results(self) -> dict[str, object]:
        mapping, source = self.model.f_out, self.model.source
        of_sentences = inner_backbone(self.model).kind == "clip" and mapping.reads in (LABELS, CLASSES)
        templates = len(source.source_classes) // mapping.num_target if of_sentences else None
        return {**super().own_results(), "mapping_size": list(mapping.size), "templates": templates}

    def before_train(self) -> None:
        super().before_train()
        if self.start_epoch == 0:
            self.pictures.after(-1)

    def after_epoch(self) -> None:
        super().after_epoch()
        self.pictures.after(self.epoch)


def _with(node, **values):
    """A copy of a node of the configuration with other values for some of its keys, or more keys."""
    node = node.clone()
    node.defrost()
    node.update(values)
    return node


def _check_transforms(method, needed, present):
    """Raise `ValueError` unless INPUT.TRANSFORMS has what this f_in needs, and nothing that only others need."""
    special = {name for f_in in map(INPUT_REGISTRY.get, INPUT_REGISTRY.registered_names()) for name in f_in.transforms}
    for name in sorted(special & {*needed, *present}):
        if (name in needed) != (name in present):
            needs = "needs" if name in needed else "cannot be combined with"
            recipe = f"scripts/vr.sh {method} has a recipe with the right ones"
            raise ValueError(f"METHOD {method} {needs} {name} in INPUT.TRANSFORMS ({recipe})")
