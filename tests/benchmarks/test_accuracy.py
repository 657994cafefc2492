"""The comparison of accuracies trains all three loops."""

import re


def test_three_loops(benchmark, capsys):
    accuracy = benchmark("accuracy")
    arguments = ["--images", "60", "--size", "32", "--epochs", "1", "--batch", "20", "--seeds", "4", "5"]
    assert accuracy.main(arguments) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"seed [45]: textbook [\d.]+ %, exact [\d.]+ %, reuse [\d.]+ %", printed)) == 2
    rows = re.findall(r"^(\w+) +[\d.]+ \+- [\d.]+ +(\S+) \+- [\d.]+ +[+-]?[\d.]+$", printed, flags=re.MULTILINE)
    assert [name for name, _ in rows] == ["textbook", "exact", "reuse"] and float(rows[0][1]) == 0
