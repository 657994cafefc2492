"""Classification models of torchvision, named `architecture[.WEIGHTS]`, as in `resnet50.IMAGENET1K_V2`."""

import re
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ...utils.errors import ConfigError
from ..base import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec, TokenLayout
from ..weights import HUBS_FILE, WeightsFile, download, host_answers, load_state, no_fit
from . import Adapter, imagenet1k_classes

# Trained behind a re-normalization of their own and with auxiliary classifiers, which only training uses
_WITH_AUXILIARIES = ("googlenet", "inception_v3")


def _weights_enum(architecture):
    import torchvision.models

    return torchvision.models.get_model_weights(architecture)


def _weights_of(model_name):
    """The weights entry of a name; the library's default without a tag."""
    architecture, _, tag = model_name.partition(".")
    weights = _weights_enum(architecture)
    return weights[tag] if tag else weights.DEFAULT


class TorchvisionAdapter(Adapter):
    library = "torchvision"
    order = 10

    def names(self) -> list[str]:
        import torchvision.models

        return torchvision.models.list_models(module=torchvision.models)

    def owns(self, model_name: str) -> bool:
        architecture, _, tag = model_name.partition(".")
        return architecture in self.names() and (not tag or tag in _weights_enum(architecture).__members__)

    def spec(self, model_name: str) -> BackboneSpec:
        architecture = model_name.partition(".")[0]
        weights = _weights_of(model_name)
        preset = weights.transforms()
        return BackboneSpec(
            name=f"{self.library}:{architecture}.{weights.name}",
            kind="vit" if architecture.startswith("vit_") else "cnn",
            input_size=preset.crop_size[0],
            mean=tuple(getattr(preset, "mean", IMAGENET_MEAN)),
            std=tuple(getattr(preset, "std", IMAGENET_STD)),
            num_source_classes=len(weights.meta["categories"]),
            tokens=architecture.startswith("vit_"),
        )

    def source_classes(self, spec: BackboneSpec) -> list[str]:
        return imagenet1k_classes()

    def build(self, spec: BackboneSpec, pretrained: bool, weights: WeightsFile | None, verbose: bool) -> nn.Module:
        import torchvision.models

        architecture = spec.model_name.partition(".")[0]
        entry = _weights_of(spec.model_name)
        arguments = {"num_classes": spec.num_source_classes}
        if spec.kind == "vit":
            patch_size = int(architecture.rpartition("_")[2])
            if spec.input_size % patch_size:
                raise ConfigError(
                    f"INPUT.SIZE is {spec.input_size}, expected a multiple of {patch_size}, the patch of backbone '{spec.name}'"
                )
            arguments["image_size"] = spec.input_size
        elif architecture == "maxvit_t":
            if spec.input_size % 224:
                raise ConfigError(f"INPUT.SIZE is {spec.input_size}, expected a multiple of 224 for backbone '{spec.name}'")
            arguments["input_size"] = (spec.input_size, spec.input_size)
        elif architecture in _WITH_AUXILIARIES:
            arguments |= {"transform_input": True, "init_weights": not (weights or pretrained)}
        model = torchvision.models.get_model(architecture, weights=None, **arguments)
        if weights or pretrained:
            state = weights.read(model) if weights else self._from_hub(spec, entry, verbose)
            if architecture.startswith("densenet"):  # the hub's files have the names of an older version
                old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
                state = {old.sub(r"\1\2.", name): tensor for name, tensor in state.items()}
            if spec.kind == "vit" and "encoder.pos_embedding" in state:
                resize = torchvision.models.vision_transformer.interpolate_embeddings
                try:
                    state = resize(spec.input_size, patch_size, state)
                except Exception as error:  # it expects this model's tensors and trips over others'
                    raise no_fit(spec.name, weights or HUBS_FILE, error) from error
            load_state(model, state, spec.name, weights or HUBS_FILE)
        if architecture in _WITH_AUXILIARIES:
            model.aux_logits = False
            for name in ("aux1", "aux2", "AuxLogits"):
                if hasattr(model, name):
                    setattr(model, name, None)
        return model

    def _from_hub(self, spec, entry, verbose):
        put_at = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
        with download(spec.name, entry.url, put_at):
            if not put_at.is_file() and not host_answers(entry.url):
                raise ConnectionError("its host does not answer")
            return entry.get_state_dict(progress=verbose, check_hash=True, map_location="cpu", weights_only=True)

    def classifier(self, model: nn.Module) -> nn.Linear | nn.Conv2d:
        """The layer that gives the logits: the last linear one, or SqueezeNet's last convolution."""
        layers = list(model.modules())
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        return linear[-1] if linear else [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1]

    def features(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        seen = []
        handle = self.classifier(model).register_forward_pre_hook(partial(_keep_input, seen))
        try:
            model(x)
        finally:
            handle.remove()
        features = seen[0]  # (B, D), SqueezeNet (B, D, h, w)
        return features.mean(dim=(2, 3)) if features.dim() == 4 else features

    def num_features(self, model: nn.Module) -> int:
        classifier = self.classifier(model)
        return classifier.in_features if isinstance(classifier, nn.Linear) else classifier.in_channels

    def tokens(self, model: nn.Module) -> TokenLayout:
        blocks = list(model.encoder.layers)
        return TokenLayout(blocks, model.hidden_dim, model.patch_size, prefix=1, entry=blocks[0])


def _keep_input(seen, layer, arguments):
    seen.append(arguments[0])


ADAPTER = TorchvisionAdapter()
