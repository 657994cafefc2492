"""Learned context in front of a text tower: CoOp's prompts, and classifiers made of them."""

import contextlib

import torch
from torch import nn
from torch.nn import functional as F

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
        position: where the name stands: at the "end" of the context, in its "middle", or at the "front".

    Attributes:
        context: (M, width) parameter, or (K, M, width) if class-specific.
        tokens: (K, L) token numbers, which say where the sentences end; L is as long as the longest needs.
    """

    def __init__(self, backbone, classnames, count=None, init="", class_specific=False, position="end"):
        super().__init__()
        if position not in POSITIONS:
            raise ValueError(f"the name's position is '{position}', expected one of {', '.join(POSITIONS)}")
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
        tokens = backbone.tokenize([" ".join([PLACEHOLDER] * count + [name + "."]) for name in names])
        room = tokens.shape[1] - 3  # the start, the full stop and the end need one each
        if max(self.name_lengths) + count > room:
            raise ValueError(
                f"{count} context vectors and a name of {max(self.name_lengths)} tokens, but the text tower takes {room}"
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

    def forward(self, context=None):
        """The embedded sentences, (K, L, width).

        Args:
            context: in place of the learned one: (M, width) or (K, M, width).
        """
        context = self.context if context is None else context
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


class TextPromptedClassifier(nn.Module):
    """Scaled cosines between the image's features and those of one prompted sentence a class.

    Args:
        backbone: a frozen `ClipBackbone`.
        prompts: `ContextPrompts`.
    """

    def __init__(self, backbone, prompts):
        super().__init__()
        self.backbone = backbone
        self.prompts = prompts
        self._known = None  # text features, as long as the prompts do not change

    def train(self, mode=True):
        self._known = None
        return super().train(mode)

    def inside_text(self):
        """A context for the pass through the text tower, for methods that do something in its blocks."""
        return contextlib.nullcontext()

    def text_features(self):
        """(K, D) of unit length; kept in evaluation mode, where nothing changes them."""
        if self._known is None or torch.is_grad_enabled():
            features = self.backbone.prompted_text_features(self.prompts(), self.prompts.tokens, self.inside_text)
            self._known = None if self.training or torch.is_grad_enabled() else features
            return features
        return self._known

    def classify(self, image_features):
        """(B, D) features of unit length -> (B, K) logits."""
        return self.backbone.scale * image_features @ self.text_features().T

    def forward(self, x):
        """(B, 3, S, S) normalized images -> (B, K) logits."""
        return self.classify(self.backbone.image_features(x))


class ConditionalClassifier(TextPromptedClassifier):
    """CoCoOp: a small net shifts the context by what is in the image ("Conditional Prompt Learning for Vision-Language Models",
    Zhou et al. 2022, section 3.2).

    Attributes:
        meta_net: (B, D) -> (B, width).
    """

    def __init__(self, backbone, prompts):
        super().__init__(backbone, prompts)
        width = backbone.out_features
        self.meta_net = nn.Sequential(
            nn.Linear(width, width // 16), nn.ReLU(inplace=True), nn.Linear(width // 16, backbone.text_width)
        )

    def classify(self, image_features):
        batch, classes = image_features.shape[0], len(self.prompts.tokens)  # not len(), which fixes the batch of a traced graph
        shifts = self.meta_net(image_features)[:, None]  # (B, 1, width)
        # One call for all images, so that a traced graph takes batches of any size
        embeddings = torch.vmap(lambda shift: self.prompts(self.prompts.context + shift))(shifts).flatten(0, 1)  # (B K, L, width)
        tokens = self.prompts.tokens.repeat(batch, 1)
        text = self.backbone.prompted_text_features(embeddings, tokens).view(batch, classes, -1)
        return self.backbone.scale * torch.einsum("bd,bkd->bk", image_features, text)


class FixedClassifier(nn.Module):
    """Zero-shot classification: scaled cosines with the features of fixed sentences, averaged over templates (Radford et al. 2021).

    Args:
        sentences: K lists of sentences, one list a class.
    """

    def __init__(self, backbone, sentences):
        super().__init__()
        self.backbone = backbone
        features = [backbone.text_features(of_class).mean(dim=0) for of_class in sentences]
        self.register_buffer("text_features", F.normalize(torch.stack(features), dim=-1), persistent=False)  # (K, D)

    def forward(self, x):
        """(B, 3, S, S) normalized images -> (B, K) logits."""
        return self.backbone.scale * self.backbone.image_features(x) @ self.text_features.T
