"""A context for each image at once, and one after the other."""

import torch

from dassl_vr.backbones import build_backbone
from dassl_vr.prompting import ContextPrompts


def test_contexts_of_a_batch_are_those_of_its_images():
    backbone = build_backbone("tiny_clip", verbose=False)
    prompts = ContextPrompts(backbone, ["red square", "cat"], init="a photo of a")
    shifts = torch.randn(3, 1, prompts.context.shape[1], generator=torch.Generator().manual_seed(0))
    together = prompts((prompts.context + shifts)[:, None])
    assert torch.equal(together, torch.stack([prompts(prompts.context + shift) for shift in shifts]))
