"""What is learned in both towers of a CLIP: coupled prompts, or low-rank updates."""

from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn import functional as F

from .lora import LowRankUpdates
from .text import Sentences, TextPromptedClassifier
from .tokens import inserted_tokens, replaced_tokens


class MultimodalClassifier(TextPromptedClassifier):
    """MaPLe: text tokens in the first `depth` blocks of the text tower; projected, they are visual tokens in the same
    blocks of the image tower ("Multi-modal Prompt Learning", Khattak et al. 2023, section 3.2).

    Args:
        prompts: `ContextPrompts` with a common context: the tokens of the first block.
        depth: blocks with prompts, 1 up to the blocks of the shorter tower.

    Attributes:
        deep_text: (depth - 1, M, text width) parameter, the tokens of the further blocks.
        couplings: one linear layer a block, text width -> image width.
    """

    changes_images = True

    def __init__(self, backbone, prompts, depth=9):
        super().__init__(backbone, prompts)
        most = min(len(backbone.text_blocks), len(backbone.tokens.blocks))
        if not 1 <= depth <= most:
            raise ValueError(f"prompts in {depth} blocks, expected 1 to {most}, the blocks of the backbone's shorter tower")
        self.deep_text = nn.Parameter(torch.empty(depth - 1, prompts.count, backbone.text_width).normal_(std=0.02))
        self.couplings = nn.ModuleList(nn.Linear(backbone.text_width, backbone.tokens.width) for _ in range(depth))

    def inside_text(self) -> AbstractContextManager[None]:
        return replaced_tokens(self.backbone.text_blocks, dict(enumerate(self.deep_text, start=1)), start=1)

    def image_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) of unit length."""
        text = [self.prompts.context, *self.deep_text]
        visual = [coupling(tokens) for coupling, tokens in zip(self.couplings, text)]
        with inserted_tokens(self.backbone.tokens, visual):
            return F.normalize(self.backbone.features(x), dim=-1)


class LowRankClassifier(TextPromptedClassifier):
    """CLIP-LoRA: low-rank updates of the attention in every block of both towers ("Low-Rank Few-Shot Adaptation of Vision-Language
    Models", Zanella and Ben Ayed 2024, section 4).

    Args:
        sentences: one per class.
        rank, scale, targets, dropout: of the `LowRankUpdates` of both towers.

    Attributes:
        text, image: `LowRankUpdates`.
    """

    changes_images = True

    def __init__(self, backbone, sentences, rank=2, scale=2**-0.5, targets="qkv", dropout=0.0):
        super().__init__(backbone, Sentences(backbone, sentences))
        self.text = LowRankUpdates(backbone.text_blocks, rank, scale, targets, dropout)
        self.image = LowRankUpdates(backbone.tokens.blocks, rank, scale, targets, dropout)

    def inside_text(self) -> AbstractContextManager[None]:
        return self.text.inside_blocks(self.backbone.text_blocks)

    def image_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D) of unit length."""
        with self.image.inside(self.backbone.tokens):
            return self.backbone.image_features(x)
