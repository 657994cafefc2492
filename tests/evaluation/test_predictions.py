"""What is kept of each image, its file, and the measures that are made of it."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from dassl_vr.evaluation.predictions import PREDICTIONS_FILE, PredictionRecord, read_predictions, write_predictions
from dassl_vr.utils.errors import DataError


def scores(number=30, classes=4):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(number, classes, generator=generator)
    return logits, torch.randint(classes, (number,), generator=generator)


def recorded(logits, labels, order=None, **options):
    """Of batches of 7 in the given order."""
    record = PredictionRecord(**options)
    order = torch.arange(len(labels)) if order is None else order
    for part in order.split(7):
        paths = [f"/data/set/images/{index}.png" for index in part.tolist()]
        record.add(logits[part], labels[part], {"index": part, "impath": paths})
    return record.gather("/data/set")


def test_images_in_the_order_of_the_data_set_whatever_that_of_the_batches():
    logits, labels = scores()
    kept = recorded(logits, labels, torch.randperm(30, generator=torch.Generator().manual_seed(1)))
    assert kept.index.tolist() == list(range(30)) and kept.label.tolist() == labels.tolist()
    assert kept.path[11] == "images/11.png"
    assert kept.predicted.tolist() == logits.argmax(dim=1).tolist()
    expected = logits.softmax(dim=1)
    np.testing.assert_allclose(kept.probabilities, expected, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(kept.confidence, expected.max(dim=1).values, rtol=1e-6)
    assert kept.measures()["nll"] == pytest.approx(log_loss(labels, logits.double().softmax(dim=1), labels=range(4)))


def test_probabilities_are_taken_as_they_are():
    """As of the family's methods that average the softmax of several heads."""
    logits, labels = scores()
    one, other = recorded(logits, labels).measures(), recorded(logits.softmax(dim=1), labels).measures()
    assert one == pytest.approx(other, rel=1e-5)
    sure = torch.nn.functional.one_hot(labels, 4).float()
    assert recorded(sure, labels).measures() == {"ece": 0, "nll": 0}
    assert 80 < recorded(sure.roll(1, dims=1), labels).measures()["nll"] < 90, "finite"


def test_images_without_a_label_count_in_no_measure():
    logits, labels = scores()
    unknown = labels.clone()
    unknown[::3], unknown[1] = -1, 4
    known = (unknown >= 0) & (unknown < 4)
    kept = recorded(logits, unknown)
    assert kept.label.tolist() == unknown.tolist() and kept.labelled.tolist() == known.tolist()
    assert kept.measures() == pytest.approx(recorded(logits[known], labels[known]).measures())
    assert recorded(logits, torch.full_like(labels, -1)).measures() == {"ece": None, "nll": None}


def test_scores_that_are_not_finite_have_no_measures():
    logits, labels = scores()
    logits[3, 0] = float("nan")
    kept = recorded(logits, labels)
    assert kept.labelled.all() and kept.measures() == {"ece": None, "nll": None}


@pytest.mark.parametrize(
    "output", [(torch.zeros(5, 4),), torch.zeros(5), torch.zeros(5, 2, 4), torch.zeros(5, 4, dtype=torch.int64), torch.zeros(4, 4)]
)
def test_an_output_of_another_kind_gives_none(output):
    """Of a method with an evaluator of its own."""
    record, labels = PredictionRecord(), torch.zeros(5, dtype=torch.int64)
    record.add(output, labels, {})
    record.add(torch.zeros(5, 4), labels, {})
    assert record.gather() is None


def test_a_loader_that_numbers_nothing():
    record = PredictionRecord(probabilities=False)
    for _ in range(2):
        record.add(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), {"img": None})
    kept = record.gather()
    assert kept.index.tolist() == list(range(6)) and set(kept.path) == {""} and kept.probabilities.shape == (6, 0)


def test_nothing_is_read_back_before_the_end():
    """On the meta device there are no values to read: `add` must not ask for any."""
    PredictionRecord().add(torch.zeros(5, 4, device="meta"), torch.zeros(5, dtype=torch.int64, device="meta"), {})


def test_processes_give_together_what_one_gives(processes):
    logits, labels = scores()

    def part():
        from dassl_vr.utils import distributed

        with distributed.process_group(use_cuda=False):
            record = PredictionRecord()
            own = torch.arange(30)[distributed.rank() :: 2] if distributed.rank() < 2 else []
            if len(own):  # the last process has no image at all
                record.add(logits[own], labels[own], {"index": own, "impath": [f"/data/set/{i}" for i in own.tolist()]})
            kept = record.gather("/data/set")
            return [kept.path.tolist(), kept.predicted.tolist(), kept.probabilities.tolist(), kept.measures()]

    whole = recorded(logits, labels)
    expected = [[str(i) for i in range(30)], whole.predicted.tolist(), whole.probabilities.tolist(), whole.measures()]
    assert processes(3, part) == [(0, expected)] * 3


def test_the_file_holds_what_was_written_and_no_pickle(tmp_path):
    kept = recorded(*scores())
    write_predictions(kept, tmp_path)
    with np.load(tmp_path / PREDICTIONS_FILE, allow_pickle=False) as arrays:
        assert arrays["probabilities"].dtype == np.float16
    again = read_predictions(tmp_path)
    for name, values in vars(kept).items():
        assert np.array_equal(getattr(again, name), values), name


def damage(path, how):
    content = dict(np.load(path))
    if how == "missing":
        del content["nll"]
    elif how == "objects":
        content["path"] = np.array([{}] * 30, dtype=object)
    elif how == "short":
        content["label"] = content["label"][1:]
    elif how == "floats":
        content["label"] = content["label"].astype(float)
    elif how == "classes":
        content["predicted"] = content["predicted"] + 4
    elif how == "unlabelled":
        content["nll"] = np.full(30, np.nan, np.float32)
    elif how == "order":
        content["index"] = content["index"][::-1]
    if how == "bytes":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "text":
        path.write_text("no predictions")
    else:
        np.savez(path, **content)


@pytest.mark.parametrize("how", ["missing", "objects", "short", "floats", "classes", "unlabelled", "order", "bytes", "text"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, how):
    write_predictions(recorded(*scores()), tmp_path)
    damage(tmp_path / PREDICTIONS_FILE, how)
    with pytest.raises(DataError, match=f"{PREDICTIONS_FILE}: not the predictions of a run .*--eval-only") as caught:
        read_predictions(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_without_predictions(tmp_path):
    with pytest.raises(DataError, match=f"has no {PREDICTIONS_FILE} .* --eval-only --model-dir"):
        read_predictions(tmp_path)
