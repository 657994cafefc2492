"""Several processes train as one does: the same losses, mapping, weights and results up to the last digits."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from dassl_vr.cli.train import build_parser, main, setup_cfg
from dassl_vr.engine import build_trainer, parallel
from dassl_vr.engine.parallel import synchronize_batch_norms, train_together
from dassl_vr.evaluation.predictions import read_predictions
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import MaskGenerator
from dassl_vr.runs import settle
from dassl_vr.utils import distributed
from dassl_vr.utils.seeding import set_random_seed

# With this a difference in the last digit stays there. Adam makes steps of full size of what is nearly 0, and large steps or
# batches of two or three images bring more activations to where ReLU and pooling turn
CALM = [
    "TRAIN.END_FIGURES",
    "False",
    "OPTIM.NAME",
    "sgd",
    "OPTIM.LR",
    "0.1",
    "TRAINER.SMM.MASK_LR",
    "0.01",
    "DATALOADER.TRAIN_X.DROP_LAST",
    "False",
]


def network(kind="layers"):
    """One with a batch norm, and the mask generator, whose first blocks are computed in one step."""
    torch.manual_seed(0)
    if kind == "generator":
        return nn.Sequential(MaskGenerator(patch_size=4), nn.Flatten(), nn.Linear(12, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def after_two_steps(model, images, labels):
    """Gradients and batch-norm statistics after two training steps."""
    for _ in range(2):
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
    return {**{k: p.grad.tolist() for k, p in model.named_parameters()}, **{k: b.tolist() for k, b in model.named_buffers()}}


@pytest.mark.parametrize("number", [2, 4, 6])  # 5 samples: parts of 3 and 2; of 2 and 1; and one that is empty
def test_gradients_and_batch_norm_are_those_of_the_whole_batch(processes, number):
    images, labels = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 3, torch.tensor([0, 1, 2, 3, 4])

    kinds = ("layers", "generator")

    def part():
        with distributed.process_group(use_cuda=False):
            own = slice(distributed.rank(), None, distributed.world_size())
            count = len(labels[own])
            results = []
            for kind in kinds:
                model, share = network(kind), distributed.StepShare()
                train_together([model, model[1]], share)  # a module may be registered as part of two models
                share.set(count, len(labels))
                given = own if count else slice(0, 1)
                results.append(after_two_steps(model, images[given], labels[given]))
            return results

    expected = [after_two_steps(network(kind), images, labels) for kind in kinds]
    for code, results in processes(number, part):
        assert code == 0
        for kind, result, one in zip(kinds, results, expected, strict=True):
            assert result.keys() == one.keys()
            for key, value in one.items():
                np.testing.assert_allclose(result[key], value, rtol=1e-4, atol=1e-6, err_msg=f"{kind} {key}")


def test_the_gradients_of_a_backward_pass_go_together(processes, monkeypatch):
    """Added up over several passes, handed out by `torch.autograd.grad`, cut into messages: the whole batch's each time."""
    x, layers = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), 3

    def model():
        torch.manual_seed(0)
        return nn.Sequential(*(nn.Linear(3, 3) for _ in range(layers)))

    def gradients(net, x):
        net(x).square().mean().backward()
        net(x + 1).square().mean().backward()
        found = [p.grad.tolist() for p in net.parameters()]
        return found + [g.tolist() for g in torch.autograd.grad(net(x).mean(), list(net.parameters()))]

    def part():
        with distributed.process_group(use_cuda=False):
            counts, results, sum_ = [], [], distributed.sum_
            monkeypatch.setattr(distributed, "sum_", lambda tensor: (counts.append(tensor.numel()), sum_(tensor))[1])
            for message in (parallel.MESSAGE, 13):
                monkeypatch.setattr(parallel, "MESSAGE", message)
                net = model()
                train_together([net], distributed.StepShare())
                results.append(gradients(net, x[distributed.rank() :: 2]))
            return results, counts[:2], len(counts)

    expected = gradients(model(), x)
    for code, (results, first, messages) in processes(2, part):
        assert code == 0
        for result in results:
            for got, wanted in zip(result, expected, strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)
        assert first == [12 * layers] * 2, "one message for each of the two passes"
        assert messages == 2 + 2 * 2 + 2 * 2 * layers, "three parameters a message, then one by one"


def test_synchronized_batch_norm_is_torchs_in_evaluation_and_in_state():
    model = network()
    keys, x = list(model.state_dict()), torch.randn(2, 3, 8, 8)
    expected = model.eval()(x)
    for _ in range(2):
        synchronize_batch_norms(model, distributed.StepShare())
    assert type(model[1]).__name__ == "SynchronizedBatchNorm2d" and list(model.state_dict()) == keys
    assert torch.equal(model(x), expected)


def outcome(directory):
    results = json.loads((directory / "results.json").read_text())
    tensors = {}
    for name in ("prompt", "mask_generator"):
        tensors |= torch.load(directory / name / "model.pth.tar-3", weights_only=True)["state_dict"]
    return results, tensors


