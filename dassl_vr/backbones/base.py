"""The surface that trainers see of a pre-trained model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..utils.devices import autocast
from ..utils.errors import ConfigError

if TYPE_CHECKING:
    from .adapters import Adapter

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class BackboneSpec:
    """What is known of a backbone before it is built.

    Attributes:
        name: full name, `library:architecture[.tag]`; it builds the same model wherever a name is taken.
        library, model_name: its parts.
        kind: "vit" (a plain vision transformer: patch tokens in, same tokens through every block), "clip" (an image and
            a text tower) or "cnn" (anything else: nothing but pixels in and logits out may be assumed).
        input_size: side in pixels that the model is built for.
        mean, std: normalization that the weights were trained with.
        num_source_classes: number of logits; 0 = the model has no classifier, or gives an embedding in its place.
        tokens: whether the image side is a transformer whose blocks all take the same sequence of tokens.
        text_tokens: whether there is a text tower that takes learned tokens, as CLIP's own does.
    """

    name: str
    kind: str
    input_size: int
    mean: tuple
    std: tuple
    num_source_classes: int
    tokens: bool = False
    text_tokens: bool = False

    @property
    def library(self) -> str:
        return self.name.partition(":")[0]

    @property
    def model_name(self) -> str:
        """The library's own name of the model, tag included."""
        return self.name.partition(":")[2]


@dataclass(frozen=True)
class TokenLayout:
    """Where the tokens of an image run in a transformer, batch first: (B, prefix + patches, width).

    Attributes:
        blocks: the modules that take and give the sequence, in order.
        width: numbers per token.
        patch_size: side of a patch in pixels.
        prefix: tokens in front of the patches, such as the class token.
        entry: the module that takes the sequence first: a layer norm in front of the blocks (CLIP), or the first block.
    """

    blocks: list
    width: int
    patch_size: int
    prefix: int
    entry: nn.Module


class Backbone(nn.Module):
    """Base class of the family's backbones: `forward` gives (B, D) features of (B, 3, S, S) images.

    Attributes:
        out_features: D.
    """

    @property
    def out_features(self) -> int | None:
        return getattr(self, "_out_features", None)


