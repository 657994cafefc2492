"""Models of timm, named `architecture[.tag]`, as in `vit_base_patch32_384.augreg_in21k_ft_in1k`."""

import contextlib
import re
import sys
from collections.abc import Sequence

import torch
from torch import nn

from ...utils.errors import ConfigError
from ..base import BackboneSpec, TokenLayout
from ..weights import WeightsFile, download, first_line, host_answers, load_state, no_fit
from . import Adapter, imagenet1k_classes

# timm's files of plain vision transformers: one sequence of patch tokens runs through all blocks
_VIT_FILES = ("vision_transformer", "vision_transformer_hybrid", "deit")


def _is_width(num_classes):
    """Whether outputs are an embedding's, as of CLIPs' image towers: a multiple of 64 in number, of no known set of classes."""
    from timm.data import infer_imagenet_subset

    return num_classes % 64 == 0 and num_classes > 0 and not infer_imagenet_subset({"num_classes": num_classes})


class TimmAdapter(Adapter):
    library = "timm"
    order = 20

    def names(self) -> list[str]:
        import timm

        return timm.list_models()

    def owns(self, model_name: str) -> bool:
        import timm

        architecture, _, tag = model_name.partition(".")
        return timm.is_model(architecture) and (not tag or tag in self._tags(architecture))

    def _tags(self, architecture):
        import timm

        return [name.partition(".")[2] for name in timm.models.get_arch_pretrained_cfgs(architecture)]

    def _facts(self, model_name):
        import timm

        facts = timm.models.get_pretrained_cfg(model_name)
        if facts is None:
            raise ConfigError(f"timm records neither size nor classes of backbone '{model_name}'; choose another one")
        return facts

    def spec(self, model_name: str) -> BackboneSpec:
        import timm

        facts = self._facts(model_name)
        architecture = model_name.partition(".")[0]
        file = timm.models.model_entrypoint(architecture).__module__.rpartition(".")[2]
        return BackboneSpec(
            name=f"{self.library}:{architecture}" + (f".{facts.tag}" if facts.tag else ""),
            kind="vit" if file in _VIT_FILES else "cnn",
            input_size=facts.input_size[-1],
            mean=tuple(facts.mean),
            std=tuple(facts.std),
            num_source_classes=0 if _is_width(facts.num_classes) else facts.num_classes,
            tokens=file in _VIT_FILES,
        )

    def source_classes(self, spec: BackboneSpec) -> list[str]:
        from timm.data import ImageNetInfo, infer_imagenet_subset

        if spec.num_source_classes == 1000:
            return imagenet1k_classes()
        subset = infer_imagenet_subset({"num_classes": spec.num_source_classes})
        if subset:
            return ImageNetInfo(subset).label_descriptions()
        return [f"class {i}" for i in range(spec.num_source_classes)]

    def build(self, spec: BackboneSpec, pretrained: bool, weights: WeightsFile | None, verbose: bool) -> nn.Module:

        facts = self._facts(spec.model_name)
        arguments = {}
        if spec.input_size != facts.input_size[-1] and (facts.fixed_input_size or spec.kind == "vit"):
            arguments["img_size"] = spec.input_size  # the other models take images of any size as they are
        if pretrained and not weights:
            return self._from_hub(spec, facts, arguments)
        model = self._create(spec, arguments)
        if weights:
            self._load(model, spec, weights)
        self._check_patches(model, spec)
        return model

    def _load(self, model, spec, weights):
        """Copy the tensors of a file into `model`, under whatever names and at whatever size of image they were written."""
        state = weights.read(model)
        if spec.kind == "vit" and "transformer.blocks.0.attn.proj_q.weight" in state:
            state = from_pytorch_pretrained_vit(state)
        # The library's own conversion of a model's file: older names, position embeddings of another size
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        try:
            state = convert(state, model) if convert else state
        except Exception as error:  # it expects this model's tensors and trips over others'
            raise no_fit(spec.name, weights, error) from error
        load_state(model, state, spec.name, weights)

    def _create(self, spec, arguments):
        import timm

        try:
            return timm.create_model(spec.model_name, pretrained=False, **arguments)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            if not arguments:
                raise
            native = self._facts(spec.model_name).input_size[-1]
            raise ConfigError(
                f"backbone '{spec.name}' cannot be built for INPUT.SIZE {spec.input_size} ({first_line(error)}); its "
                f"own size is {native}"
            ) from error

    def _check_patches(self, model, spec):
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
        if spec.kind == "vit" and patch and spec.input_size % patch[0]:
            raise ConfigError(
                f"INPUT.SIZE is {spec.input_size}, expected a multiple of {patch[0]}, the patch of backbone '{spec.name}'"
            )

    def _from_hub(self, spec, facts, arguments):
        import timm

        if not facts.has_weights:
            raise ConfigError(
                f"timm publishes no weights for backbone '{spec.name}'; choose another one, or name a local file with "
                "MODEL.BACKBONE.WEIGHTS, or use random weights with MODEL.BACKBONE.PRETRAINED False"
            )
        if arguments:  # is the size possible? then what fails below is the download
            self._check_patches(self._create(spec, arguments), spec)
        from huggingface_hub import constants

        url = f"{constants.ENDPOINT}/{facts.hf_hub_id}" if facts.hf_hub_id else facts.url
        put_at = torch.hub.get_dir()
        if facts.hf_hub_id:
            put_at = f"{constants.HF_HUB_CACHE} (`hf download {facts.hf_hub_id}` does both)"
        online = host_answers(url)
        with download(spec.name, url, put_at), _offline_unless(online):
            try:
                return timm.create_model(spec.model_name, pretrained=True, **arguments)
            except OSError as error:
                raise error if online else ConnectionError("its host does not answer") from error

    def features(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return model.forward_head(model.forward_features(x), pre_logits=True)

    def classifier(self, model: nn.Module) -> nn.Module | Sequence[nn.Module] | None:
        return model.get_classifier()

    def num_features(self, model: nn.Module) -> int:
        return getattr(model, "head_hidden_size", None) or model.num_features

    def tokens(self, model: nn.Module) -> TokenLayout:
        patch_size = model.patch_embed.patch_size[0]
        return TokenLayout(list(model.blocks), model.embed_dim, patch_size, model.num_prefix_tokens, model.norm_pre)


def from_pytorch_pretrained_vit(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a `pytorch_pretrained_vit` file, such as the paper's `B_32_imagenet1k.pth`, under timm's names."""
    renames = (
        (r"^class_token$", "cls_token"),
        (r"^positional_embedding\.pos_embedding$", "pos_embed"),
        (r"^patch_embedding\.", "patch_embed.proj."),
        (r"^fc\.", "head."),
        (r"^transformer\.blocks\.(\d+)\.pwff\.", r"blocks.\1.mlp."),
        (r"^transformer\.blocks\.(\d+)\.proj\.", r"blocks.\1.attn.proj."),
        (r"^transformer\.blocks\.", "blocks."),
    )
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    # One matrix for query, key and value
    for name in [name for name in renamed if ".attn.proj_q." in name]:
        parts = [renamed.pop(name.replace("proj_q", f"proj_{part}"), None) for part in "qkv"]
        if all(part is not None for part in parts):
            renamed[name.replace("proj_q", "qkv")] = torch.cat(parts)
    return renamed


@contextlib.contextmanager
def _offline_unless(online):
    """Without a network the hub's client retries for most of a minute; in its offline mode it looks at its cache."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not online
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


ADAPTER = TimmAdapter()
