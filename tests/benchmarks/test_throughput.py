"""The speed benchmark runs, and what it compares is the same function."""

import json

import pytest
import torch


def test_a_record_per_backbone(tmp_path, benchmark, capsys):
    throughput = benchmark("throughput")
    file = tmp_path / "records.json"
    arguments = ["--device", "cpu", "--size", "32", "--images", "30", "--batch", "10", "--repeats", "1", "--workers", "0"]
    variants = ["--variants", "torch", "layers", "autograd", "graph"]  # of which a CPU has none
    assert throughput.main(["--backbones", "lite0", *arguments, *variants, "--json", str(file)]) == 0
    (record,) = json.loads(file.read_text())
    assert list(record) == throughput.FIELDS
    assert (record["backbone"], record["device"], record["precision"], record["batch"]) == ("lite0", "cpu", "fp32", 10)
    assert all(record[key] > 0 for key in throughput.FIELDS[4:12])
    for variant in ("torch", "layers", "autograd"):
        assert all(value > 0 for value in record["variants"][variant].values())
    assert record["device_name"] == "CPU"
    assert "TRAIN.GRAPH: device 'cpu'" in record["variants"]["graph"]["failed"] and record["bound_graph_images_per_s"] is None
    assert record["peak_memory_bytes"] > 50e6
    assert "reuse / textbook" in capsys.readouterr().out


@pytest.mark.parametrize("backbone", ["lite0", "tiny_clip"])
def test_textbook_and_ours_compute_the_same(tmp_path, benchmark, backbone):
    throughput, textbook = benchmark("throughput"), benchmark("textbook")
    throughput.load_plugins()
    throughput.write_images(tmp_path / "images", 20, 20)
    cfg = throughput.config("SMM", tmp_path / "images", tmp_path / "out", backbone, 32, 10)
    ours = throughput.Ours(cfg).trainer
    assert ours.dm.dataset.lab2cname == dict(enumerate("0123456789"))
    source = ours.model.backbone
    network = throughput.textbook_network(cfg, source)
    loop = textbook.Textbook(tmp_path / "images", network, 32, *throughput.normalization(source), 10, 0, "cpu")
    with torch.no_grad():
        ours.model.f_in.delta.normal_()
        loop.prompt.pattern.copy_(ours.model.f_in.delta)
    state = ours.model.f_in.generator.state_dict()
    loop.prompt.generator.load_state_dict({k.replace("body.", "").replace("last.", "15."): v for k, v in state.items()})

    batch, (x, labels) = next(iter(ours.test_loader)), next(iter(loop.test_loader))
    assert torch.equal(batch["label"], labels)
    assert torch.allclose(batch["img"], x, atol=1e-5), "both prepare images alike"
    for training in (True, False):
        ours.model.f_in.train(training), loop.prompt.train(training)
        one, other = source.logits(ours.model.f_in(x)), network(loop.prompt(x))
        assert (one - other).abs().max() < 1e-4 * other.abs().max().clamp(min=1)
    ours.model.f_out.reset()
    logits = torch.randn(50, len(source.source_classes))
    targets = torch.arange(50) % 10
    ours.model.f_out.observe(logits, targets)
    ours.model.f_out.update()
    expected = textbook.frequent_mapping(logits.argmax(1), targets, len(source.source_classes), 10)
    assert torch.equal(ours.model.f_out.source_index, expected)
