"""What all visual-reprogramming trainers share: f_out o backbone o f_in, trained by cross entropy on the mapped labels."""

import torch
from torch import nn
from tqdm import tqdm
from yacs.config import CfgNode as CN

from ..backbones import backbone_spec
from ..prompting.templates import TEMPLATE_SETS, fill_in, template_set
from ..reprogramming import MAPPINGS, LinearMapping, TextMapping
from ..reprogramming.classifier import FeatureSource, ReprogrammedClassifier, TextSource
from ..utils.distributed import is_main, no_progress_bar, share, sum_
from ..utils.errors import ConfigError
from .pictures import RunPictures
from .prompt_learning import PromptLearning
from .resume import stoppable

# Output sides besides the label mappings: the text features of the target classes (CLIP), a trained layer on the features
TEXT, HEAD = "text", "head"


def add_reprogramming_keys(cfg, name):
    """Add `TRAINER.<NAME>` with the keys that every visual-reprogramming trainer has; returns the node for more."""
    node = cfg.TRAINER[name.upper()] = CN()
    # How source labels become target labels. Options: rlm, flm, ilm, blm, blm+, linear; text (CLIP: the target classes' text
    # features are the head); head (a trained linear layer on the features). On CLIP the source labels of all but the last two are
    # a set of templates times the classes
    node.MAPPING = "ilm"
    # That set. Options: ensemble (DATASET.TEMPLATE and seven general ones), imagenet (the 81 published with ilm and blm: "This is a
    # photo of a {}." and the eighty of CLIP's authors), vp ("This is a photo of a {}" alone, for text too, which takes
    # DATASET.TEMPLATE else)
    node.TEMPLATES = "ensemble"
    # Images that flm looks at: "prompted", or "plain" ones (without the pattern)
    node.MAPPING_ON = "prompted"
    # Where ilm, blm and blm+ look before each epoch. Options: exact (a pass over all training images with the current prompt),
    # reuse (what training saw in the epoch before: no pass but the first; the prompt was a little older, and masks were those of
    # training mode. Accuracy of both: benchmarks/README.md)
    node.MAPPING_PASS = "exact"
    return node


class PatternAndMapping(nn.Module):
    """The pattern and the label mapping as one registered model, so that one checkpoint file carries both."""

    def __init__(self, delta, mapping):
        super().__init__()
        self.register_parameter("delta", delta)
        self.mapping = mapping


