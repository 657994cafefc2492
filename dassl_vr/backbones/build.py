"""From a name to a backbone."""

import difflib
from dataclasses import replace
from functools import partial

from ..utils.errors import ConfigError
from ..utils.registry import Registry
from .adapters import Adapter, adapters
from .base import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec, FrozenBackbone
from .class_token import read_class_token_alone
from .fold import fold_batch_norm
from .input_gradient import speed_up_input_gradients
from .probe import side_problem
from .weights import WeightsFile, weights_sha256

# Builders of a plug-in's own backbones: `build(pretrained=..., **kwargs)` returning a module with `out_features` whose
# forward gives features, as in the family. A `spec` attribute (a BackboneSpec) on the builder states its size and
# normalization.
BACKBONE_REGISTRY = Registry("backbone")

# In the names of tensors that are interpolated when a model is built for another size, not everywhere to the same last bit
RESIZED = ("pos_emb", "positional_emb", "relative_position")

# Short names: the backbones of the papers, of the demo and of trials without a network
ALIASES = {
    "rn18": "torchvision:resnet18.IMAGENET1K_V1",
    "rn50": "torchvision:resnet50.IMAGENET1K_V2",
    "vit_b32": "timm:vit_base_patch32_384.augreg_in21k_ft_in1k",
    "vit_l16_384": "timm:vit_large_patch16_384.augreg_in21k_ft_in1k",
    "lite0": "package:tf_efficientnet_lite0",
    "clip_rn50": "open_clip:RN50-quickgelu.openai",
    "clip_rn101": "open_clip:RN101-quickgelu.openai",
    "clip_vit_b32": "open_clip:ViT-B-32-quickgelu.openai",
    "clip_vit_b16": "open_clip:ViT-B-16-quickgelu.openai",
    "clip_vit_l14": "open_clip:ViT-L-14-quickgelu.openai",
    # CoOp's names of the transformers; its "RN50" is taken by torchvision's
    "vit-b/32": "open_clip:ViT-B-32-quickgelu.openai",
    "vit-b/16": "open_clip:ViT-B-16-quickgelu.openai",
    "vit-l/14": "open_clip:ViT-L-14-quickgelu.openai",
    "tiny_vit": "tiny:vit_patch16_64",
    "tiny_clip": "tiny:clip_vit_patch16_64",
}


class _RegisteredAdapter(Adapter):
    """Backbones of `BACKBONE_REGISTRY`: features, no classifier."""

    library = "registered"

    def owns(self, model_name):
        return model_name in BACKBONE_REGISTRY

    def spec(self, model_name):
        name = f"{self.library}:{BACKBONE_REGISTRY.canonical_name(model_name)}"
        stated = getattr(BACKBONE_REGISTRY.get(model_name), "spec", None)
        if stated is not None:
            return replace(stated, name=name, num_source_classes=0)
        return BackboneSpec(name, "cnn", 224, IMAGENET_MEAN, IMAGENET_STD, 0)

    def source_classes(self, spec):
        return []

    def build(self, spec, pretrained, weights, verbose):
        if weights:
            raise ConfigError(f"MODEL.BACKBONE.WEIGHTS is set, but backbone '{spec.name}' loads its weights itself; remove it")
        return BACKBONE_REGISTRY.get(spec.model_name)(pretrained=pretrained)

    def features(self, model, x):
        return model(x)

    def num_features(self, model):
        return getattr(model, "out_features", None)


_REGISTERED = _RegisteredAdapter()


def resolve(name: str) -> tuple[Adapter, str]:
    """(adapter, the library's own name) for an alias, a name with a library's prefix, or a plain name.

    Raises:
        ConfigError: no such backbone; the message has the nearest names.
    """
    if name in BACKBONE_REGISTRY:
        return _REGISTERED, name
    full = ALIASES.get(name.lower(), name)
    library, colon, model_name = full.partition(":")
    if colon:
        known = {**adapters(), _REGISTERED.library: _REGISTERED}
        if library not in known:
            raise ConfigError(f"unknown library '{library}' of backbone '{name}'; expected one of {', '.join(known)}")
        if known[library].owns(model_name):
            return known[library], model_name
        asked, wanted = [known[library]], model_name
    else:
        asked, wanted = adapters().values(), full
        for adapter in asked:
            if adapter.owns(wanted):
                return adapter, wanted
    raise ConfigError(_unknown(name, wanted, list(asked)))


