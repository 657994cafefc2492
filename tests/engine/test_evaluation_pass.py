"""What the final test leaves in the directory of a run."""

import json

import numpy as np
import pytest
import torch

from dassl_vr.cli.train import main
from dassl_vr.engine.evaluation_pass import EvaluationPass
from dassl_vr.evaluation.predictions import PREDICTIONS_FILE, read_predictions
from dassl_vr.report.runs import find_runs

SHORT = ("OPTIM.MAX_EPOCH", "1", "TRAINER.VR.MAPPING", "flm", "TEST.TEST_CURVE", "True")


def results_in(directory):
    return json.loads((directory / "results.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory, request):
    root, out = request.config.rootpath, tmp_path_factory.mktemp("runs") / "run"
    arguments = ["--trainer", "VR", "--config-file", str(root / "configs/trainers/VR/tiny_vit.yaml"), "--seed", "1"]
    arguments += ["--dataset-config-file", str(root / "configs/datasets/digits.yaml"), "--output-dir", str(out)]
    assert main([*arguments, "INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "3", "TRAIN.END_FIGURES", "False", *SHORT]) == 0
    return out


def test_predictions_say_what_results_say(run):
    results, kept = results_in(run), read_predictions(run)
    assert results["predictions"] == PREDICTIONS_FILE and results["num_test"] == len(kept.index) == 539
    assert 100 * kept.right.mean() == pytest.approx(results["accuracy"])
    assert {name: results[name] for name in ("ece", "nll")} == kept.measures()
    assert len(set(kept.path)) == 539 and all(path.startswith("digits/") for path in kept.path)
    assert kept.probabilities.shape == (539, 10) and np.allclose(kept.probabilities.sum(axis=1), 1, atol=1e-2)
    assert results["flops"] > 10**6 and results["images_per_second"] > 0 and results["test_batch_size"] == 100
    assert results["mapping_size"] == [10, 40] and results["templates"] is None
    assert next(iter(find_runs([run.parent]))) == run, "read back"


def test_a_checkpoint_that_is_tested_leaves_the_same(run, tmp_path):
    out = tmp_path / "tested"
    assert main(["--eval-only", "--model-dir", str(run), "--output-dir", str(out)]) == 0
    for name, values in vars(read_predictions(run)).items():
        assert np.array_equal(getattr(read_predictions(out), name), values), name
    assert {key: results_in(out)[key] for key in ("ece", "nll", "flops")} == {
        key: results_in(run)[key] for key in ("ece", "nll", "flops")
    }
    before = (run / PREDICTIONS_FILE).stat().st_mtime_ns
    assert main(["--eval-only", "--model-dir", str(run)]) == 0
    assert (run / PREDICTIONS_FILE).stat().st_mtime_ns == before, "without an output directory nothing is written"


def test_without_the_file_the_measures_are_there(run, tmp_path):
    out = tmp_path / "tested"
    assert main(["--eval-only", "--model-dir", str(run), "--output-dir", str(out), "TEST.PREDICTIONS", "False"]) == 0
    assert not (out / PREDICTIONS_FILE).exists() and results_in(out)["predictions"] is None
    assert results_in(out)["nll"] == results_in(run)["nll"]


def test_a_run_without_a_test_has_no_predictions(tiny_command, tmp_path):
    out = tmp_path / "run"
    assert main(tiny_command(out, "TEST.NO_TEST", "True", "OPTIM.MAX_EPOCH", "1", trainer="LinearProbe")) == 0
    assert not (out / PREDICTIONS_FILE).exists()
    assert results_in(out)["ece"] is None and results_in(out)["images_per_second"] is None and results_in(out)["flops"] > 10**6


def test_passes_over_other_splits_are_no_test(tiny_command, tmp_path, trainer_of):
    trainer = trainer_of(tiny_command(tmp_path / "run", trainer="LinearProbe"))
    assert trainer.val_loader is not None
    for split in ("val", "train"):
        trainer.test(split=split)
        assert trainer.last_pass is None, split
    trainer.test()
    kept = trainer.last_pass
    trainer.test(split="val")
    assert kept is not None and trainer.last_pass is kept


def test_templates_stand_in_the_results_on_clip(tiny_command, tmp_path):
    more = ("TRAINER.VR.MAPPING", "rlm", "OPTIM.MAX_EPOCH", "1", "TEST.NO_TEST", "True")
    assert main(tiny_command(tmp_path / "run", "INPUT.SIZE", "(64, 64)", *more, trainer="VR", backbone="tiny_clip")) == 0
    results = results_in(tmp_path / "run")
    assert (results["mapping_size"], results["templates"]) == ([10, 80], 8)


def test_speed_leaves_out_the_first_batch(monkeypatch):
    clock = iter([0.0, 100.0, 200.0, 201.0, 300.0, 303.0])  # seconds before and after each forward pass
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    this = EvaluationPass(torch.device("cpu"))
    for number in (8, 8, 4):
        with this.predicting():
            pass
        this.add({}, torch.zeros(number, 3), torch.zeros(number, dtype=torch.int64))
    assert this.images_per_second() == (8 + 4) / (1 + 3)


@pytest.mark.parametrize("notes_times", [True, False])
def test_an_accelerator_is_asked_for_its_times_or_waited_for(monkeypatch, notes_times):
    clock, waits = iter(range(100)), []

    class Event:
        def __init__(self, device, enable_timing):
            if not (notes_times and enable_timing and device.type == "xpu"):
                raise RuntimeError("xpu backend doesn't support events.")

        def record(self):
            self.milliseconds = 1000 * next(clock)

        def elapsed_time(self, other):
            return other.milliseconds - self.milliseconds

    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("dassl_vr.engine.evaluation_pass.wait_for", waits.append)
    this = EvaluationPass(torch.device("xpu"))
    for _ in range(3):
        with this.predicting():
            pass
        this.add({}, torch.zeros(8, 3), torch.zeros(8, dtype=torch.int64))
    assert len(waits) == (0 if notes_times else 6)
    assert this.images_per_second() == 8  # each forward pass takes a second of that clock
    assert len(waits) == (1 if notes_times else 6), "before the times are read"


def test_one_batch_has_no_speed():
    this = EvaluationPass(torch.device("cpu"))
    with this.predicting():
        pass
    this.add({}, torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    assert this.images_per_second() is None
