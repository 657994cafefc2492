"""LoRA: low-rank updates of a transformer's attention weights, which themselves stay frozen.

The updates take effect while a context is open, so the backbone itself is not changed: updated weights replace its own or, under
dropout, modules that add the updates replace its layers. A traced graph holds the merged weights.
"""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from .tokens import TokenLayout

PROJECTIONS = "qkvo"  # query, key, value, output
TARGETS = tuple("".join(some) for n in range(1, 5) for some in combinations(PROJECTIONS, n))  # any of them, in this order
Weight = tuple[nn.Module, str, torch.Tensor]  # (module, name of one of its parameters, tensor to use instead)
Child = tuple[nn.Module, str, nn.Module]  # (module, name of one of its children, module to use instead)


def attention_of(block: nn.Module) -> tuple[nn.Module, str, nn.Module]:
    """(module, name of its weight (3 width, width) for query, key and value, output layer) of a block's self-attention.

    Supports torch's `MultiheadAttention`, which torchvision and open_clip use, and timm's `Attention`.

    Raises:
        ValueError: the block has no such attention, or more than one.
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
    """A context in which modules compute with the given tensors instead of their parameters.

    Args:
        weights: [(module, name of its parameter, tensor of the parameter's shape)].
    """
    with _replaced([(module._parameters, name, tensor) for module, name, tensor in weights]):
        yield


@contextlib.contextmanager
def replaced_modules(children: Sequence[Child]) -> Iterator[None]:
    """A context in which modules have the given children instead of their own.

    Args:
        children: [(module, name of its child, other module)].
    """
    with _replaced([(module._modules, name, child) for module, name, child in children]):
        yield


@contextlib.contextmanager
def _replaced(entries):
    own = [(holder, name, holder[name]) for holder, name, _ in entries]
    try:
        for holder, name, other in entries:
            holder[name] = other
        yield
    finally:
        for holder, name, other in own:
            holder[name] = other


class LowRankUpdates(nn.Module):
    """W + scale * up @ down in place of attention weights W in every block ("LoRA: Low-Rank Adaptation of Large Language Models",
    Hu et al. 2022, section 4).

    Args:
        blocks: transformer blocks: `TokenLayout.blocks` of an image tower, or `text_blocks` of a CLIP.
        rank: r.
        scale: of the update; alpha / r in the paper.
        targets: which weights, letters of "qkvo": query, key, value, output.
        dropout: in training mode the update of each weight sees an input of which this share is dropped at random, W all of it:
            W x + scale * up @ down @ dropout(x), as in Microsoft's `loralib`. In evaluation mode nothing is dropped.

    Attributes:
        down: (blocks, targets, rank, width) parameter, uniform in +-1 / sqrt(width).
        up: (blocks, targets, width, rank) parameter, zeros at the start, so that the transformer starts unchanged.

    Raises:
        ValueError: for unknown targets, a rank outside 1 to the width, or blocks whose attention is not supported.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], rank: int = 4, scale: float = 1.0, targets: str = "qv", dropout: float = 0.0
    ) -> None:
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
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}, expected 0 or more, and below 1")
        self.targets = targets
        self.scale = scale
        self.dropout = dropout
        self.down = nn.Parameter(torch.empty(len(blocks), len(targets), rank, width).uniform_(-(width**-0.5), width**-0.5))
        self.up = nn.Parameter(torch.zeros(len(blocks), len(targets), width, rank))
        self._known = None  # (state of the parameters, updated weights) of the last pass without gradient
        self._adding = None  # (blocks, modules that add the updates); made once, so that a compiled pass is compiled once
        if dropout:
            self._children(blocks)  # raises for attentions without it

    def merged(self, blocks: Sequence[nn.Module]) -> list[Weight]:
        """The updated weights of `blocks`; without gradients they are recomputed only when the parameters have changed."""
        if torch.is_grad_enabled():
            return self._merged(blocks)
        exporting = torch.compiler.is_exporting()
        state = None if exporting else [*map(id, blocks), *((id(p), p.data_ptr(), p._version) for p in self.parameters())]
        if self._known is None or not (exporting or self._known[0] == state):
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

    def update(self, x: torch.Tensor, block: int, targets: str) -> torch.Tensor | float:
        """What the updates of `targets` in block number `block` make of dropped (..., width), side by side: (..., targets width),
        zeros for those that are not updated; 0.0 if none of them is."""
        if not set(targets) & set(self.targets):
            return 0.0
        parts = []
        for target in targets:
            if target in self.targets:
                down, up = self.down[block, self.targets.index(target)], self.up[block, self.targets.index(target)]
                parts.append(F.linear(F.linear(F.dropout(x, self.dropout), down), self.scale * up))
            else:
                parts.append(torch.zeros_like(x))
        return torch.cat(parts, dim=-1)

    def _children(self, blocks):
        """What to have in place of the layers of `blocks` while inputs are dropped."""
        if self._adding is None or any(block is not other for block, other in zip(blocks, self._adding[0], strict=True)):
            children = [child for number, block in enumerate(blocks) for child in _adding(block, number, self)]
            self._adding = list(blocks), children
        return self._adding[1]

    def inside(self, layout: "TokenLayout") -> contextlib.AbstractContextManager[None]:
        """A context in which an image transformer has the updates."""
        return self.inside_blocks(layout.blocks)

    def inside_blocks(self, blocks: Sequence[nn.Module]) -> contextlib.AbstractContextManager[None]:
        """A context in which `blocks` have the updates."""
        if self.training and self.dropout:
            return replaced_modules(self._children(blocks))
        return replaced_weights(self.merged(blocks))