def _unknown(name, wanted, asked):
    architecture, _, tag = wanted.partition(".")
    names = {known for adapter in asked for known in adapter.names()}
    if tag and architecture in names:
        return f"backbone '{architecture}' has no weights called '{tag}'; leave the tag out for the library's default"
    names |= {*ALIASES, *BACKBONE_REGISTRY.registered_names()}
    near = difflib.get_close_matches(architecture.lower(), sorted(names), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"short names are {', '.join(ALIASES)}"
    return f"unknown backbone '{name}'; {hint} (MODEL.BACKBONE.NAME takes the models of {', '.join(adapters())})"


def backbone_spec(name: str, size: int | None = None) -> BackboneSpec:
    """Facts of a backbone, without building or downloading it.

    Args:
        name: an alias (`rn18`), a model of torchvision, timm or open_clip (`resnet34`, `vit_small_patch16_224.augreg_in1k`,
            `ViT-B-32.laion2b_s34b_b79k`), the same with its library in front (`timm:resnet34`), or a name in `BACKBONE_REGISTRY`.
        size: side in pixels to build it for; None = the side its weights were trained at.

    Raises:
        ConfigError: no such backbone; the message has the nearest names.
    """
    adapter, model_name = resolve(name)
    spec = adapter.spec(model_name)
    return replace(spec, input_size=size) if size else spec


def check_backbone(name: str, size: int | None = None) -> None:
    """Look, without weights and before anything is read, at what the backbone makes of images of `size` pixels.

    Raises:
        ConfigError: it cannot take them, or there are pixels that it does not see; names sides that fit.
    """
    adapter, _ = resolve(name)
    spec = backbone_spec(name, size)
    if adapter is not _REGISTERED and (problem := side_problem(adapter, spec)):
        raise ConfigError(problem)


def build_backbone(
    name: str,
    pretrained: bool = True,
    weights: str = "",
    weights_entry: str = "",
    size: int | None = None,
    frozen: bool = True,
    precision: str = "fp32",
    fold: bool = True,
    channels_last: bool = True,
    verbose: bool = True,
    checksum: bool = False,
    compiled: bool = False,
    check_side: bool = True,
) -> FrozenBackbone:
    """A backbone ready for use.

    Args:
        name, size: see `backbone_spec`. A vision transformer is built for `size` and its position embeddings are
            resized.
        pretrained: False = random weights.
        weights, weights_entry: a `.pth` or `.safetensors` file to take the weights from instead of the library's hub, and which
            entry of it; see `weights.WeightsFile`.
        frozen: False = a trainable model in train mode, for full fine-tuning.
        precision: arithmetic of the forward pass, "fp32", "bf16" or "fp16".
        fold: leave out work that leaves the logits the same: batch norms are folded into convolutions (frozen CNNs and CLIP's
            CNNs), the last block of a frozen transformer computes the class token alone where nothing else of it is read, and
            input gradients take less work (`input_gradient`).
        channels_last: store the weights and images of CNNs, CLIP's too, in channels_last order.
        compiled: run a frozen model through `torch.compile`.
        check_side: refuse a `size` that the model cannot take, or at which it does not see all pixels (see `check_backbone`).
        verbose: print the name, show the progress of a download.
        checksum: compute `weights_sha256` of the backbone, which takes about a second for 400 MB.

    Raises:
        ConfigError: no such backbone, or not in this size.
        WeightsError: the weights are missing, unreadable or do not fit.
    """
    adapter, _ = resolve(name)
    spec = backbone_spec(name, size)
    if check_side:
        check_backbone(name, size)
    if verbose:
        print(f"Backbone: {spec.name}")
    if weights_entry and not weights:
        raise ConfigError(f"MODEL.BACKBONE.WEIGHTS_ENTRY is {weights_entry}, without MODEL.BACKBONE.WEIGHTS; name the file too")
    file = WeightsFile(weights, weights_entry) if weights else None
    model = adapter.build(spec, pretrained, file, verbose)
    num_parameters = sum(p.numel() for p in model.parameters())
    resized = spec.input_size != adapter.spec(spec.model_name).input_size
    sha256 = weights_sha256(model, leave_out=RESIZED if resized else ()) if checksum else None
    clip_cnn = spec.kind == "clip" and not spec.tokens
    if fold and frozen and spec.kind == "cnn":
        model = fold_batch_norm(model.eval(), spec.input_size)
    elif fold and frozen and clip_cnn:
        model.visual = fold_batch_norm(model.visual.eval(), spec.input_size)
    if fold and frozen:
        speed_up_input_gradients(model)
    backbone = adapter.wrap(model, spec, frozen=frozen, precision=precision)
    if fold and frozen and spec.tokens and adapter is not _REGISTERED:
        run = backbone.adapter.logits if spec.num_source_classes else backbone.adapter.features
        read_class_token_alone(model, backbone.tokens.blocks, partial(run, model), spec.input_size)
    backbone.num_parameters = num_parameters
    if channels_last and (spec.kind == "cnn" or clip_cnn):
        backbone.use_channels_last()
    if compiled and frozen:
        backbone.compile_model()
    backbone.weights_sha256 = sha256
    backbone.note = file.note if file else ""
    if verbose and backbone.note:
        print(backbone.note)
    return backbone
