"""Exact and reused mapping passes beside each other."""

import json

import pytest


def test_a_row_is_made_of_pairs_with_the_same_seeds(benchmark, tmp_path, capsys):
    command = ["--trainers", "SMM", "--backbone", "tiny_vit", "--seeds", "1", "2", "--output", str(tmp_path)]
    command += ["--opts", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "2"]
    benchmark("mapping_pass").main(command)
    header, _, row = capsys.readouterr().out.splitlines()[-3:]
    assert header.split()[:2] == ["trainer", "data"] and row.split()[:2] == ["SMM", "digits"]

    accuracy = {}
    for mapping_pass in ("exact", "reuse"):
        for seed in (1, 2):
            run = tmp_path / "digits/tiny_vit" / f"SMM-{mapping_pass}" / f"seed{seed}"
            assert f"MAPPING_PASS: {mapping_pass}" in (run / "config.yaml").read_text()
            accuracy[mapping_pass, seed] = json.loads((run / "results.json").read_text())["accuracy"]
    differences = [accuracy["reuse", seed] - accuracy["exact", seed] for seed in (1, 2)]
    assert float(row.split()[8]) == pytest.approx(sum(differences) / 2, abs=0.006)
    low, high = float(row.split()[11]), float(row.split()[13])
    assert (low + high) / 2 == pytest.approx(sum(differences) / 2, abs=0.02)
    assert high - low == pytest.approx(12.706 * abs(differences[0] - differences[1]), rel=0.01, abs=0.02)  # t of 2 values
