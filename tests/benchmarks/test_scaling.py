"""The comparison of numbers of processes runs, and one process more changes no loss that matters."""

import re


def test_one_and_two_processes(benchmark, tmp_path, capsys):
    scaling = benchmark("scaling")
    words = ["INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "2", "OPTIM.NAME", "sgd"]
    words += ["TRAIN.END_FIGURES", "False"]
    assert scaling.main(["--arrangements", "1x1", "2x1", "--repeats", "1", "--output", str(tmp_path), "--opts", *words]) == 0
    printed = capsys.readouterr().out
    curves = re.findall(r"^ *[12] +([\d.]+) +([\d.]+)$", printed, flags=re.MULTILINE)
    assert len(curves) == 2 and all(abs(float(one) - float(two)) < 1e-2 for one, two in curves)
    assert re.search(r"^2x1 +[\d.]+ +[\d.]+ +[\d.]+$", printed, flags=re.MULTILINE)
    assert (tmp_path / "turn0/2x1/results.json").is_file()
