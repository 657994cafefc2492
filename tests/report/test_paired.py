"""Two methods on the same images: the tests against slow obvious forms, and the command."""

import csv
import io
import json
from math import comb

import numpy as np
import pytest
from scipy import stats

from dassl_vr.cli.report import main
from dassl_vr.evaluation.predictions import StoredPredictions, write_predictions
from dassl_vr.report.paired import bootstrap, mcnemar


def test_mcnemar_by_counting_coin_tosses():
    for only_first, only_second in ((0, 0), (5, 5), (1, 9), (12, 3), (0, 4)):
        tosses = only_first + only_second
        likelier = [comb(tosses, heads) for heads in range(tosses + 1)]
        expected = sum(count for count in likelier if count <= comb(tosses, only_first)) / 2**tosses
        assert mcnemar(only_first, only_second) == pytest.approx(expected)


def resampled(differences, resamples, with_seeds):
    """Image by image, seed by seed."""
    rng = np.random.default_rng(1)
    seeds, images = differences.shape
    means = []
    for _ in range(resamples):
        rows = rng.integers(seeds, size=seeds) if with_seeds else np.arange(seeds)
        columns = rng.integers(images, size=images)
        means.append(np.mean([differences[row][columns].mean() for row in rows]))
    return np.percentile(means, (2.5, 97.5))


def differences(seeds=3, images=200):
    rng = np.random.default_rng(0)
    hard = rng.random(images) < 0.4  # the same images are hard in all seeds
    first = rng.random((seeds, images)) < np.where(hard, 0.6, 0.95)
    second = rng.random((seeds, images)) < np.where(hard, 0.4, 0.93) - 0.1 * np.arange(seeds)[:, None]
    return 100.0 * (first.astype(float) - second)


def test_intervals_over_images_and_over_seeds_resample_by_resample():
    values = differences()
    found = bootstrap(values)
    np.testing.assert_allclose(found.images, resampled(values, 2000, with_seeds=False), atol=0.5)
    np.testing.assert_allclose(found.images_and_seeds, resampled(values, 2000, with_seeds=True), atol=0.9)
    width = [high - low for low, high in (found.images, found.images_and_seeds)]
    assert width[1] > 1.2 * width[0], "these seeds differ"
    assert bootstrap(values) == found, "nothing is drawn from the clock"


def test_the_interval_of_one_seed_is_scipys():
    values = differences(seeds=1)
    low, high = stats.bootstrap((values[0],), np.mean, method="percentile", n_resamples=5000, rng=0).confidence_interval
    np.testing.assert_allclose(bootstrap(values).seeds[0], (low, high), atol=0.6)
    assert bootstrap(values).images == bootstrap(values).images_and_seeds


def predictions(right, classes=10, **changes):
    """Of images of which these are right."""
    number = len(right)
    label = np.arange(number) % classes
    predicted = np.where(right, label, (label + 1) % classes)
    content = {
        "index": np.arange(number),
        "path": np.array([f"images/{index}.png" for index in range(number)]),
        "label": label,
        "predicted": predicted,
        "confidence": np.full(number, 0.5, np.float32),
        "nll": np.ones(number, np.float32),
        "probabilities": np.zeros((number, classes), np.float16),
    }
    return StoredPredictions(**{**content, **changes})


@pytest.fixture
def make_pair(make_run):
    """make_pair(rights of SMM, rights of VR full, ...) for seeds 0, 1, ...; {key: value} changes the results of VR's last run."""

    def make(smm, vr, predictions_of_vr=None, **changes):
        for trainer, method, rights in (("SMM", None, smm), ("VR", "full", vr)):
            for seed, right in enumerate(rights):
                last = trainer == "VR" and seed == len(rights) - 1
                more = {"evaluated_split": "test", **(changes if last else {})}
                directory = make_run(trainer, method=method, seed=seed, accuracy=100 * float(np.mean(right)), **more)
                write_predictions(predictions(right, **((predictions_of_vr or {}) if last else {})), directory)
        return directory

    return make


def rows_of(capsys):
    text = capsys.readouterr().out
    return list(csv.DictReader(io.StringIO(text.split("\n\n")[1])))


def test_the_table_of_a_pair(make_pair, tmp_path, capsys):
    smm = [np.arange(100) < 90, np.arange(100) < 88]
    vr = [np.arange(100) % 5 > 0, np.arange(100) % 4 > 0]
    make_pair(smm, vr)
    assert main([str(tmp_path / "output"), "--pair", "smm", "VR-full", "--format", "csv"]) == 0
    first, second, images, both = rows_of(capsys)
    assert [first[name] for name in ("A", "B", "seed", "images", "A %", "B %")] == ["SMM", "VR full", "0", "100", "90.0", "80.0"]
    assert (first["only A right"], first["only B right"]) == ("18", "8")
    assert first["McNemar p"] == f"{stats.binomtest(18, 26).pvalue:.3g}"
    assert second["A - B"].endswith("+13.0") and images["A - B"].endswith("+11.5")
    assert (images["drawn anew"], both["drawn anew"], both["seed"]) == ("images", "images and seeds", "mean of 2")
    assert "to" in images["95 % interval"] and not images["McNemar p"]