class FrozenBackbone(Backbone):
    """A pre-trained model whose weights nobody changes; gradients flow through it to its input.

    It stays in eval mode whatever `train()` is called on its owner, and its parameters take no gradient. The unfrozen
    form (`frozen=False`), for full fine-tuning, behaves as an ordinary module.

    Args:
        model: the library's module, weights loaded.
        spec: its `BackboneSpec`.
        adapter: knows how to get logits and features out of `model`, see `adapters.Adapter`.
        source_classes: names of the source classes in the order of the logits.
        precision: "fp32", "bf16" or "fp16" arithmetic of the forward pass (autocast); results are float32 always.

    Attributes:
        adapter: as given.
        kind, input_size, mean, std: those of `spec`.
        num_parameters: of the model as published, before any folding.
        weights_sha256: checksum of the weights as they were loaded, before any folding; None unless `build_backbone` was asked for
            it.
        note: a sentence that a user has to know about the weights, if there is one.

    Raises:
        ConfigError: another `precision`.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: BackboneSpec,
        adapter: "Adapter",
        source_classes: Sequence[str],
        frozen: bool = True,
        precision: str = "fp32",
    ):
        super().__init__()
        if precision not in PRECISIONS:
            raise ConfigError(f"precision '{precision}' is unknown; the backbone takes one of {', '.join(PRECISIONS)}")
        self.model = model
        self.spec = spec
        self.source_classes = list(source_classes)
        self.frozen = frozen
        self.precision = precision
        self.adapter = adapter
        self._out_features = adapter.num_features(model)
        self.weights_sha256 = None
        self.note = ""
        self.num_parameters = sum(p.numel() for p in model.parameters())
        model.requires_grad_(not frozen)
        self._memory_format = torch.contiguous_format
        self._compiled = {}  # name of the adapter's method -> what runs in its place
        self.train(not frozen)

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def input_size(self) -> int:
        return self.spec.input_size

    @property
    def mean(self) -> tuple[float, ...]:
        return self.spec.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.spec.std

    @property
    def tokens(self) -> TokenLayout:
        """The `TokenLayout` of a transformer; raises `ConfigError` for other models."""
        if not self.spec.tokens:
            raise ConfigError(f"backbone '{self.spec.name}' is not a plain transformer: it has no sequence of patch tokens")
        return self.adapter.tokens(self.model)

    def train(self, mode: bool = True) -> "FrozenBackbone":
        return super().train(mode and not self.frozen)

    def _autocast(self, x):
        # Switched off rather than left out for fp32, so that an owner's autocast does not reach in
        return autocast(x.device, None if self.precision == "fp32" else PRECISIONS[self.precision])

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, source) float32. Raises `ConfigError` where there is no classifier."""
        if not self.source_classes:
            raise ConfigError(
                f"backbone '{self.spec.name}' has no classifier, so there are no source classes to map; choose a "
                "backbone with one, or a trainer that works on features"
            )
        return self._run("logits", x)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) float32: what the classifier sees."""
        return self._run("features", x)

    @torch.no_grad()
    def reads_features(self) -> bool:
        """Whether the logits are the classifier's of `features`, and of nothing else; True for a model without a classifier."""
        if not self.source_classes:
            return True
        classifier, training = self.adapter.classifier(self.model), self.training
        if not isinstance(classifier, nn.Module):  # several: an ensemble
            return classifier is None
        self.eval()
        size, device = self.input_size, next(self.parameters()).device
        x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        logits, features = self.logits(x), self.features(x)
        with self._autocast(x):
            got = classifier(features[..., None, None] if isinstance(classifier, nn.Conv2d) else features).float()
        self.train(training)
        return got.numel() == logits.numel() and torch.allclose(got.reshape(logits.shape), logits, rtol=0.05, atol=0.01)

    def freeze_unused(self) -> None:
        """Freeze what `features` has no use for, such as the classifier or a text tower, in a model that is trained on features."""
        training = self.training
        self.eval()  # no batch norm shall take notice
        with torch.enable_grad():
            self.features(
                torch.zeros(1, 3, self.input_size, self.input_size, device=next(self.parameters()).device)
            ).sum().backward()
        for p in self.parameters():
            p.requires_grad_(p.grad is not None)
            p.grad = None
        self.train(training)

    def use_channels_last(self) -> None:
        """Store weights and images in channels_last order: faster for convolutions, on CPUs and on tensor cores."""
        self._memory_format = torch.channels_last
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if tensor.dim() == 4:  # torch's own way trips over those of five dimensions
                tensor.data = tensor.data.contiguous(memory_format=self._memory_format)

    def compile_model(self) -> None:
        """Run the model through `torch.compile` from now on. Where that fails at the first images, a line says so and the model
        stays as it is."""
        self._compiled = {name: torch.compile(getattr(self.adapter, name)) for name in ("logits", "features")}

    def _run(self, name, x):
        x = x.contiguous(memory_format=self._memory_format)
        plain = getattr(self.adapter, name)
        with self._autocast(x):
            if name not in self._compiled:
                return plain(self.model, x).float()
            try:
                return self._compiled[name](self.model, x).float()
            except Exception as error:
                result = plain(self.model, x).float()  # an error of the model's own comes again here
                reason = str(error).strip().partition("\n")[0][:200]
                print(f"TRAIN.COMPILE: backbone '{self.spec.name}' stays uncompiled ({type(error).__name__}: {reason})")
                self._compiled = {}
                return result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The features, (B, 3, S, S) -> (B, D), as the family expects of a backbone."""
        return self.features(x)

    def extra_repr(self) -> str:
        state = "frozen" if self.frozen else "trainable"
        return f"{self.spec.name}, {self.kind}, {self.input_size} pixels, {state}, {self.precision}"
