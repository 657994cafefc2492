"""Learned context in front of a text tower: CoOp's prompts, and classifiers made of them."""

import contextlib
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..backbones import clip
from .templates import fill_in

PLACEHOLDER = "X"  # one token in every vocabulary; its embedding is replaced
POSITIONS = ("end", "middle", "front")


class ContextPrompts(nn.Module):
    """Sentences about classes in which learned vectors stand for words ("Learning to Prompt for Vision-Language Models", Zhou et
    al. 2022, section 3).

    Args:
        backbone: a `ClipBackbone`.
        classnames: K names; underscores are read as spaces.
        count: number M of context vectors; None = one for each token of `init`.
        init: words to start from, such as "a photo of a"; those beyond the first M tokens stay words. "" = N(0, 0.02).
        class_specific: a context of its own for each class.
        position: where the name is: at the "end" of the context, in its "middle", or at the "front".

    Attributes:
        context: (M, width) parameter, or (K, M, width) if class-specific.
        tokens: (K, L) token numbers, which say where the sentences end; L is as long as the longest needs.

    Raises:
        ValueError: another position, fewer than one context vector, another number than the words of `init` allow, or sentences
            that are too long for the text tower.
    """

    def __init__(
        self,
        backbone: clip.ClipBackbone,
        classnames: Sequence[str],
        count: int | None = None,
        init: str = "",
        class_specific: bool = False,
        position: str = "end",
    ):
        super().__init__()
        if position not in POSITIONS:
            raise ValueError(f"the name's position is '{position}', expected one of {', '.join(POSITIONS)}")
        init = init.replace("_", " ")
        words = self._length(backbone, init) if init else 0
        count = words if count is None else count
        if count < 1:
            raise ValueError(f"{count} context vectors, expected 1 or more")
        if init and (count > words or (count < words and position != "end")):
            raise ValueError(
                f"{count} context vectors, but '{init}' is {words} tokens; expected {words}" + (" or fewer" * (position == "end"))
            )
        names = [fill_in("{}", name) for name in classnames]
        self.name_lengths = [self._length(backbone, name) for name in names]
        context = init or " ".join([PLACEHOLDER] * count)
        tokens = backbone.tokenize([f"{context} {name}." for name in names])
        room = tokens.shape[1] - 3  # the start, the full stop and the end need one each
        if max(self.name_lengths) + max(count, words) > room:
            longest = names[self.name_lengths.index(max(self.name_lengths))]
            raise ValueError(
                f"{max(count, words)} tokens of context and '{longest[:40]}' of {max(self.name_lengths)}, but the text tower takes"
                f" {room} in all; take fewer context vectors or shorter names"
            )
        tokens = tokens[:, : backbone.text_length(tokens)]
        self.position = position
        self.count = count
        self.register_buffer("tokens", tokens, persistent=False)  # they follow from the arguments
        with torch.no_grad():
            self.register_buffer(
                "embeddings", backbone.token_embeddings(tokens).detach().clone(), persistent=False
            )  # (K, L, width)
            if init:
                start = backbone.token_embeddings(backbone.tokenize([init]))[0, 1 : 1 + count].detach().clone()
            else:
                start = torch.empty(count, self.embeddings.shape[2], device=tokens.device).normal_(std=0.02)
            if class_specific:
                start = (
                    start.expand(len(names), -1, -1).clone()
                    if init
                    else start.new_empty(len(names), *start.shape).normal_(std=0.02)
                )
        self.context = nn.Parameter(start)

    @staticmethod
    def _length(backbone, text):
        """Tokens of a text, without those of start and end."""
        return backbone.text_length(backbone.tokenize([text])) - 2

    def forward(self, context: torch.Tensor | None = None) -> torch.Tensor:
        """The embedded sentences, (K, L, width).

        Args:
            context: in place of the learned one: (M, width) or (K, M, width); or (B, 1, M, width) for B times the sentences,
                (B, K, L, width), where the name is at the end.
        """
        context = self.context if context is None else context
        if context.dim() == 4:
            start, rest = self.embeddings[:, :1], self.embeddings[:, 1 + self.count :]
            batch, classes = context.shape[0], len(self.tokens)
            parts = (start.expand(batch, -1, -1, -1), context.expand(-1, classes, -1, -1), rest.expand(batch, -1, -1, -1))
            return torch.cat(parts, dim=2)
        if context.dim() == 2:
            context = context.expand(len(self.tokens), -1, -1)
        before = self.embeddings[:, :1]  # the start token
        after = self.embeddings[:, 1 + self.count :]  # name, full stop, end
        if self.position == "end":
            return torch.cat([before, context, after], dim=1)
        half = self.count // 2 if self.position == "middle" else 0
        sentences = [
            torch.cat([start, own[:half], rest[:length], own[half:], rest[length:]])
            for start, own, rest, length in zip(before, context, after, self.name_lengths)
        ]
        return torch.stack(sentences)