def assert_close(one, other):
    for key in ("accuracy", "macro_f1", "accuracy_train"):
        assert one[0][key] == pytest.approx(other[0][key], abs=0.5), key  # an image or two between two classes
    for first, second in zip(one[0]["history"], other[0]["history"], strict=True):
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-5) and first["acc"] == pytest.approx(second["acc"])
    assert torch.equal(one[1]["mapping.source_index"], other[1]["mapping.source_index"])
    for key, value in one[1].items():
        torch.testing.assert_close(value, other[1][key], rtol=1e-3, atol=1e-5, msg=key)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, request):
    """(arguments of a run, what one process makes of it): 30 images in batches of 8, the last one of 6."""
    root = request.config.rootpath
    arguments = ["--trainer", "SMM", "--config-file", str(root / "configs/trainers/SMM/tiny_vit.yaml"), "--seed", "1"]
    arguments += ["--dataset-config-file", str(root / "configs/datasets/digits.yaml"), "INPUT.SIZE", "(32, 32)"]
    arguments += ["DATASET.NUM_SHOTS", "3", "DATALOADER.TRAIN_X.BATCH_SIZE", "8", "OPTIM.MAX_EPOCH", "3", "VERBOSE", "False", *CALM]
    directory = tmp_path_factory.mktemp("alone") / "run"
    assert main(["--output-dir", str(directory), *arguments]) == 0
    return arguments, outcome(directory)


def test_two_processes_train_as_one(alone, processes, tmp_path, capfd):
    arguments, expected = alone
    out = tmp_path / "run"
    assert processes(2, lambda: main(["--output-dir", str(out), *arguments])) == [(0, 0)] * 2
    results, tensors = outcome(out)
    assert_close((results, tensors), expected)
    assert results["processes"] == 2
    kept = read_predictions(out)
    assert kept.index.tolist() == list(range(539)) and 100 * kept.right.mean() == pytest.approx(results["accuracy"])
    printed = capfd.readouterr().out
    assert printed.count("Finish training") == 1 and "* total: 539" in printed, "one writer, and every sample once"
    assert (out / "log.txt").read_text().count("epoch [3/3] batch [4/4]") == 1
    assert len({path.name.split(".")[-2] for path in (out / "tensorboard").glob("events*")}) == 1, "the main process's id"


def test_a_last_batch_of_one_sample(processes, tiny_command, tmp_path):
    """Kept as a step of its own, it leaves a process without any."""
    more = ["DATALOADER.TRAIN_X.LAST_OF_ONE", "keep"]
    more += ["DATALOADER.TRAIN_X.BATCH_SIZE", "29", "OPTIM.MAX_EPOCH", "1", "TEST.NO_TEST", "True", *CALM]
    assert main(tiny_command(tmp_path / "alone", *more)) == 0
    assert processes(2, lambda: main(tiny_command(tmp_path / "two", *more))) == [(0, 0)] * 2
    one, two = (json.loads((tmp_path / run / "results.json").read_text())["history"][0] for run in ("alone", "two"))
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5) and one["acc"] == pytest.approx(two["acc"])


def test_cached_features_are_those_of_all_processes(processes, repository, tmp_path):
    arguments = ["--trainer", "CoOp", "--config-file", str(repository / "configs/trainers/CoOp/tiny_clip.yaml"), "--seed", "1"]
    arguments += ["--dataset-config-file", str(repository / "configs/datasets/digits.yaml"), "DATASET.NUM_SHOTS", "3"]
    arguments += ["OPTIM.MAX_EPOCH", "2", "DATALOADER.TRAIN_X.BATCH_SIZE", "8", "TEST.NO_TEST", "True", "VERBOSE", "False"]
    for number in (1, 2):
        command = ["--output-dir", str(tmp_path / str(number)), *arguments]
        assert processes(number, lambda command=command: main(command)) == [(0, 0)] * number
    one, two = (json.loads((tmp_path / run / "results.json").read_text())["history"] for run in ("1", "2"))
    assert [epoch["loss"] for epoch in one] == pytest.approx([epoch["loss"] for epoch in two], rel=1e-4)


def test_batches_of_each_process_tie_an_epoch_to_their_number(processes, tiny_command, tmp_path, capfd):
    command = tiny_command(tmp_path / "run", "--resume", tmp_path / "run", "DATALOADER.BATCH_PER_PROCESS", "True")

    def stopped():
        signal_at(0, 0)
        return main(command)

    assert processes(2, stopped) == [(0, 75)] * 2
    capfd.readouterr()
    assert processes(1, lambda: main(command)) == [(0, 2)]
    assert "end that epoch with --nproc_per_node 2" in capfd.readouterr().err
    assert processes(2, lambda: main(command)) == [(0, 0)] * 2


def test_a_run_continues_with_another_number_of_processes(alone, processes, tmp_path):
    """Stopped within an epoch by a signal to one of two processes, continued by one, stopped again, ended by two."""
    arguments, expected = alone
    command = ["--output-dir", str(tmp_path / "run"), "--resume", str(tmp_path / "run"), *arguments]

    def run(number, epoch=None, batch=None):
        def work():
            if epoch is not None and distributed.rank() == number - 1:
                signal_at(epoch, batch)
            return main(command)

        return processes(number, work)

    assert run(2, 0, 2) == [(0, 75)] * 2
    assert run(1, 1, 3) == [(0, 75)]
    assert run(2) == [(0, 0)] * 2
    assert_close(outcome(tmp_path / "run"), expected)


