"""One tiny run from the command to a finished directory, for the fast tier."""

import json

import torch

from dassl_vr.cli.train import main


def test_smm_trains_tests_and_leaves_its_files(tiny_command, tmp_path, capsys):
    out = tmp_path / "run"
    assert not main(tiny_command(out, "OPTIM.MAX_EPOCH", "1", backbone="tiny_vit"))
    results = json.loads((out / "results.json").read_text())
    assert results["trainer"] == "SMM" and 0 <= results["accuracy"] <= 100
    assert (out / "log.txt").is_file() and (out / "config.yaml").is_file()
    saved = torch.load(out / "prompt/model.pth.tar-1", weights_only=True)["state_dict"]
    assert saved and all(torch.isfinite(values).all() for values in saved.values())
    assert not main(tiny_command(out, "OPTIM.MAX_EPOCH", "1", backbone="tiny_vit"))
    assert "finished already" in capsys.readouterr().out