class Sentences(nn.Module):
    """Sentences with nothing learned in them, in the place of `ContextPrompts`: for what is learned in a text tower's blocks.

    Args:
        backbone: a `ClipBackbone`.
        sentences: K sentences.

    Attributes:
        tokens: (K, L) token numbers, which say where the sentences end; L is as long as the longest needs.
    """

    def __init__(self, backbone: clip.ClipBackbone, sentences: Sequence[str]):
        super().__init__()
        tokens = backbone.tokenize(sentences)
        tokens = tokens[:, : backbone.text_length(tokens)]
        self.register_buffer("tokens", tokens, persistent=False)
        with torch.no_grad():
            self.register_buffer("embeddings", backbone.token_embeddings(tokens).detach().clone(), persistent=False)

    def forward(self) -> torch.Tensor:
        """The embedded sentences, (K, L, width)."""
        return self.embeddings


class TextPromptedClassifier(nn.Module):
    """Scaled cosines between the image's features and those of one prompted sentence per class.

    Args:
        backbone: a frozen `ClipBackbone`.
        prompts: `ContextPrompts`, or `Sentences`.

    Attributes:
        changes_images: something is learned in the image tower as well.
    """

    changes_images = False

    def __init__(self, backbone: clip.ClipBackbone, prompts: ContextPrompts | Sentences):
        super().__init__()
        self.backbone = backbone
        self.prompts = prompts
        self._known = None  # (state of all but the backbone, text features) of the last pass without gradient

    def inside_text(self) -> contextlib.AbstractContextManager[None]:
        """A context for the pass through the text tower, for methods that do something in its blocks."""
        return contextlib.nullcontext()

    def sentences(self) -> torch.Tensor:
        """The embedded sentences with their prompts, (K, L, width)."""
        return self.prompts()

    def text_features(self) -> torch.Tensor:
        """(K, D) of unit length; without gradient they are recomputed only when the prompts have changed."""
        if torch.is_grad_enabled():
            return self._text_features()
        if self._known is None or not (torch.compiler.is_exporting() or self._known[0] == self._state()):
            self._known = self._state(), self._text_features()
        return self._known[1]

    def _text_features(self):
        return self.backbone.prompted_text_features(self.sentences(), self.prompts.tokens, self.inside_text)

    def _state(self):
        """What changes when a tensor is updated, loaded, replaced or moved, or the mode is another one."""
        parts = [module for name, module in self.named_children() if name != "backbone"]
        own = [*self._parameters.values(), *(tensor for part in parts for tensor in (*part.parameters(), *part.buffers()))]
        return [part.training for part in parts], [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in own]

    def classify(self, image_features: torch.Tensor) -> torch.Tensor:
        """(B, D) features of unit length -> (B, K) logits."""
        return self.backbone.scale * image_features @ self.text_features().T

    def image_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) of unit length."""
        return self.backbone.image_features(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, K) logits."""
        return self.classify(self.image_features(x))


class ConditionalClassifier(TextPromptedClassifier):
    """CoCoOp: a small net shifts the context by what is in the image ("Conditional Prompt Learning for Vision-Language Models",
    Zhou et al. 2022, section 3.2).

    Attributes:
        meta_net: (B, D) -> (B, width).
    """

    def __init__(self, backbone: clip.ClipBackbone, prompts: ContextPrompts):
        super().__init__(backbone, prompts)
        width = backbone.out_features
        self.meta_net = nn.Sequential(
            nn.Linear(width, max(1, width // 16)), nn.ReLU(inplace=True), nn.Linear(max(1, width // 16), backbone.text_width)
        )

    def classify(self, image_features: torch.Tensor) -> torch.Tensor:
        shifts = self.meta_net(image_features)[:, None]  # (B, 1, width)
        together = max(1, clip.CHUNK // len(self.prompts.tokens))  # images whose sentences are kept for the backward pass
        if torch.compiler.is_exporting() or len(shifts) <= together:  # a traced graph takes any number
            text = self._shifted_text_features(shifts)
        elif torch.is_grad_enabled():
            parts = shifts.split(together)
            text = torch.cat([checkpoint(self._shifted_text_features, part, use_reentrant=False) for part in parts])
        else:
            text = torch.cat([self._shifted_text_features(part) for part in shifts.split(together)])
        return self.backbone.scale * torch.einsum("bd,bkd->bk", image_features, text)

    def _shifted_text_features(self, shifts):
        """(B, 1, width) -> (B, K, D) of unit length"""
        batch, classes = shifts.shape[0], len(self.prompts.tokens)  # not len(), which fixes the batch of a traced graph
        context = self.prompts.context + shifts  # (B, M, width)
        embeddings = self.prompts(context[:, None]).flatten(0, 1)  # (B K, L, width)
        tokens = self.prompts.tokens.repeat(batch, 1)
        return self.backbone.prompted_text_features(embeddings, tokens).view(batch, classes, -1)


class FixedClassifier(nn.Module):
    """Zero-shot classification: scaled cosines with the features of fixed sentences, averaged over templates (Radford et al. 2021).

    Args:
        sentences: K lists of sentences, one list per class.
    """

    def __init__(self, backbone: clip.ClipBackbone, sentences: Sequence[Sequence[str]]):
        super().__init__()
        self.backbone = backbone
        features = backbone.text_features([sentence for of_class in sentences for sentence in of_class])
        features = [of_class.mean(dim=0) for of_class in features.split([len(of_class) for of_class in sentences])]
        self.register_buffer("text_features", F.normalize(torch.stack(features), dim=-1), persistent=False)  # (K, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, K) logits."""
        return self.backbone.scale * self.backbone.image_features(x) @ self.text_features.T
