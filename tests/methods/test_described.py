"""Runs that read sentences about the classes: trained, found again, exported, and without the sentences afterwards."""

import json

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from dassl_vr import load_prompted
from dassl_vr.backbones import build_backbone
from dassl_vr.cli.export import main as export
from dassl_vr.cli.train import main
from dassl_vr.reprogramming.classifier import EmbeddingSource, TextSource
from dassl_vr.reprogramming.mappings import Words
from dassl_vr.reprogramming.mappings.described import AttrVr

NAMES = [*"0123456789"]


def test_one_sentence_per_class_is_the_text_head():
    clip = build_backbone("tiny_clip", verbose=False)
    sentences = [f"a photo of the digit {name}." for name in NAMES]
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    source = EmbeddingSource(clip)
    f_out = AttrVr(len(source.source_classes), 10, sentences=1, banks=1, nearest=1)
    f_out.prepare(Words(NAMES, source.source_classes, clip.text_features, lambda: [[[text] for text in sentences]]))
    assert torch.equal(f_out(source.logits(x)), TextSource(clip, sentences).logits(x))


def picture(path):
    Image.fromarray((load_digits().images[0] * 15).astype("uint8")).resize((64, 64)).save(path)
    return path


@pytest.mark.parametrize("trainer, recipe", [("VR", "attrvr"), ("SMM", "rvp"), ("VR", "dvp")])
def test_trained_and_used_without_the_sentences(tmp_path, tiny_command, trainer, recipe):
    """From a file of the user's own, which is gone when the model is loaded."""
    out, bank = tmp_path / "run", tmp_path / "bank.json"
    bank.write_text(json.dumps({name: [f"a photo of the digit {name}.", f"a handwritten number {name}."] for name in NAMES}))
    node = f"TRAINER.{trainer}"
    settings = [f"{node}.DESCRIPTIONS", f"('{bank}',)", f"{node}.SENTENCES", "3", "INPUT.SIZE", (64, 64)]
    assert main(tiny_command(out, *settings, trainer=trainer, backbone=f"tiny_clip_{recipe}")) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["mapping"] == recipe
    assert main(["--eval-only", "--model-dir", str(out), "--output-dir", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "results.json").read_text())["accuracy"] == results["accuracy"]
    bank.unlink()
    assert export([str(out), str(tmp_path / "bundle")]) == 0
    assert export([str(out), str(tmp_path / "graph"), "--format", "onnx"]) == 0
    image = picture(tmp_path / "picture.png")
    answers = [load_prompted(tmp_path / place).predict(str(image)).probabilities for place in ("run", "bundle", "graph")]
    assert torch.equal(answers[0], answers[1])
    torch.testing.assert_close(answers[2], answers[0], atol=1e-4, rtol=0)


def test_classes_that_a_bank_lacks_end_in_one_line(tmp_path, tiny_command, capsys):
    bank = tmp_path / "bank.json"
    bank.write_text(json.dumps({"0": ["a photo of the digit zero."]}))
    settings = ["TRAINER.VR.DESCRIPTIONS", f"('{bank}',)", "INPUT.SIZE", (64, 64)]
    assert main(tiny_command(tmp_path / "run", *settings, trainer="VR", backbone="tiny_clip_attrvr")) == 2
    error = capsys.readouterr().err.strip()
    assert "for 9 of 10 classes, 1, 2, 3, 4, 5, ...; add some" in error and "\n" not in error