class VisualReprogramming(PromptLearning):
    """The own part of a visual-reprogramming trainer, to be put in front of a `TrainerX`.

    A method gives `build_input(cfg, size)`, a module (B, 3, S, S) -> (B, 3, S, S) on normalized images, and may train further
    parts. `build_input` raises `ValueError` for settings that cannot be.

    Besides what `PromptLearning` asks of the trainer behind it: `dm.train_loader_all` (every training image once, with the training
    transform), `steps_done()` and `results` (split -> metrics of the last test).
    """

    choices = {
        "MAPPING": (*MAPPINGS, TEXT, HEAD),
        "TEMPLATES": TEMPLATE_SETS,
        "MAPPING_ON": ("prompted", "plain"),
        "MAPPING_PASS": ("exact", "reuse"),
    }

    def config_problems(self, cfg):
        problems = super().config_problems(cfg)
        height, width = cfg.INPUT.SIZE
        if height != width:
            problems.append(f"INPUT.SIZE is {cfg.INPUT.SIZE}; visual reprogramming takes square images")
        spec, mapping = backbone_spec(cfg.MODEL.BACKBONE.NAME), self.options_in(cfg).MAPPING
        if spec.kind != "clip" and not spec.num_source_classes and mapping in MAPPINGS:
            problems.append(
                f"backbone '{spec.name}' has no classifier, or an embedding in its place (as a CLIP's image tower has), so there"
                f" are no source classes for MAPPING {mapping}; take MAPPING head, trainer LinearProbe, or one with a classifier"
            )
        return problems

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        with torch.device("meta"):  # no memory, no random numbers: to hear complaints before data and weights are read
            self._input_module(cfg)

    @classmethod
    def _input_module(cls, cfg):
        try:
            return cls.build_input(cfg, cfg.INPUT.SIZE[0])
        except ValueError as error:
            raise ConfigError(f"TRAINER.{cls.__name__.upper()}: {error}") from error

    @classmethod
    def build_input(cls, cfg, size):
        raise NotImplementedError

    @classmethod
    def takes_new_classes(cls, cfg):
        return cls.options_in(cfg).MAPPING == TEXT

    @classmethod
    def build_network(cls, cfg, backbone, classnames):
        return ReprogrammedClassifier(cls._input_module(cfg), *cls.build_output(cfg, backbone, classnames))

    @classmethod
    def build_output(cls, cfg, backbone, classnames):
        """(source, f_out): a module with `logits(images)` of the source labels, and what maps them to the target classes."""
        options, num_target = cls.options_in(cfg), len(classnames)
        mapping = options.MAPPING
        if mapping == HEAD:
            return FeatureSource(backbone), LinearMapping(backbone.out_features, num_target)
        source = backbone
        if backbone.kind == "clip":
            templates = template_set(options.TEMPLATES, cfg.DATASET.TEMPLATE)
            if mapping == TEXT and options.TEMPLATES != "vp":
                templates = (cfg.DATASET.TEMPLATE,)
            prompts = [[fill_in(template, name) for name in classnames] for template in templates]
            if options.TEMPLATES == "ensemble":  # class by class; the published set goes template by template, which decides ties
                prompts = zip(*prompts)
            source = TextSource(backbone, [prompt for group in prompts for prompt in group])
        elif mapping == TEXT:
            raise ValueError("MAPPING text needs a text tower; take a CLIP backbone or another MAPPING")
        if mapping == TEXT:
            return source, TextMapping(num_target, num_target)
        extra = {"seed": cfg.SEED} if mapping == "rlm" else {}
        return source, MAPPINGS[mapping](len(source.source_classes), num_target, **extra)

    @classmethod
    def trained_parts(cls, cfg, network):
        return {"prompt": (PatternAndMapping(network.f_in.delta, network.f_out), cfg.OPTIM)}

    def build_model(self):
        PromptLearning.build_model(self)
        self.pictures = RunPictures(self)
        self._seen = None  # source logits of the batch in training, for MAPPING_PASS reuse
        self._reuses = self.options.MAPPING_PASS == "reuse" and self.model.f_out.refresh == "epoch"
        if self._reuses:
            self.model.f_out.register_forward_pre_hook(self._keep_source_logits)

    def _keep_source_logits(self, mapping, arguments):
        self._seen = arguments[0].detach()

    # ---------------------------------------------------------------------------------------------------- training
    def before_epoch(self):
        mapping = self.model.f_out
        if self._reuses:
            if mapping.observed:
                mapping.update()
            else:  # before the first epoch, or in a run that began with exact passes
                self.refresh_mapping()
            mapping.reset()
        elif mapping.refresh == "epoch" or (mapping.refresh == "start" and self.epoch == 0):
            self.refresh_mapping()

    @torch.inference_mode()
    def refresh_mapping(self):
        """Recompute the label mapping over all training samples with the current prompt, in evaluation mode."""
        self.set_model_mode("eval")
        mapping, backbone = self.model.f_out, self.model.backbone
        plain = mapping.refresh == "start" and self.options.MAPPING_ON == "plain"
        mapping.reset()
        bar = tqdm(self.dm.train_loader_all, desc="label mapping", disable=no_progress_bar(), leave=False)
        for batch in stoppable(self, bar, undo=mapping.forget):
            images, labels = self.parse_batch_test(batch)
            mapping.observe(backbone.logits(images if plain else self.model.f_in(images)), labels)
        mapping.update()

    def forward_backward(self, batch):
        summary = super().forward_backward(batch)
        if self._reuses and share() > 0:  # not a stand-in for the empty part of a process
            self.model.f_out.observe(self._seen, self.parse_batch_train(batch)[1])
        return summary

    def extra_state(self):
        # With `reuse`, what the next epoch's mapping is made of, of all processes
        observed = {name: sum_(counts.clone()) for name, counts in self.model.f_out.observed.items()}
        return {**super().extra_state(), **observed}

    def load_extra_state(self, state):
        super().load_extra_state(state)
        if self._reuses:  # the main process takes what all have seen
            self.model.f_out.load_observed({k: v if is_main() else torch.zeros_like(v) for k, v in state.items()})

    # ---------------------------------------------------------------------------------------------------- pictures
    def before_train(self):
        super().before_train()
        if self.start_epoch == 0:
            self.pictures.after(-1)

    def after_epoch(self):
        super().after_epoch()
        self.pictures.after(self.epoch)

    def after_train(self):
        super().after_train()
        self.pictures.finish()
