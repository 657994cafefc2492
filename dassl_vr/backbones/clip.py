"""The surface of a CLIP: an image tower, as of any backbone, and a text tower that takes sentences or prompted embeddings."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..utils.errors import ConfigError
from .base import FrozenBackbone

CHUNK = 256  # sentences in the text tower at a time


class ClipBackbone(FrozenBackbone):
    """A CLIP: `features` are those of the image tower, in the space that it shares with the text tower.

    It has no classes of its own; sentences about the classes make its classifier (`text_features`, `scale`).
    Its adapter also has what `OpenClipAdapter` says of the text tower, and `tokenizer(spec)`.
    """

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], torch.Tensor]:
        """The library's tokenizer: N sentences -> (N, L) int64 token numbers."""
        return self.adapter.tokenizer(self.spec)

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @property
    def scale(self) -> torch.Tensor:
        """The factor of the cosines, a number in a tensor."""
        return self.model.logit_scale.detach().exp()

    def image_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) features of unit length."""
        return F.normalize(self.features(x), dim=-1)

    # ------------------------------------------------------------------------------------------------- text tower
    def tokenize(self, sentences: Iterable[str]) -> torch.Tensor:
        """N sentences -> (N, L) int64 token numbers; L is the text tower's length, longer sentences are cut off."""
        return self.tokenizer(list(sentences)).to(self.device)

    @torch.no_grad()
    def text_features(self, sentences: Iterable[str], unit: bool = True) -> torch.Tensor:
        """N sentences -> (N, D) features, float32, without gradient; of unit length if `unit`, else as the tower gives them."""
        tokens = self.tokenize(sentences)
        with self._autocast(tokens):
            parts = [self.adapter.encode_text(self.model, part) for part in tokens.split(CHUNK)]
        features = torch.cat(parts).float()
        return F.normalize(features, dim=-1) if unit else features

    def text_length(self, tokens: torch.Tensor) -> int:
        """Tokens up to the end of the longest of (N, L) sentences: all that `prompted_text_features` needs."""
        return self.adapter.text_length(self.model, tokens)

    @property
    def text_width(self) -> int:
        """Numbers per token in the text tower."""
        return self.text_tower.token_embedding.embedding_dim

    @property
    def text_blocks(self) -> list[nn.Module]:
        """The blocks of the text tower in order; each takes and gives (N, L, text_width)."""
        return list(self.text_tower.transformer.resblocks)

    def token_embeddings(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, L) token numbers -> (N, L, text_width), before the positions are added."""
        return self.text_tower.token_embedding(tokens)

    def prompted_text_features(
        self, embeddings: torch.Tensor, tokens: torch.Tensor, inside: Callable[[], AbstractContextManager] = nullcontext
    ) -> torch.Tensor:
        """Features of sentences whose tokens are given as embeddings, with gradient.

        Args:
            embeddings: (N, L', text_width), L' up from `text_length` to the text tower's length: no token looks at a later one, so
                what comes behind the end of the text does not matter.
            tokens: (N, L) token numbers of the same sentences, which say where they end.
            inside: makes a context that is open around each pass, also when activations are computed again.

        Returns:
            (N, D) of unit length. No more than `CHUNK` sentences are kept for the backward pass at a time; the others' activations
            are computed again.
        """
        tower = self.text_tower

        def encode(part, part_tokens):
            with inside(), self._autocast(part):
                return self.adapter.encode_embeddings(self.model, tower, part, part_tokens).float()

        tokens = tokens[:, : embeddings.shape[1]]
        if torch.compiler.is_exporting() or len(embeddings) <= CHUNK:  # a traced graph takes any number
            return F.normalize(encode(embeddings, tokens), dim=-1)
        pieces = zip(embeddings.split(CHUNK), tokens.split(CHUNK))
        if torch.is_grad_enabled():
            parts = [checkpoint(encode, *piece, use_reentrant=False) for piece in pieces]
        else:
            parts = [encode(*piece) for piece in pieces]
        return F.normalize(torch.cat(parts), dim=-1)

    @property
    def text_tower(self) -> nn.Module:
        """The text transformer that takes prompt tokens, as the adapter finds it; raises `ConfigError` if there is none."""
        tower = self.adapter.text_tower(self.model)
        if tower is None:
            raise ConfigError(
                f"the text tower of backbone '{self.spec.name}' takes no prompt tokens; choose a CLIP with CLIP's own text"
                " transformer, such as clip_vit_b16"
            )
        return tower
