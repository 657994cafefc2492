"""Prompt tokens in the blocks of a transformer, put there by hooks, so that the transformer itself stays as it is.

Sequences are batch first: (B, L, width).
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from ..backbones.base import TokenLayout


@contextlib.contextmanager
def replaced_tokens(blocks: Sequence[nn.Module], prompts: dict[int, torch.Tensor], start: int) -> Iterator[None]:
    """While open, tokens `start` to `start + n` of the sequence are those of `prompts[i]` in front of block i.

    Args:
        prompts: {number of a block: (n, width), or (B, n, width) for tokens of each sequence}.
    """

    def before(tokens):
        def hook(block, arguments):
            x = arguments[0]
            stop = start + tokens.shape[-2]
            return (torch.cat([x[:, :start], _for_batch(tokens, x), x[:, stop:]], dim=1), *arguments[1:])

        return hook

    with _hooks([blocks[i].register_forward_pre_hook(before(tokens)) for i, tokens in prompts.items()]):
        yield


@contextlib.contextmanager
def inserted_tokens(layout: "TokenLayout", prompts: Sequence[torch.Tensor], start: int | None = None) -> Iterator[None]:
    """While open, `prompts[0]` is put into the sequence where it enters the transformer, `prompts[i]` takes its place in front of
    block i, and behind the last block the sequence is as long as it was.

    Args:
        layout: `TokenLayout` of the transformer. A layer in front of its blocks (CLIP: a layer norm) sees `prompts[0]` too.
        prompts: list of (n, width), or (B, n, width), for the first blocks.
        start: how many tokens stay in front of the prompt; None = it goes to the end.
    """
    blocks, count = layout.blocks, prompts[0].shape[-2]
    place = []  # where the prompt begins, once a sequence has come

    def insert(block, arguments):
        x = arguments[0]
        place[:] = [x.shape[1] if start is None else start]
        return (torch.cat([x[:, : place[0]], _for_batch(prompts[0], x), x[:, place[0] :]], dim=1), *arguments[1:])

    def replace(tokens):
        def hook(block, arguments):
            x = arguments[0]
            return (torch.cat([x[:, : place[0]], _for_batch(tokens, x), x[:, place[0] + count :]], dim=1), *arguments[1:])

        return hook

    def take_out(block, arguments, x):
        return torch.cat([x[:, : place[0]], x[:, place[0] + count :]], dim=1)

    handles = [layout.entry.register_forward_pre_hook(insert)]
    handles += [block.register_forward_pre_hook(replace(tokens)) for block, tokens in zip(blocks[1:], prompts[1:])]
    handles.append(blocks[-1].register_forward_hook(take_out))
    with _hooks(handles):
        yield


@contextlib.contextmanager
def _hooks(handles):
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _for_batch(tokens, x):
    """(n, width) or (B, n, width) -> (B, n, width) in the type of `x`."""
    # not len(x), which would fix the batch of a traced graph
    return (tokens if tokens.dim() == 3 else tokens.expand(x.shape[0], -1, -1)).to(x.dtype)


class VisualTokens(nn.Module):
    """The prompt tokens of VPT (Jia et al. 2022).

    Args:
        layout: `TokenLayout` of the transformer.
        count: tokens p a block; 0 = none, the transformer as it is.
        depth: blocks with fresh tokens of their own: 1 = shallow, all = deep.
        init: "uniform" = +-sqrt(6 / (3 patch^2 + width)), VPT's; "normal" = N(0, 0.02), that of the CLIP family.
        at_end: at the end of the sequence, as in the CLIP family, instead of behind the class token.

    Attributes:
        tokens: (depth, count, width) parameter.

    Raises:
        ValueError: `count` is below 0, or `depth` is not 1 to the blocks of the transformer.
    """

    def __init__(self, layout: "TokenLayout", count: int, depth: int = 1, init: str = "uniform", at_end: bool = False):
        super().__init__()
        if count < 0:
            raise ValueError(f"{count} prompt tokens, expected 0 or more")
        if not 1 <= depth <= len(layout.blocks):
            raise ValueError(f"prompt tokens in {depth} blocks, expected 1 to {len(layout.blocks)}, the blocks of the backbone")
        self.start = None if at_end else layout.prefix
        self.tokens = nn.Parameter(torch.empty(depth, count, layout.width))
        if init == "uniform":
            bound = math.sqrt(6 / (3 * layout.patch_size**2 + layout.width))
            nn.init.uniform_(self.tokens, -bound, bound)
        else:
            nn.init.normal_(self.tokens, std=0.02)

    def inside(self, layout: "TokenLayout") -> contextlib.AbstractContextManager[None]:
        """A context in which the tokens are in the transformer's sequence."""
        if not self.tokens.shape[1]:
            return contextlib.nullcontext()
        return inserted_tokens(layout, list(self.tokens), self.start)
