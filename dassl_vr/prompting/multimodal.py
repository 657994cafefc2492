"""What is learned in both towers of a CLIP: coupled prompts, independent ones averaged over epochs, or low-rank updates."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn import functional as F

from .lora import LowRankUpdates
from .text import ContextPrompts, Sentences, TextPromptedClassifier
from .tokens import VisualTokens, inserted_tokens, replaced_tokens


class DeepPromptedClassifier(TextPromptedClassifier):
    """Scaled cosines between features of an image and of a sentence per class, with tokens in the first blocks of both towers.

    A subclass says which tokens, by `deep_text_tokens` and `visual_tokens`, and which of the first block, by `sentences`.
    """

    changes_images = True

    def deep_text_tokens(self) -> Sequence[torch.Tensor]:
        """(M, text width) of each block of the text tower that has tokens, from the second on."""
        raise NotImplementedError

    def visual_tokens(self) -> Sequence[torch.Tensor]:
        """(V, image width) of each block of the image tower that has tokens."""
        raise NotImplementedError

    def inside_text(self) -> AbstractContextManager[None]:
        return replaced_tokens(self.backbone.text_blocks, dict(enumerate(self.deep_text_tokens(), start=1)), start=1)

    def image_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) of unit length."""
        with inserted_tokens(self.backbone.tokens, self.visual_tokens()):
            return F.normalize(self.backbone.features(x), dim=-1)


def _deep_text(backbone, count, depth):
    """(depth - 1, count, text width) parameter from N(0, 0.02): text tokens of the blocks behind the first."""
    return nn.Parameter(torch.empty(depth - 1, count, backbone.text_width).normal_(std=0.02))


class MultimodalClassifier(DeepPromptedClassifier):
    """MaPLe: text tokens in the first `depth` blocks of the text tower; projected, they are visual tokens in the same
    blocks of the image tower ("Multi-modal Prompt Learning", Khattak et al. 2023, section 3.2).

    Args:
        backbone: a `ClipBackbone`.
        prompts: `ContextPrompts` with a common context: the tokens of the first block.
        depth: blocks with prompts, 1 up to the blocks of the shorter tower.

    Attributes:
        deep_text: (depth - 1, M, text width) parameter, the tokens of the further blocks.
        couplings: one linear layer a block, text width -> image width.

    Raises:
        ValueError: `depth` is not one of these.
    """

    def __init__(self, backbone: nn.Module, prompts: ContextPrompts, depth: int = 9):
        super().__init__(backbone, prompts)
        most = min(len(backbone.text_blocks), len(backbone.tokens.blocks))
        if not 1 <= depth <= most:
            raise ValueError(f"prompts in {depth} blocks, expected 1 to {most}, the blocks of the backbone's shorter tower")
        self.deep_text = _deep_text(backbone, prompts.count, depth)
        self.couplings = nn.ModuleList(nn.Linear(backbone.text_width, backbone.tokens.width) for _ in range(depth))

    def deep_text_tokens(self) -> Sequence[torch.Tensor]:
        return self.deep_text

    def visual_tokens(self) -> Sequence[torch.Tensor]:
        return [coupling(tokens) for coupling, tokens in zip(self.couplings, [self.prompts.context, *self.deep_text])]


class AveragedTokens(nn.Module):
    """Learned tensors, each with its average over the epochs so far, which takes its place outside of training.

    Args:
        learned: {name: parameter}.

    Attributes:
        mean_<name>: buffer of the parameter's shape, its start until the first `average`.
    """

    def __init__(self, **learned: nn.Parameter):
        super().__init__()
        for name, parameter in learned.items():
            self.register_parameter(name, parameter)
            self.register_buffer(f"mean_{name}", parameter.detach().clone())

    def now(self, name: str) -> torch.Tensor:
        """The learned tensor in training, else the average."""
        return getattr(self, name if self.training else f"mean_{name}")

    @torch.no_grad()
    def average(self, share: float) -> None:
        """Take the learned tensors into the averages, where they count `share` from now on, 0 to 1."""
        for name, parameter in self.named_parameters():
            getattr(self, f"mean_{name}").lerp_(parameter, share)


class IndependentClassifier(DeepPromptedClassifier):
    """PromptSRC: text tokens in the first blocks of the text tower and, apart from them, visual tokens in those of the image tower;
    both are averaged over the epochs ("Self-regulating Prompts", Khattak et al. 2023, section 3).

    Args:
        backbone: a `ClipBackbone`.
        prompts: `ContextPrompts` with a common context: the text tokens of the first block.
        count: visual tokens V a block.
        text_depth: blocks of the text tower with tokens, 1 or more.
        visual_depth: blocks of the image tower with tokens, 1 or more.

    Attributes:
        learned: `AveragedTokens` context (M, text width), deep_text (text_depth - 1, M, text width) and visual (visual_depth, V,
            image width).

    Raises:
        ValueError: a tower has fewer blocks, or `count` is below 0.
    """

    def __init__(
        self,
        backbone: nn.Module,
        prompts: ContextPrompts,
        count: int = 4,
        text_depth: int = 9,
        visual_depth: int = 9,
    ):
        super().__init__(backbone, prompts)
        most = len(backbone.text_blocks)
        if not 1 <= text_depth <= most:
            raise ValueError(f"text tokens in {text_depth} blocks, expected 1 to {most}, the blocks of the text tower")
        deep_text = _deep_text(backbone, prompts.count, text_depth)
        visual = VisualTokens(backbone.tokens, count, visual_depth, init="normal").tokens
        self.learned = AveragedTokens(context=prompts.context, deep_text=deep_text, visual=visual)

    def sentences(self) -> torch.Tensor:
        return self.prompts(self.learned.now("context"))

    def deep_text_tokens(self) -> Sequence[torch.Tensor]:
        return self.learned.now("deep_text")

    def visual_tokens(self) -> Sequence[torch.Tensor]:
        return self.learned.now("visual")


class LowRankClassifier(TextPromptedClassifier):
    """CLIP-LoRA: low-rank updates of the attention in every block of both towers ("Low-Rank Few-Shot Adaptation of Vision-Language
    Models", Zanella and Ben Ayed 2024, section 4).

    Args:
        backbone: a `ClipBackbone`.
        sentences: one per class.
        rank, scale, targets, dropout: of the `LowRankUpdates` of both towers.

    Attributes:
        text, image: `LowRankUpdates`.
    """

    changes_images = True

    def __init__(
        self,
        backbone: nn.Module,
        sentences: Sequence[str],
        rank: int = 2,
        scale: float = 2**-0.5,
        targets: str = "qkv",
        dropout: float = 0.0,
    ):
        super().__init__(backbone, Sentences(backbone, sentences))
        self.text = LowRankUpdates(backbone.text_blocks, rank, scale, targets, dropout)
        self.image = LowRankUpdates(backbone.tokens.blocks, rank, scale, targets, dropout)

    def inside_text(self) -> AbstractContextManager[None]:
        return self.text.inside_blocks(self.backbone.text_blocks)

    def image_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) of unit length."""
        with self.image.inside(self.backbone.tokens):
            return self.backbone.image_features(x)
