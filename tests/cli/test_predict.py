"""`predict.py`: which images, what is printed, how it ends."""

import csv
import io
import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from dassl_vr.cli.predict import find_images
from dassl_vr.cli.predict import main as predict


@pytest.fixture
def photos(tmp_path):
    """Two images, one of them deeper, and a file that is none."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "deeper").mkdir(parents=True)
    for name in ("b.png", "deeper/a.jpg"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_a_directory_in_batches(run, photos, capsys):
    assert predict([str(run), str(photos), "--batch-size", "1"]) == 0
    one_by_one = capsys.readouterr().out
    assert [line.partition(":")[0] for line in one_by_one.splitlines()] == [str(photos / "b.png"), str(photos / "deeper/a.jpg")]
    assert predict([str(run), str(photos / "**" / "*.*g"), str(photos / "b.png")]) == 0, "each once"
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(one_by_one.splitlines())


def test_json_and_csv_say_the_same(run, photos, capsys):
    assert predict([str(run), str(photos), "--topk", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["skipped"] == []
    assert predict([str(run), str(photos), "--topk", "3", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = [
        (entry["path"], str(rank), guess["class"], pytest.approx(guess["probability"], rel=1e-5))
        for entry in said["predictions"]
        for rank, guess in enumerate(entry["classes"], start=1)
    ]
    assert [(row["path"], row["rank"], row["class"], float(row["probability"])) for row in rows] == expected
    assert len(rows) == 6


def test_unreadable_files_are_named_and_skipped(run, photos, capsys):
    (photos / "broken.png").write_bytes(b"\x89PNG broken")
    assert predict([str(run), str(photos), str(photos / "absent.png"), "--json"]) == 1
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert len(said["predictions"]) == 2
    assert [entry["path"] for entry in said["skipped"]] == [str(photos / "broken.png"), str(photos / "absent.png")]
    assert printed.err.count("skipped: ") == 2 and "ON_BAD_IMAGE" not in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.png"], "none of 1 images could be read"),
        (["*.gif"], "matches no file"),
        (["."], "no image files"),
        (["x.png", "--topk", "0"], "--topk 0"),
        (["x.png", "--json", "--csv"], "not allowed"),
    ],
)
def test_user_errors(run, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert predict([str(run), *arguments]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_the_file_at_the_top(run, photos, repository, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict.py", str(run), str(photos / "b.png"), "--csv"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(repository / "predict.py"), run_name="__main__")
    assert end.value.code == 0 and capsys.readouterr().out.startswith("path,rank,class,probability\n")


@pytest.mark.parametrize("pattern", ["**/*.png", "ant/**", "**/ant/**/*.png", "./**/[0-9].png", "{root}/**/*.png"])
def test_patterns_enter_each_folder_once(tmp_path, monkeypatch, pattern):
    """Two links that lead up would double what is found with each level."""
    for name in ("ant/1.png", "ant/deep/2.png", ".hidden/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("a", "b"):
        (tmp_path / "ant" / name).symlink_to("..", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    found = find_images([pattern.format(root=tmp_path)])
    prefix = {"{": f"{tmp_path}/", ".": "./"}.get(pattern[0], "")
    assert found == [f"{prefix}ant/1.png", f"{prefix}ant/deep/2.png"]