def _adding(block, number, updates):
    """The layers of a block that are replaced, as `Child`."""
    fused, _, last = attention_of(block)
    paths = {module: path for path, module in block.named_modules()}

    def child(module, other):
        owner, _, name = paths[module].rpartition(".")
        return block.get_submodule(owner), name, other

    if isinstance(fused, nn.Linear):
        return [child(fused, _Added(fused, updates, number, "qkv")), child(last, _Added(last, updates, number, "o"))]
    if not isinstance(fused, nn.MultiheadAttention) or not fused.batch_first:
        raise ValueError(
            f"dropout of low-rank updates is made for torch's MultiheadAttention (batch first) and timm's Attention, not for"
            f" {type(fused).__name__}; take a dropout of 0"
        )
    return [child(fused, _AddedAttention(fused, updates, number))]


class _Added(nn.Module):
    """A linear layer and the updates of dropped inputs."""

    def __init__(self, linear, updates, block, targets):
        super().__init__()
        self.linear, self.updates, self.block, self.targets = linear, updates, block, targets

    def forward(self, x):
        return self.linear(x) + self.updates.update(x, self.block, self.targets)


class _AddedAttention(nn.Module):
    """Torch's attention, whose layers are no modules of their own, with the updates of dropped inputs. (B, L, width)"""

    def __init__(self, attention, updates, block):
        super().__init__()
        self.attention, self.updates, self.block = attention, updates, block

    def forward(self, x, key, value, attn_mask=None, need_weights=False):  # self-attention: key and value are x
        own, last = self.attention, self.attention.out_proj
        fused = F.linear(x, own.in_proj_weight, own.in_proj_bias) + self.updates.update(x, self.block, "qkv")
        heads = [part.unflatten(-1, (own.num_heads, -1)).transpose(1, 2) for part in fused.chunk(3, dim=-1)]  # (B, heads, L, d)
        mask = None if attn_mask is None else attn_mask.to(heads[0].dtype)
        x = F.scaled_dot_product_attention(*heads, mask).transpose(1, 2).flatten(2)
        return F.linear(x, last.weight, last.bias) + self.updates.update(x, self.block, "o"), None
