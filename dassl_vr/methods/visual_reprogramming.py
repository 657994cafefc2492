"""What all visual-reprogramming trainers share: f_out o backbone o f_in, trained by cross entropy on the mapped labels."""

from collections.abc import Sequence

import torch
from torch import nn
from tqdm import tqdm
from yacs.config import CfgNode as CN

from ..backbones import FrozenBackbone, backbone_spec
from ..data.transforms import pad_side
from ..engine.resume import stoppable
from ..prompting import SINGLE, TEMPLATE_SETS, AdaptedBackbone, fill_in, template_set
from ..reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY, SOURCE_REGISTRY, InputPrompt, LabelMapping
from ..reprogramming.classifier import ReprogrammedClassifier, SeveralViews, inner_backbone
from ..reprogramming.mappings import CLASSES, LABELS
from ..utils.distributed import is_main, is_parallel, no_progress_bar, sum_
from ..utils.errors import ConfigError
from .image_features import of_training_images
from .pictures import RunPictures
from .prompt_learning import PromptLearning
from .words import words_of


def add_reprogramming_keys(cfg: CN, name: str) -> CN:
    """Add `TRAINER.<NAME>` with the keys that every visual-reprogramming trainer has; returns the node for more."""
    node = cfg.TRAINER[name.upper()] = CN()
    # How source labels become target labels, any f_out of MAPPING_REGISTRY: rlm, flm, ilm, blm, blm+, linear, freq, semantic; text
    # (CLIP: the target classes' text features are the head); attrvr, dvp, rvp (CLIP: sentences about the classes are); head (a
    # trained linear layer on the features); one of a plug-in. On CLIP the source labels of those of the first line are a set of
    # templates times the classes
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


class VisualReprogramming(PromptLearning):
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
            options.CLASS_PROMPTS = [
                fill_in(templates[0] if options.TEMPLATES in SINGLE else cfg.DATASET.TEMPLATE, name) for name in classnames
            ]
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
        PromptLearning.build_model(self)
        self.model.f_out.prepare(words_of(self))
        self.pictures = RunPictures(self)
        self._seen = None  # source logits of the batch in training, for MAPPING_PASS reuse
        self._reuses = self.options.MAPPING_PASS == "reuse" and self.model.f_out.refresh == "epoch"
        if self._reuses:
            self.model.f_out.register_forward_pre_hook(self._keep_source_logits)

    def _keep_source_logits(self, mapping, arguments):
        self._seen = arguments[0].detach()

    # ---------------------------------------------------------------------------------------------------- training
    def before_epoch(self) -> None:
        mapping = self.model.f_out
        if self._reuses:
            if mapping.observed:
                self._update_mapping()
            else:  # before the first epoch, or in a run that began with exact passes
                self.refresh_mapping()
            mapping.reset()
        elif mapping.refresh == "epoch" or (mapping.refresh == "start" and self.epoch == 0):
            self.refresh_mapping()
        elif mapping.refresh == "ends" and self.epoch == 0:
            self.solve_mapping(trained=False)

    @torch.no_grad()
    def solve_mapping(self, trained: bool) -> None:
        """Compute the label mapping from all training images at once, without augmentation and with the current prompt."""
        self.set_model_mode("eval")
        mapping, backbone, f_in = self.model.f_out, self.model.backbone, self.model.f_in
        plain = self.dm.train_loader_plain
        logits = of_training_images(self, plain, lambda images: backbone.logits(f_in(images)), "label mapping")
        labels = self.training_labels()
        if self.cfg.DATASET.ON_BAD_IMAGE == "skip":
            read = logits.any(dim=1)  # the others could not be
            logits, labels = logits[read], labels[read]
        mapping.solve(logits, labels, trained)

    @torch.inference_mode()
    def refresh_mapping(self) -> None:
        """Recompute the label mapping over all training samples with the current prompt, in evaluation mode."""
        self.set_model_mode("eval")
        mapping, backbone, f_in = self.model.f_out, self.model.backbone, self.model.f_in
        plain = mapping.refresh == "start" and self.options.MAPPING_ON == "plain"
        mapping.reset()
        bar = tqdm(self.dm.train_loader_all, desc="label mapping", disable=no_progress_bar(), leave=False)
        for batch in stoppable(self, bar, undo=mapping.forget):
            images, labels = self.parse_batch_test(batch)
            mapping.observe(backbone.logits(f_in.copies(images) if plain else f_in(images)), labels)
        self._update_mapping()

    def _update_mapping(self):
        """Compute the mapping from what all processes have observed."""
        mapping = self.model.f_out
        if is_parallel():
            mapping.load_observed({name: sum_(counts) for name, counts in mapping.observed.items()})
        mapping.update()

    def own_results(self) -> dict[str, object]:
        mapping, source = self.model.f_out, self.model.source
        of_sentences = inner_backbone(self.model).kind == "clip" and mapping.reads in (LABELS, CLASSES)
        templates = len(source.source_classes) // mapping.num_target if of_sentences else None
        return {**super().own_results(), "mapping_size": list(mapping.size), "templates": templates}

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor]:
        summary = super().forward_backward(batch)
        seen = summary.pop("seen", None)
        if seen is not None and self.step_share.value > 0:  # not a stand-in for the empty part of a process
            self.model.f_out.observe(seen, self.parse_batch_train(batch)[1])
        return summary

    def train_step(self, batch: dict) -> dict[str, torch.Tensor]:
        summary = super().train_step(batch)
        return {**summary, "seen": self._seen} if self._reuses else summary

    def extra_state(self) -> dict[str, torch.Tensor]:
        # With `reuse`, what the next epoch's mapping is made of, of all processes
        observed = {name: sum_(counts.clone()) for name, counts in self.model.f_out.observed.items()}
        return {**super().extra_state(), **observed}

    def load_extra_state(self, state: dict[str, torch.Tensor]) -> None:
        super().load_extra_state(state)
        if self._reuses:  # the main process takes what all have seen
            self.model.f_out.load_observed({k: v if is_main() else torch.zeros_like(v) for k, v in state.items()})

    # ---------------------------------------------------------------------------------------------------- pictures
    def before_train(self) -> None:
        super().before_train()
        if self.start_epoch == 0:
            self.pictures.after(-1)

    def after_epoch(self) -> None:
        if self.model.f_out.refresh == "ends" and self.epoch + 1 == self.max_epoch:
            self.solve_mapping(trained=True)
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
            raise ValueError(f"METHOD {method} {needs} {name} in INPUT.TRANSFORMS (see configs/trainers/VR/*_pad.yaml)")