def test_a_mapping_of_what_training_saw_is_of_all_processes(alone, processes, tmp_path):
    """MAPPING_PASS reuse: in one process, and in two of which one is stopped within an epoch and one alone continues."""
    arguments = [*alone[0], "TRAINER.SMM.MAPPING_PASS", "reuse"]
    one, two = tmp_path / "one", tmp_path / "two"

    def run(directory, stop=False):
        def work():
            if stop and distributed.rank() == 0:
                signal_at(1, 2)
            return main(["--output-dir", str(directory), "--resume", str(directory), *arguments])

        return work

    assert processes(1, run(one)) == [(0, 0)]
    assert processes(2, run(two, stop=True)) == [(0, 75)] * 2
    assert processes(1, run(two)) == [(0, 0)]
    seen = [torch.load(directory / "resume.pt", weights_only=True)["extra"] for directory in (one, two)]
    (counts,) = seen[0].values()
    assert counts.sum() == 30, "every sample once, of the last epoch"
    assert all(torch.equal(value, seen[1][key]) for key, value in seen[0].items())
    results, others = outcome(two), outcome(one)
    for key in ("mapping.source_index", "delta"):
        torch.testing.assert_close(results[1][key], others[1][key], rtol=1e-2, atol=1e-2)
    assert not torch.equal(others[1]["mapping.source_index"], alone[1][1]["mapping.source_index"]), "not the exact pass"


def signal_at(epoch, batch):
    """Have this process get SIGUSR1 in the step of that number (both from 0)."""
    from dassl_vr.engine import TrainerX

    update = TrainerX.model_update

    def update_and_signal(self, names=None):
        update(self, names)
        if (self.epoch, self.batch_idx) == (epoch, batch):
            os.kill(os.getpid(), signal.SIGUSR1)

    TrainerX.model_update = update_and_signal


def test_every_sample_is_someones_and_nobody_elses(processes, tiny_command, tmp_path):
    def seen():
        load_plugins()
        with distributed.process_group(use_cuda=False):
            cfg = setup_cfg(build_parser().parse_args(tiny_command(tmp_path / "run", "DATALOADER.TEST.BATCH_SIZE", "7")))
            settle(cfg)
            set_random_seed(1)
            trainer = build_trainer(cfg)
            loaders = [trainer.train_loader_x, trainer.dm.train_loader_all, trainer.test_loader]
            return [[batch["index"].tolist() for batch in loader] for loader in loaders]

    results = processes(4, seen)
    assert [code for code, _ in results] == [0] * 4
    train, mapping, test = ([result[i] for _, result in results] for i in range(3))
    assert [[len(part) for part in batches] for batches in train] == 2 * [[2, 2, 2, 2]] + 2 * [[2, 2, 2, 1]], "8, 8, 8 and 6"
    for split, total in ((train, 30), (mapping, 30), (test, 539)):
        assert sorted(index for batches in split for part in batches for index in part) == list(range(total))


def test_all_stop_at_a_loss_that_one_finds_not_finite(processes, tiny_command, tmp_path, capfd):
    def spoil_one():
        from dassl_vr.engine import TrainerX

        anomaly = TrainerX.detect_anomaly
        if distributed.rank() == 1:
            TrainerX.detect_anomaly = lambda self, loss: anomaly(self, loss * float("nan"))
        return main(tiny_command(tmp_path / "run"))

    assert processes(2, spoil_one) == [(0, 2)] * 2
    error = capfd.readouterr().err
    # What says who was first lives in the first process here (with torchrun in a process of its own); when that has left, the
    # other prints the same line, beside torch's own complaint
    (line,) = {line for line in error.splitlines() if line.startswith("error")}
    assert "NaN or infinite in epoch 1" in line
    assert not (tmp_path / "run" / "resume.pt").exists()


def test_an_error_of_one_process_is_reported_once(processes, tiny_command, tmp_path, capfd):
    def fail_one():
        from dassl_vr.engine import TrainerX
        from dassl_vr.utils.errors import DataError

        def fail(self, loss):
            raise DataError("image cat.png: cannot be read")

        if distributed.rank() == 1:
            TrainerX.model_backward = fail
        return main(tiny_command(tmp_path / "run"))

    assert processes(2, fail_one) == [(0, 2)] * 2
    assert capfd.readouterr().err == "error: image cat.png: cannot be read\n"


def test_the_batch_may_be_of_each_process(processes, tiny_command, tmp_path):
    def steps():
        with distributed.process_group(use_cuda=False):
            command = tiny_command(tmp_path / "run", "DATALOADER.BATCH_PER_PROCESS", "True")
            cfg = setup_cfg(build_parser().parse_args(command))
            settle(cfg)
            return [len(batch["label"]) for batch in build_trainer(cfg).train_loader_x]

    load_plugins()
    assert processes(2, steps) == [(0, [8, 7])] * 2, "30 images in batches of 16"
