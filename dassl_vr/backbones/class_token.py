"""The last block of a transformer whose class token alone is read: the same function without the work on the other tokens.

Of a block the other tokens then matter as keys and values only: attention has one query, and the output layer and the MLP, ten of
twelve parts of the block's products, see one token. Backward the same is left out.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .fold import TOLERANCE


class ClassTokenBlock(nn.Module):
    """A transformer's last block that gives its first token alone: (B, L, width) -> (B, 1, width).

    Where it is not what it was built as (a low-rank update with dropout replaces its layers), the block works as it is. Its parts
    have the names that they have in the block, so a model's state does not tell whether one of its blocks is such a one.

    Args:
        block: of timm's `Block`, torchvision's `EncoderBlock` or open_clip's `ResidualAttentionBlock`, in evaluation mode.
    """

    whole = False  # of all of them: let the blocks work as they are

    def __init__(self, block: nn.Module):
        super().__init__()
        self._whole = (block,)  # no submodule: its parts are, in the same dictionaries
        self._parameters, self._buffers, self._modules = block._parameters, block._buffers, block._modules
        self._non_persistent_buffers_set = block._non_persistent_buffers_set

    def forward(self, x: torch.Tensor, *more: object, **named: object) -> torch.Tensor:
        (block,) = self._whole
        form = None if self.whole or more or any(value not in (None, False) for value in named.values()) else _form(block)
        return block(x, *more, **named) if form is None else form(block, x)

    def train(self, mode: bool = True) -> "ClassTokenBlock":
        self._whole[0].training = mode
        return super().train(mode)


@contextlib.contextmanager
def whole_blocks() -> Iterator[None]:
    """A context in which last blocks work on all tokens, as they are defined."""
    ClassTokenBlock.whole = True
    try:
        yield
    finally:
        ClassTokenBlock.whole = False


@torch.no_grad()
def read_class_token_alone(
    model: nn.Module, blocks: Sequence[nn.Module], run: Callable[[torch.Tensor], torch.Tensor], size: int
) -> bool:
    """Have the last of `blocks` compute the class token alone, if it is of a known form and nothing else of it is read.

    One example is run, in which the other tokens are no numbers any more behind the last block.

    Args:
        model: in evaluation mode; changed in place.
        blocks: of its image transformer, parts of `model`.
        run: the model on (1, 3, size, size) images.

    Returns:
        Whether it was done.
    """
    last = blocks[-1]
    device = next(model.parameters()).device
    if _form(last) is None or device.type == "meta":
        return False
    seen = []

    def spoil(block, arguments, out):
        seen.append((arguments[0], out[:, :1].clone()))
        out[:, 1:] = torch.nan
        return out

    handle = last.register_forward_hook(spoil)
    try:
        result = run(torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device) * 4 - 2)
    finally:
        handle.remove()
    if len(seen) != 1 or not bool(result.isfinite().all()):
        return False
    (x, expected), short = seen[0], ClassTokenBlock(last).train(last.training)
    if (short(x) - expected).abs().max() > TOLERANCE * expected.abs().max().clamp(min=1):
        return False
    for parent in model.modules():
        for name, child in parent.named_children():
            if child is last and parent is not short:
                setattr(parent, name, short)
                return True
    return False


def _form(block):
    """`(block, x) -> first token`, or None for a block that is not known."""
    name, module = type(block).__name__, type(block).__module__
    if (module, name) == ("timm.models.vision_transformer", "Block"):
        attention = block.attn
        known = type(attention).__name__ == "Attention" and attention.qkv is not None and type(attention.qkv) is nn.Linear
        return _of_timm if known and getattr(attention, "gate", None) is None else None
    attention = getattr(block, "attn", getattr(block, "self_attention", None))
    if type(attention) is not nn.MultiheadAttention or not attention.batch_first:
        return None
    if (module, name) == ("torchvision.models.vision_transformer", "EncoderBlock"):
        return _of_torchvision
    if (module, name) == ("open_clip.transformer", "ResidualAttentionBlock") and not hasattr(block, "ln_1_kv"):
        return _of_open_clip
    return None


def _of_timm(block, x):
    attention, y = block.attn, block.norm1(x)  # (B, L, width)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    heads, width = attention.num_heads, weight.shape[0] // 3
    parts = [(y[:, :1], slice(width)), (y, slice(width, 2 * width)), (y, slice(2 * width, None))]
    query, key, value = (
        F.linear(tokens, weight[rows], None if bias is None else bias[rows]).unflatten(-1, (heads, -1)).transpose(1, 2)
        for tokens, rows in parts
    )  # (B, heads, 1 or L, d)
    y = F.scaled_dot_product_attention(attention.q_norm(query), attention.k_norm(key), value).transpose(1, 2).flatten(2)
    y = attention.proj(attention.norm(y))
    x = x[:, :1] + block.ls1(y)
    return x + block.ls2(block.mlp(block.norm2(x)))


def _of_torchvision(block, x):
    y = block.ln_1(x)
    x = x[:, :1] + block.self_attention(y[:, :1], y, y, need_weights=False)[0]
    return x + block.mlp(block.ln_2(x))


def _of_open_clip(block, x):
    y = block.ln_1(x)
    x = x[:, :1] + block.ls_1(block.attn(y[:, :1], y, y, need_weights=False)[0])
    return x + block.ls_2(block.mlp(block.ln_2(x)))
