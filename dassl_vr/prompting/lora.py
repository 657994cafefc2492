"""LoRA: low-rank updates of a transformer's attention, whose own weights stay as they are.

The updated weights stand in the transformer while a context is open, so a frozen backbone needs no change. A graph is traced from
whole weights: the update is merged into them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from .tokens import TokenLayout

PROJECTIONS = "qkvo"  # query, key, value, output
Weight = tuple[nn.Module, str, torch.Tensor]  # (module, name of one of its parameters, what to have in its place)


def attention_of(block: nn.Module) -> tuple[nn.Module, str, nn.Module]:
    """(module, name of its weight (3 width, width) for query, key and value, output layer) of a block's self-attention.

    It knows torch's `MultiheadAttention`, which torchvision and open_clip have, and timm's `Attention`.

    Raises:
        ValueError: there is no such attention in the block, or several.
    """
    found = []
    for module in block.modules():
        if getattr(module, "in_proj_weight", None) is not None:
            found.append((module, "in_proj_weight", module.out_proj))
        elif isinstance(getattr(module, "qkv", None), nn.Linear):
            found.append((module.qkv, "weight", module.proj))
    if len(found) != 1:
        raise ValueError(f"a block of the backbone has {len(found)} attentions with one weight for q, k and v; LoRA needs one")
    return found[0]


@contextlib.contextmanager
def replaced_weights(weights: Sequence[Weight]) -> Iterator[None]:
    """While open, modules compute with other tensors in place of their parameters."""
    own = [(module, name, module._parameters[name]) for module, name, _ in weights]
    try:
        for module, name, tensor in weights:
            module._parameters[name] = tensor
        yield
    finally:
        for module, name, parameter in own:
            module._parameters[name] = parameter


class LowRankUpdates(nn.Module):
    """W + alpha / rank * up @ down in place of attention weights W in every block ("LoRA: Low-Rank Adaptation of Large Language
    Models", Hu et al. 2022, section 4).

    Args:
        blocks: of a transformer of either kind: `TokenLayout.blocks` of an image tower, `text_blocks` of a CLIP.
        rank: r.
        alpha: scale of the update; alpha = rank adds `up @ down` as it is.
        targets: which weights, letters of "qkvo": query, key, value, output.

    Attributes:
        down: (blocks, targets, rank, width) parameter, uniform in +-1 / sqrt(width).
        up: (blocks, targets, width, rank) parameter, zeros at the start, when the transformer is as it was.

    Raises:
        ValueError: for other targets, a rank that is not from 1 to the width, or blocks whose attention is not known.
    """

    def __init__(self, blocks: Sequence[nn.Module], rank: int = 4, alpha: float = 4.0, targets: str = "qv") -> None:
        super().__init__()
        if not targets or len(set(targets)) < len(targets) or not set(targets) <= set(PROJECTIONS):
            raise ValueError(f"targets are '{targets}', expected some of the letters {PROJECTIONS}, each once")
        sizes = {tuple(getattr(fused, name).shape) for fused, name, _ in map(attention_of, blocks)}
        sizes |= {(3 * last.weight.shape[0], last.weight.shape[1]) for _, _, last in map(attention_of, blocks)}
        width = next(iter(sizes))[1]
        if sizes != {(3 * width, width)}:
            raise ValueError(f"attention weights of {sorted(sizes)}, expected the same square ones in all blocks")
        if not 1 <= rank <= width:
            raise ValueError(f"rank is {rank}, expected 1 to {width}, the width of the backbone")
        self.targets = targets
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(len(blocks), len(targets), rank, width).uniform_(-(width**-0.5), width**-0.5))
        self.up = nn.Parameter(torch.zeros(len(blocks), len(targets), width, rank))
        self._known = None  # (state of the parameters, updated weights) of the last pass without gradient

    def merged(self, blocks: Sequence[nn.Module]) -> list[Weight]:
        """The updated weights of `blocks`; without gradient they are computed anew only when the parameters have changed."""
        if torch.is_grad_enabled():
            return self._merged(blocks)
        state = [(id(p), p.data_ptr(), p._version) for p in self.parameters()] if not torch.compiler.is_exporting() else None
        if self._known is None or (state and self._known[0] != state):
            self._known = state, self._merged(blocks)
        return self._known[1]

    def _merged(self, blocks):
        weights = []
        for block, up, down in zip(blocks, self.up, self.down, strict=True):
            updates = dict(zip(self.targets, self.scale * up @ down))  # (width, width) each
            fused, name, last = attention_of(block)
            if set("qkv") & set(updates):
                parts = zip("qkv", getattr(fused, name).chunk(3))
                weights.append((fused, name, torch.cat([part + updates.get(target, 0) for target, part in parts])))
            if "o" in updates:
                weights.append((last, "weight", last.weight + updates["o"]))
        return weights

    def inside(self, layout: "TokenLayout") -> contextlib.AbstractContextManager[None]:
        """A context in which an image transformer has the updated weights."""
        return replaced_weights(self.merged(layout.blocks))
