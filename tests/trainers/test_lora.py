"""LoRA as a run: counted, resumed bit for bit, merged in what is exported."""

import json
import os

import pytest
import torch

from dassl_vr.cli.train import main
from dassl_vr.deploy import load_prompted
from dassl_vr.deploy.exported import exported_program, write_program

LORA = {"trainer": "LoRA", "backbone": "tiny_vit"}
SHORT = ("TEST.NO_TEST", "True", "TRAINER.LORA.RANK", "3", "TRAINER.LORA.ALPHA", "1.5", "TRAINER.LORA.TARGETS", "qko")
SHORT = (*SHORT, "TRAINER.LORA.DROPOUT", "0.1")


@pytest.fixture
def whole(tmp_path, tiny_command):
    """The directory of a run that nobody interrupts."""
    assert main(tiny_command(tmp_path / "whole", *SHORT, **LORA)) == 0
    return tmp_path / "whole"


def trained(directory):
    return torch.load(directory / "adapter/model.pth.tar-3", weights_only=True)["state_dict"]


def test_a_run_is_counted_and_resumed_bit_for_bit(whole, tmp_path, tiny_command, stopped_once_saved):
    results = json.loads((whole / "results.json").read_text())
    # 4 blocks, 3 weights, rank 3, down and up of width 128; the head of ten classes
    assert results["params_trainable"] == 4 * 3 * 3 * 2 * 128 + 129 * 10
    out = tmp_path / "stopped"
    with stopped_once_saved():
        assert main(tiny_command(out, "--resume", out, *SHORT, **LORA)) == 130
    assert main(tiny_command(out, "--resume", out, *SHORT, **LORA)) == 0
    expected, got = trained(whole), trained(out)
    assert sorted(expected) == ["lora.down", "lora.up", "mapping.linear.bias", "mapping.linear.weight"]
    assert expected["lora.up"].any() and all(torch.equal(got[key], value) for key, value in expected.items())


def test_an_exported_graph_has_the_update_in_its_weights_and_no_others(whole, tmp_path):
    model = load_prompted(whole, device="cpu")
    pixels = torch.randint(0, 256, (2, *model.pixel_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    program = exported_program(model, pixels)
    names = [*program.state_dict, *program.graph_signature.inputs_to_parameters.values()]
    assert not [name for name in names if ".learned." in name or ".qkv.weight" in name or ".attn.proj.weight" in name]
    assert any(name.endswith("mlp.fc1.weight") for name in names)
    write_program(program, tmp_path / "model.pt2")
    in_it = sum(tensor.nbytes for tensor in model.details.backbone.state_dict().values())  # and a head of ten classes
    assert in_it < (tmp_path / "model.pt2").stat().st_size < 1.1 * in_it
    read = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        assert torch.allclose(read(pixels), model(pixels), atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["TRAINER.LORA.TARGETS", "vq"], "TRAINER.LORA.TARGETS is 'vq'"),
        (["TRAINER.LORA.RANK", "0"], "TRAINER.LORA.RANK is 0; it must be 1 or more"),
        (["TRAINER.LORA.RANK", "200"], "rank is 200, expected 1 to 128"),
    ],
)
def test_settings_that_cannot_be_end_in_one_line(tmp_path, tiny_command, capsys, settings, words):
    assert main(tiny_command(tmp_path / "run", *settings, **LORA)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not os.path.exists(tmp_path / "run" / "results.json")