def test_one_recipe_against_another(make_run, tmp_path, capsys):
    for tag, right in (("default", np.ones(50, bool)), ("robust", np.arange(50) > 9)):
        write_predictions(predictions(right), make_run("SMM", seed=0, tag=tag, evaluated_split="test"))
    assert main([str(tmp_path / "output"), "--pair", "SMM/default", "SMM/robust", "--format", "csv"]) == 0
    (row,) = rows_of(capsys)
    assert (row["A"], row["B"], row["A - B"].lstrip("'")) == ("SMM, default", "SMM, robust", "+20.0")
    assert main([str(tmp_path / "output"), "--pair", "SMM", "SMM"]) == 2
    assert "name recipes as in SMM/default" in capsys.readouterr().err


def test_recipes_may_differ_where_there_is_no_choice(make_run, tmp_path, capsys):
    """As those of a method that learns nothing do in a comparison."""
    for trainer, tag in (("ZeroshotCLIP", "16shots"), ("CoOp", "16shots-ep3")):
        write_predictions(predictions(SOME), make_run(trainer, seed=0, tag=tag, evaluated_split="test"))
    assert main([str(tmp_path / "output"), "--pair", "ZeroshotCLIP", "CoOp", "--format", "csv"]) == 0
    (row,) = rows_of(capsys)
    assert (row["A"], row["B"], row["McNemar p"]) == ("ZeroshotCLIP, 16shots", "CoOp, 16shots-ep3", "1")
    write_predictions(predictions(SOME), make_run("CoOp", seed=0, tag="16shots-ep9", evaluated_split="test"))
    assert main([str(tmp_path / "output"), "--pair", "ZeroshotCLIP", "CoOp"]) == 2
    assert main([str(tmp_path / "output"), "--pair", "ZeroshotCLIP", "CoOp/16shots-ep9"]) == 0


SOME = np.arange(40) > 3


@pytest.mark.parametrize(
    ("results", "of_vr", "expected"),
    [
        ({"split_sha256": "b" * 64}, {}, "not tested on the same split (split_sha256 is aaaaaaaaaaaa and bbbbbbbbbbbb)"),
        ({"split_sha256": None}, {}, "split_sha256 is aaaaaaaaaaaa and not known"),
        ({"evaluated_split": "val"}, {}, "evaluated_split is test and val"),
        ({}, {"index": np.arange(1, 41)}, "hold predictions of different images"),
    ],
)
def test_what_is_no_pair_ends_in_one_line(make_pair, tmp_path, capsys, results, of_vr, expected):
    make_pair([SOME], [SOME], of_vr, **results)
    assert main([str(tmp_path / "output"), "--pair", "SMM", "VR-full"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1 and expected in error[0]


def test_images_without_a_label_are_left_out(make_run, tmp_path, capsys):
    label = np.where(np.arange(40) < 10, -1, np.arange(40) % 10)
    nll = np.where(label < 0, np.nan, 1).astype(np.float32)
    runs = [make_run(trainer, seed=0, evaluated_split="test") for trainer in ("SMM", "CoOp")]
    for run in runs:
        write_predictions(predictions(SOME, label=label, nll=nll), run)
    assert main([str(tmp_path / "output"), "--pair", "SMM", "CoOp", "--format", "csv"]) == 0
    assert rows_of(capsys)[0]["images"] == "30"
    for run in runs:
        write_predictions(predictions(SOME, label=np.full(40, -1), nll=np.full(40, np.nan, np.float32)), run)
    assert main([str(tmp_path / "output"), "--pair", "SMM", "CoOp"]) == 2
    assert "no test image has a label" in capsys.readouterr().err


def test_missing_predictions_say_how_to_get_them(make_pair, tmp_path, capsys):
    directory = make_pair([SOME], [SOME])
    (directory / "predictions.npz").unlink()
    assert main([str(tmp_path / "output"), "--pair", "SMM", "VR-full"]) == 2
    assert f"--eval-only --model-dir {directory} --output-dir NEW" in capsys.readouterr().err


def test_names_that_are_not_there(make_pair, tmp_path, capsys):
    make_pair([SOME], [SOME])
    assert main([str(tmp_path / "output"), "--pair", "SMM", "CoOp"]) == 2
    assert "--pair CoOp: no finished runs of that name (there are: SMM/default, VR-full/default)" in capsys.readouterr().err


def test_seeds_with_other_test_images_are_not_averaged(make_pair, make_run, tmp_path, capsys):
    make_pair([SOME], [SOME])
    other = predictions(SOME, path=np.array([f"other/{index}.png" for index in range(40)]))
    for trainer, method in (("SMM", None), ("VR", "full")):
        run = make_run(trainer, method=method, seed=1, split_sha256="c" * 64, shots=16, evaluated_split="test")
        write_predictions(other, run)
        results = json.loads((run / "results.json").read_text())
        (run / "results.json").write_text(json.dumps(results))
    assert main([str(tmp_path / "output"), "--pair", "SMM", "VR-full", "--format", "csv"]) == 0
    text = capsys.readouterr()
    assert "each seed has other test images" in text.err and "mean of" not in text.out
