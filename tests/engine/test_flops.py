"""FLOPs of a prediction, counted manually layer by layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dassl_vr.backbones.class_token import whole_blocks
from dassl_vr.engine.flops import flops_of, flops_per_image
from dassl_vr.reprogramming import SampleSpecificMask


def convolution(channels, filters, kernel, height, width):
    """A multiplication with its addition counts two."""
    return 2 * filters * height * width * channels * kernel**2


def test_the_mask_generator_layer_by_layer():
    """Not of the faster form in which its first block runs without gradients."""
    f_in = SampleSpecificMask(size=32, layers=5, patch_size=8).eval()
    convolutions = [layer for layer in f_in.generator.modules() if isinstance(layer, nn.Conv2d)]
    sides = [32, 16, 8, 4, 4]  # three pools by two for a patch of 8
    shapes = [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in convolutions]
    expected = sum(convolution(*shape, side, side) for shape, side in zip(shapes, sides, strict=True))
    assert flops_per_image(f_in, (32, 32)) == expected
    assert expected > convolution(3, 8, 3, 32, 32)


def test_smm_as_it_is_deployed(trainer_of, tiny_command, tmp_path):
    trainer = trainer_of(tiny_command(tmp_path / "run", "TRAINER.SMM.MAPPING", "rlm", backbone="tiny_vit"))
    model = trainer.model.eval()
    counted = 0

    def count(layer, inputs, output):
        nonlocal counted
        if isinstance(layer, nn.Conv2d):
            counted += convolution(layer.in_channels, layer.out_channels, layer.kernel_size[0], *output.shape[-2:])
        elif isinstance(layer, nn.Linear):
            counted += 2 * output.numel() * layer.in_features

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    with whole_blocks():  # as the model is defined: fewer are computed of the last block
        model(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    tokens = model.backbone.tokens
    positions = tokens.prefix + (32 // tokens.patch_size) ** 2
    attention = len(tokens.blocks) * 2 * 2 * positions**2 * tokens.width  # query with key, and their product with the values
    assert flops_of(trainer) == counted + attention
    assert torch.backends.mha.get_fastpath_enabled(), "as it was"


@pytest.mark.parametrize("fused", [False, True])
def test_attention_counts_however_torch_computes_it(fused):
    layer = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    plain = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()

    def forward(images):
        tokens = images.flatten(2)[..., :16]  # (B, 3, 16)
        if fused:
            return plain(tokens)
        return layer(tokens, tokens, tokens, need_weights=False)[0]

    projections, attention = 4 * 2 * 3 * 16 * 16, 2 * 2 * 3 * 3 * 16
    perceptron = 2 * 2 * 3 * 16 * 32 if fused else 0
    assert flops_per_image(forward, (4, 4)) == projections + attention + perceptron


def test_attention_in_one_step():
    def forward(images):
        tokens = images.flatten(2)[:, None]  # (B, 1, 3, 16)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)

    assert flops_per_image(forward, (4, 4)) == 2 * 2 * 3 * 3 * 16


def test_what_is_computed_once_for_all_images_does_not_count():
    text, weight = torch.ones(50, 8), torch.ones(8, 8)

    def forward(images):
        return F.normalize(images.flatten(1)[:, :8], dim=1) @ (text @ weight).T

    assert flops_per_image(forward, (4, 4)) == 2 * 8 * 50


def test_a_model_that_takes_no_images_is_not_counted(trainer_of, tiny_command, tmp_path, capsys):
    trainer = trainer_of(tiny_command(tmp_path / "run", backbone="tiny_vit"))
    trainer.model_inference = lambda images: images.pixels
    assert flops_of(trainer) is None
    assert "FLOPs are not counted" in capsys.readouterr().out
