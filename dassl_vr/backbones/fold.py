"""Folding batch norm into the convolution before it: the same function with fewer passes over memory.

In evaluation mode batch norm is a fixed affine map of each channel, so a convolution whose output goes to it and nowhere else can
take it into its weights.
"""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-4  # of the largest logit


@torch.no_grad()
def fold_batch_norm(model: nn.Module, size: int) -> nn.Module:
    """A copy of `model` with batch norms folded, or `model` itself if there are none or the copy's outputs are not the same.

    Pairs are found by running an example: a batch norm whose input is the very tensor that a convolution returned. Where that
    tensor is also used elsewhere the outputs differ, which is checked.

    Args:
        model: in evaluation mode, (B, 3, size, size) -> (B, K).
        size: side of the example in pixels.
    """
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 4 - 2
    folded = copy.deepcopy(model)
    pairs = _conv_norm_pairs(folded, example)
    if not pairs:
        return model
    parents = {id(child): (parent, name) for parent in folded.modules() for name, child in parent.named_children()}
    for conv, norm in pairs:
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, name = parents[id(norm)]
        # timm's norms bring their activation along as a child
        setattr(parent, name, nn.Sequential(*norm.children()) if len(list(norm.children())) else nn.Identity())
    folded.requires_grad_(False)
    expected, got = model(example), folded(example)
    same = (got - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1)
    return folded if bool(same) else model


def _conv_norm_pairs(model, example):
    returned, pairs, hooks = {}, [], []

    def after_conv(module, inputs, output):
        returned[id(output)] = module, output  # the tensor is kept, so that its id stays its own

    def before_norm(module, inputs):
        conv, output = returned.get(id(inputs[0]), (None, None))
        if output is inputs[0] and module.track_running_stats:
            pairs.append((conv, module))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before_norm))
    model(example)
    for hook in hooks:
        hook.remove()
    used = [id(module) for pair in pairs for module in pair]
    return pairs if len(used) == len(set(used)) else []  # a module that is run twice cannot be folded
