"""Models of open_clip, named `architecture[.tag]`, as in `ViT-B-16-quickgelu.openai`.

OpenAI's weights go with the architectures called quickgelu; with the others they load and are slightly wrong.
"""

import contextlib
import logging
import re
from collections.abc import Callable

import torch
from torch import nn

from ...utils.errors import ConfigError
from ..base import BackboneSpec, TokenLayout
from ..clip import ClipBackbone
from ..weights import WeightsFile, download, first_line, host_answers, load_state, no_fit
from . import Adapter

# Entries of OpenAI's state dicts that are settings, not weights
_SETTINGS = ("input_resolution", "context_length", "vocab_size")


class OpenClipAdapter(Adapter):
    library = "open_clip"
    order = 40

    def names(self) -> list[str]:
        import open_clip

        return open_clip.list_models()

    def owns(self, model_name: str) -> bool:
        import open_clip

        architecture, _, tag = model_name.partition(".")
        return architecture in open_clip.list_models() and (not tag or open_clip.get_pretrained_cfg(architecture, tag) != {})

    def spec(self, model_name: str) -> BackboneSpec:
        import open_clip

        architecture, _, tag = model_name.partition(".")
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        quick = open_clip.get_model_config(architecture).get("quick_gelu", False)
        if not tag and tags:  # the first that the architecture is right for
            fitting = [t for t in tags if open_clip.get_pretrained_cfg(architecture, t).get("quick_gelu", False) == quick]
            tag = (fitting or tags)[0]
        facts = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
        if facts and facts.get("quick_gelu", False) and not quick:
            raise ConfigError(
                f"backbone '{architecture}.{tag}': these weights need quick-GELU; take '{architecture}-quickgelu.{tag}'"
            )
        return self.spec_of(f"{architecture}.{tag}" if tag else architecture, open_clip.get_model_config(architecture), facts)

    def spec_of(self, model_name: str, config: dict, facts: dict) -> BackboneSpec:
        """The spec of a model with open_clip's `config` and the facts of its weights (mean, std)."""
        from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        vision = config["vision_cfg"]
        size = vision.get("image_size", 224)
        own_transformer = isinstance(vision.get("layers", 12), int) and not vision.get("timm_model_name")
        return BackboneSpec(
            name=f"{self.library}:{model_name}",
            kind="clip",
            input_size=size if isinstance(size, int) else size[0],
            mean=tuple(facts.get("mean", OPENAI_DATASET_MEAN)),
            std=tuple(facts.get("std", OPENAI_DATASET_STD)),
            num_source_classes=0,
            tokens=own_transformer,
            text_tokens=_takes_context(config["text_cfg"]),
        )

    def source_classes(self, spec: BackboneSpec) -> list[str]:
        return []

    def build(self, spec: BackboneSpec, pretrained: bool, weights: WeightsFile | None, verbose: bool) -> nn.Module:
        from open_clip.convert import convert_state_dict
        from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

        architecture, _, tag = spec.model_name.partition(".")
        model = self.create(spec, architecture)
        if weights or pretrained:
            file = weights or WeightsFile(self._from_hub(spec, architecture, tag))
            state = {name: tensor for name, tensor in file.read(model).items() if name not in _SETTINGS}
            try:
                state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
                # The library's own conversion: other layouts of the same model, position embeddings of another size
                state = convert_state_dict(model, state)
                if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
                    state = convert_to_custom_text_state_dict(state)
                resize_pos_embed(state, model)
                resize_text_pos_embed(state, model)
            except Exception as error:  # it expects this model's tensors and trips over others'
                raise no_fit(spec.name, file, error) from error
            for name in ("logit_scale", "logit_bias"):
                if name in state and getattr(model, name, None) is not None:
                    state[name] = state[name].reshape(getattr(model, name).shape)
            load_state(model, state, spec.name, file)
        return model

    def create(self, spec: BackboneSpec, architecture: str) -> nn.Module:
        """The module for `spec.input_size` with random weights."""
        import open_clip

        native = self.spec(spec.model_name).input_size
        arguments = {"device": torch.get_default_device()}
        if spec.input_size != native:
            arguments["force_image_size"] = spec.input_size
        patch = open_clip.get_model_config(architecture)["vision_cfg"].get("patch_size")
        if spec.tokens and patch and spec.input_size % patch:
            raise ConfigError(
                f"INPUT.SIZE is {spec.input_size}, expected a multiple of {patch}, the patch of backbone '{spec.name}'"
            )
        with _quiet(), _needs_of_hugging_face(spec):
            return open_clip.create_model(architecture, pretrained=None, load_weights=False, pretrained_text=False, **arguments)

    def _from_hub(self, spec, architecture, tag):
        from open_clip.pretrained import download_pretrained, get_pretrained_cfg

        if not tag:
            raise ConfigError(
                f"open_clip publishes no weights for backbone '{spec.name}'; choose another one, or name a local file with"
                " MODEL.BACKBONE.WEIGHTS, or use random weights with MODEL.BACKBONE.PRETRAINED False"
            )
        facts = get_pretrained_cfg(architecture, tag)
        hub = re.sub(r"/$", "", facts.get("hf_hub") or "")
        url = f"https://huggingface.co/{hub}" if hub else facts.get("url", "")
        with download(spec.name, url, "a file of your own, named with MODEL.BACKBONE.WEIGHTS"):
            if not host_answers(url):
                raise ConnectionError("its host does not answer")
            return download_pretrained(facts)

    def wrap(self, model: nn.Module, spec: BackboneSpec, **kwargs) -> ClipBackbone:
        return ClipBackbone(model, spec, self, self.source_classes(spec), **kwargs)

    def tokenizer(self, spec: BackboneSpec) -> Callable[[list[str]], torch.Tensor]:
        import open_clip

        with _quiet(), _needs_of_hugging_face(spec):
            return open_clip.get_tokenizer(spec.model_name.partition(".")[0])

    # ------------------------------------------------------------------------------------------------ image tower
    def features(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return model.encode_image(x)

    def num_features(self, model: nn.Module) -> int | None:
        projection = getattr(model, "text_projection", None)
        if projection is not None and not isinstance(projection, nn.Linear):
            return projection.shape[1]
        # timm's image towers do not say; the text tower has the same
        return next((part.output_dim for part in (model.visual, getattr(model, "text", None)) if hasattr(part, "output_dim")), None)

    def tokens(self, model: nn.Module) -> TokenLayout:
        visual = model.visual
        blocks = list(visual.transformer.resblocks)
        return TokenLayout(blocks, visual.transformer.width, visual.patch_size[0], prefix=1, entry=visual.ln_pre)

    # ------------------------------------------------------------------------------------------------- text tower
    def text_tower(self, model: nn.Module) -> nn.Module | None:
        """What holds the parts of the text tower, if it is CLIP's: each token looks back only, the end of the text is read."""
        tower = getattr(model, "text", model)
        fits = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
        return tower if fits and _pooling(tower)[0] in ("argmax", "eos") else None

    def encode_text(self, model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """(N, L) token numbers -> (N, D). Positions behind the last end of a text are left out where nothing looks at them."""
        tower = self.text_tower(model)
        if tower is None:
            return model.encode_text(tokens)
        tokens = tokens[:, : self.text_length(model, tokens)]
        return self.encode_embeddings(model, tower, tower.token_embedding(tokens), tokens)

    def text_length(self, model: nn.Module, tokens: torch.Tensor) -> int:
        """Tokens up to the end of the longest of (N, L) texts."""
        kind, end = _pooling(self.text_tower(model))
        ends = tokens.argmax(dim=1) if kind == "argmax" else (tokens == end).int().argmax(dim=1)
        return int(ends.max()) + 1

    def encode_embeddings(self, model: nn.Module, tower: nn.Module, embeddings: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(N, L', W) embeddings of (N, L') tokens -> (N, D)"""
        from open_clip.transformer import text_global_pool

        length = embeddings.shape[1]
        x = embeddings + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        x = text_global_pool(tower.ln_final(x), tokens, *_pooling(tower))
        projection = tower.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Module) else x @ projection


@contextlib.contextmanager
def _quiet():
    """Without the library's warning that the weights are random: they are loaded next, or meant to be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _needs_of_hugging_face(spec):
    """Around what may need the package transformers and files of the hub: text towers and tokenizers of others than CLIP."""
    try:
        yield
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"open_clip cannot build backbone '{spec.name}' or its tokenizer ({first_line(error)}); those with a text tower or"
            " tokenizer of Hugging Face's need `pip install transformers` and its files; clip_vit_b16 and the like do not"
        ) from error


def _takes_context(text):
    """`text_tower`'s answer, from the `text_cfg` of a model's configuration."""
    others = ("hf_model_name", "no_causal_mask", "embed_cls")
    return not any(text.get(key) for key in others) and text.get("pool_type", "argmax") in ("argmax", "eos")


def _pooling(tower):
    """(kind, end token) of open_clip's `text_global_pool`."""
    if hasattr(tower, "text_pool_type"):
        return tower.text_pool_type, getattr(tower, "text_eos_id", None)
    return getattr(tower, "pool_type", None), getattr(tower, "eos_id", None)


ADAPTER = OpenClipAdapter()
