"""Every trainer, f_in and f_out with TRAIN.GRAPH, where a stand-in on the CPU records steps and repeats them: the bits are those of
steps that run one by one, over epochs, label mappings and last batches of another shape.

The stand-in (helpers/on_graph.py) repeats operations alone, so that whatever a step leaves to Python would show.
"""

from types import MappingProxyType

import pytest
import torch
from on_graph import RecorderOnCpu
from walk import AUGMENTED, BACKBONES, TRAINERS, built, without_files

from dassl_vr.engine import TRAINER_REGISTRY, step_graph
from dassl_vr.engine.models import RegisteredModels
from dassl_vr.reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY
from dassl_vr.reprogramming.mappings import CLASSES, EMBEDDING
from dassl_vr.utils import devices
from dassl_vr.utils.errors import ConfigError

# Two epochs of three batches of 8 images and one of 6
SETTINGS = {
    "DEVICE": "cpu", "TRAIN.GRAPH": True, "OPTIM.MAX_EPOCH": 2, "DATALOADER.TRAIN_X.BATCH_SIZE": 8,
    "DATALOADER.TRAIN_X.DROP_LAST": False, "TEST.NO_TEST": True,
    "TRAIN.KERNELS": "torch",  # the stand-in records torch's operations alone
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_graph(monkeypatch):
    without_files(monkeypatch, 30)
    monkeypatch.setattr(devices, "has_graphs", lambda device: True)
    monkeypatch.setattr(devices, "Recorder", RecorderOnCpu)
    monkeypatch.setattr(RegisteredModels, "raise_if_anomaly", lambda self: None)  # on the CPU it looks at every loss


def compare(monkeypatch, name, kind, settings=MappingProxyType({}), **options):
    """Train with recorded steps and one by one; returns both trainers."""
    trained = []
    for warm_up in (1, 10**9):
        monkeypatch.setattr(step_graph, "WARM_UP", warm_up)
        trained.append(built(name, kind, {**SETTINGS, **settings}, **options))
        trained[-1].train()
    recorded, plain = trained
    for name, model in recorded._models.items():
        others = plain._models[name].state_dict()
        for key, value in model.state_dict().items():
            assert torch.equal(value, others[key]), f"{key} of {name} differs"
    for ours, other in zip(recorded.history, plain.history, strict=True):
        assert ours.keys() == other.keys() and all(ours[key] == other[key] for key in ("loss", "acc"))
    recorder = recorded.train_step._recorder
    assert recorder.recordings == 2 and recorder.replays == 6
    assert plain.train_step._recorder.recordings == 0
    return trained


REFUSED = {"LPPP"}  # its gradients add up over steps
LEARN = {
    name: kind for name, kind in TRAINERS if TRAINER_REGISTRY.get(name).learns and name not in REFUSED
}  # the last kind of each


def mostly_slow(names, quick):
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name, kind", LEARN.items())
def test_every_trainer(monkeypatch, name, kind):
    compare(monkeypatch, name, kind, transforms=AUGMENTED)


@pytest.mark.parametrize("kind", mostly_slow(BACKBONES, {"vit"}))
def test_half_precision(monkeypatch, kind):
    compare(monkeypatch, "SMM", kind, {"TRAIN.PRECISION": "bf16"})


@pytest.mark.parametrize("method", mostly_slow(INPUT_REGISTRY.registered_names(), {"autovp", "decoupled"}))
def test_every_input(monkeypatch, method):
    compare(monkeypatch, "VR", "vit", transforms=(*INPUT_REGISTRY.get(method).transforms, "normalize"), METHOD=method)


@pytest.mark.parametrize("mapping", mostly_slow(MAPPING_REGISTRY.registered_names(), {"head", "blm"}))
def test_every_mapping(monkeypatch, mapping):
    kind = "clip" if MAPPING_REGISTRY.get(mapping).reads in (CLASSES, EMBEDDING) else "vit"
    compare(monkeypatch, "VR", kind, MAPPING=mapping, NAMES_BY="tiny_clip", SOURCES_EACH=2, SENTENCES=4)


@pytest.mark.parametrize("mapping", mostly_slow(("ilm", "blm+"), {"ilm"}))
def test_a_mapping_that_training_makes(monkeypatch, mapping):
    recorded, plain = compare(monkeypatch, "VR", "vit", MAPPING=mapping, MAPPING_PASS="reuse")
    (counts,), (others,) = (trainer.model.f_out.observed.values() for trainer in (recorded, plain))
    assert counts.any() and torch.equal(counts, others)


def test_another_optimizer_with_a_schedule_of_steps(monkeypatch):
    recorded, _ = compare(monkeypatch, "LinearProbe", "vit", {"OPTIM.NAME": "sgd", "OPTIM.PER_ITERATION": True})
    assert type(recorded.get_current_lr()) is float and recorded.get_current_lr() < recorded.cfg.OPTIM.LR


# ------------------------------------------------------------------------------ what the walk is for: each of these has to fail it
def changed(monkeypatch, method, change):
    trainer = TRAINER_REGISTRY.get("LinearProbe")
    original = getattr(trainer, method)
    monkeypatch.setattr(trainer, method, lambda self, *arguments: change(self, original(self, *arguments)))


def test_a_number_that_changes_from_step_to_step(monkeypatch):
    changed(monkeypatch, "train_logits", lambda self, logits: logits * (1 + self.batch_idx))
    with pytest.raises(AssertionError, match="differs"):
        compare(monkeypatch, "LinearProbe", "vit")


def test_a_tensor_that_another_takes_the_place_of(monkeypatch):
    changed(monkeypatch, "before_epoch", lambda self, _: setattr(self, "gain", torch.tensor(1.0 + self.epoch)))
    changed(monkeypatch, "train_logits", lambda self, logits: logits * self.gain)
    with pytest.raises(AssertionError, match="differs"):
        compare(monkeypatch, "LinearProbe", "vit")


# ----------------------------------------------------------------------------------------------------- what is refused, in one line
@pytest.mark.parametrize(
    "method, change, words",
    [
        (
            "train_logits",
            lambda self, x: x * x.max().item(),
            r"the training step cannot be recorded \(Run.* reads a value",
        ),
        ("train_step", lambda self, x: {**x, "step": 1.0}, "the training step gives 'step', which is no tensor"),
    ],
)
def test_a_step_that_cannot_be_recorded(monkeypatch, method, change, words):
    changed(monkeypatch, method, change)
    with pytest.raises(ConfigError, match=rf"^TRAIN.GRAPH: {words}.*; set it to False$"):
        compare(monkeypatch, "LinearProbe", "vit")


def test_a_step_of_a_trainers_own(monkeypatch):
    monkeypatch.setattr(TRAINER_REGISTRY.get("LinearProbe"), "forward_backward", lambda self, batch: {})
    with pytest.raises(ConfigError, match=r"the `forward_backward` of trainer LinearProbe does not go through `train_step`"):
        built("LinearProbe", "vit", SETTINGS).train()


@pytest.mark.parametrize("name", REFUSED)
def test_a_trainer_without_such_a_step(name):
    with pytest.raises(ConfigError, match=rf"^TRAIN.GRAPH: trainer {name} has no step .*; set it to False$"):
        built(name, "clip", SETTINGS)


def test_a_loss_scaler():
    with pytest.raises(ConfigError, match=r"^TRAIN.GRAPH: the loss scaler of TRAIN.PRECISION fp16 .* take bf16 or fp32; set it to"):
        built("LinearProbe", "vit", {**SETTINGS, "TRAIN.PRECISION": "fp16"})


def test_a_device_without_graphs(monkeypatch):
    monkeypatch.undo()
    without_files(monkeypatch, 30)
    with pytest.raises(ConfigError, match=r"^TRAIN.GRAPH: device 'cpu' with torch \S+ has no graphs; set it to False$"):
        built("LinearProbe", "vit", SETTINGS)
