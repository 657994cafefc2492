"""The command for all figures of an accelerator: what it measures where, what it survives; all of it in small."""

import json
import os
import subprocess
import sys

import pytest
import torch


@pytest.fixture
def gpu(benchmark):
    return benchmark("gpu")


@pytest.fixture
def script(tmp_path):
    """script(text): a file of Python that gets `--json FILE` as its last arguments."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(f"import sys, time\n{text}\n")
        return path

    return write


def test_a_figure_that_ends_well(gpu, script, tmp_path):
    figure = gpu.Figure(gpu.SPEED, "one", [script("open(sys.argv[-1], 'w').write('[]')")], 60)
    assert gpu.measure(figure, tmp_path) == "" and json.loads((tmp_path / "one.json").read_text()) == []


@pytest.mark.parametrize(
    "text, limit, why",
    [
        ("open(sys.argv[-1], 'w').write('[')\nsys.exit('no more memory')", 60, "exit code 1: no more memory"),
        ("open(sys.argv[-1], 'w').write('[')\ntime.sleep(600)", 1, "not done after 1 s"),
    ],
)
def test_a_figure_that_fails_leaves_no_file(gpu, script, tmp_path, text, limit, why):
    assert gpu.measure(gpu.Figure(gpu.SPEED, "one", [script(text)], limit), tmp_path) == why
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.log", "script.py"]


def test_a_figure_that_takes_too_long_may_end_what_it_has_started(gpu, script, tmp_path):
    handler = "lambda *_: (open(sys.argv[-1] + '.ended', 'w').close(), sys.exit(1))"
    text = f"import signal\nsignal.signal(signal.SIGTERM, {handler})\ntime.sleep(600)"
    assert gpu.measure(gpu.Figure(gpu.SPEED, "one", [script(text)], 3), tmp_path) == "not done after 3 s"
    assert (tmp_path / "one.json.part.ended").is_file()


def test_what_fails_is_measured_again_and_nothing_else(gpu, script, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    record = {"backbone": "tiny_vit", "precision": "fp32", "seeds": [1], "accuracies": [{"exact": 50.0}]}
    good = script(f"open(sys.argv[-1], 'w').write('''{json.dumps(record)}''')")
    bad = tmp_path / "missing.py"
    todo = [gpu.Figure(gpu.ACCURACY, name, [path], 60) for name, path in (("good", good), ("bad", bad))]
    monkeypatch.setattr(gpu, "figures", lambda device, tiny: (todo, ["a note"]))
    assert gpu.main([str(out), "--device", "cpu"]) == 1
    first = capsys.readouterr().out
    assert "a note" in first and "good: measured" in first and "FAILED bad: exit code 2" in first and "| tiny_vit" in first
    bad.write_text(good.read_text().replace("50.0", "60.0").replace("fp32", "bf16"))
    good.unlink()
    assert gpu.main([str(out), "--device", "cpu"]) == 0
    second = capsys.readouterr().out
    assert "good: there already" in second and "bad: measured" in second and "+10.0" in second


def test_what_is_measured_where(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "has_graphs", lambda device: device.type == "cuda")
    for count in (1, 2):
        monkeypatch.setattr(torch.accelerator, "device_count", lambda count=count: count)
        found, notes = gpu.figures(torch.device("cuda"), False)
        assert [figure.kind for figure in found].count(gpu.PROCESSES) == count - 1
        assert any("one cuda device" in note for note in notes) == (count == 1)
        speed = [figure.command for figure in found if figure.kind == gpu.SPEED]
        assert len(speed) == 8 and all("graph" in command for command in speed)
    on_cpu, _ = gpu.figures(torch.device("cpu"), False)
    assert not any("graph" in command or "graph+compile" in command for command in (figure.command for figure in on_cpu))


@pytest.mark.slow
def test_all_of_it_in_small(repository, tmp_path):
    command = ["bash", str(repository / "benchmarks/gpu.sh"), str(tmp_path), "--tiny", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable})
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(list(tmp_path.glob("*.json"))) == 5 and "| tiny_clip" in done.stdout and "Processes:" in done.stdout
