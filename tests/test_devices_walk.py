"""Every trainer, f_in and f_out on an accelerator, whose part `meta` plays: nothing is left on the CPU, no step waits for it.

The network is built on the CPU and then moved as a run moves it. What follows is a run as it is, without its files: optimizers,
features that are cached, the label mapping, training steps, tests. `MAY_READ` in helpers/on_meta.py lists the places that may wait.
"""

import ast
import importlib
import inspect
from contextlib import nullcontext

import pytest
import torch
from on_meta import MAY_READ, MAY_READ_WITHOUT_DOUBLE, META, DeviceFault, OnMeta
from walk import AUGMENTED, BACKBONES, TRAINERS, built, known_backbone, pretrained, without_files

from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.engine.evaluation_pass import evidence
from dassl_vr.methods import FeatureLearning, TextPromptLearning, prompt_learning
from dassl_vr.reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY
from dassl_vr.reprogramming.mappings import CLASSES, EMBEDDING
from dassl_vr.utils import devices
from dassl_vr.utils.errors import ConfigError


def backbone_on_the_cpu(cfg, precision="fp32", frozen=True):
    """Its text features and the like are computed where there are values; the network around it is moved with all that it has."""
    backbone = known_backbone(cfg, precision, frozen)
    backbone.to = lambda device: backbone
    return backbone


@pytest.fixture(autouse=True)
def on_meta(monkeypatch):
    """What stands between a run and a device without values: its files, and what is built."""
    without_files(monkeypatch, 10)
    monkeypatch.setattr(devices, "open_device", lambda *args: META)
    monkeypatch.setattr(prompt_learning, "backbone_from_cfg", backbone_on_the_cpu)


def walk(trainer, kind, *settings, transforms=("normalize",), float64=True, **options):
    """Train and test `trainer` on `meta`.

    Args:
        settings: KEY, value, ... of the configuration.
        options: of `TRAINER.<NAME>`.

    Returns:
        the trainer and its `OnMeta`.
    """
    settings = {"OPTIM.MAX_EPOCH": 1, "DATALOADER.TRAIN_X.BATCH_SIZE": 10, **dict(zip(settings[::2], settings[1::2]))}
    with OnMeta(float64) as device:
        trainer = built(trainer, kind, settings, transforms, **options)
        trainer.train()
        evidence(trainer)
    return trainer, device


@pytest.mark.parametrize("name, kind", TRAINERS)
def test_every_trainer(name, kind):
    # Augmented on the device: features are computed anew in each of the two epochs
    trainer, device = walk(name, kind, "OPTIM.MAX_EPOCH", 2, transforms=AUGMENTED)
    assert len(trainer.history) == (2 if trainer.learns else 0) and device.operations > 20
    tensors = [tensor for model in (trainer.model, *trainer._models.values()) for tensor in (*model.parameters(), *model.buffers())]
    states = [state for optimizer in trainer._optims.values() if optimizer for state in optimizer.state.values()]
    moments = [value for state in states for name, value in state.items() if name != "step" and value is not None]
    assert tensors and all(tensor.is_meta for tensor in (*tensors, *moments))
    assert bool(moments) == trainer.learns


def test_a_store_of_images_on_the_device():
    walk("VR", "vit", "DATALOADER.STORE", "device", transforms=AUGMENTED)


# Of those that learn in front of, or behind, features of images: where no transform is random these are cached
CACHED = [(name, kind) for name, kind in TRAINERS if issubclass(TRAINER_REGISTRY.get(name), (TextPromptLearning, FeatureLearning))]


@pytest.mark.parametrize("name, kind", CACHED)
def test_every_cache_of_features(name, kind):
    trainer, _ = walk(name, kind)
    known = getattr(trainer, "features", None)
    assert (trainer._features if known is None else known.version(0)).is_meta


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("method", INPUT_REGISTRY.registered_names())
def test_every_input(method, kind):
    walk("VR", kind, transforms=(*INPUT_REGISTRY.get(method).transforms, "normalize"), METHOD=method, MAPPING="ilm")


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("mapping", MAPPING_REGISTRY.registered_names())
def test_every_mapping(mapping, kind):
    of_sentences = MAPPING_REGISTRY.get(mapping).reads in (CLASSES, EMBEDDING)
    expected = pytest.raises(ConfigError, match="needs a text tower") if of_sentences and kind != "clip" else nullcontext()
    with expected:
        walk("VR", kind, MAPPING=mapping, NAMES_BY="tiny_clip", SOURCES_EACH=2, SENTENCES=4)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("vit", {"MAPPING": "blm+", "MAPPING_PASS": "reuse"}),
        ("clip", {"METHOD": "dvp", "MAPPING": "dvp", "SENTENCES": 4}),
        ("cnn", {"MAPPING": "flm", "MAPPING_ON": "plain"}),
    ],
)
def test_other_ways_to_a_mapping(kind, options):
    transforms = (*INPUT_REGISTRY.get(options.get("METHOD", "full")).transforms, "normalize")
    walk("VR", kind, "OPTIM.MAX_EPOCH", 2, transforms=transforms, **options)


@pytest.mark.parametrize(
    "trainer, kind, options",
    [("SMM", "cnn", {"MAPPING": "blm+"}), ("LPPP", "clip", {}), ("VR", "clip", {"MAPPING": "dvp", "SENTENCES": 4})],
)
def test_a_device_without_double_precision(monkeypatch, trainer, kind, options):
    monkeypatch.setattr(devices, "has_float64", lambda device: device.type != "meta")
    walk(trainer, kind, float64=False, **options)


# ------------------------------------------------------------------------------- what the walk is for: each of these has to fail it
def reads_a_value(value):
    value.max().item()
    return value


def asks_a_tensor(value):
    return value if value.sum() > 0 else -value


def goes_to_the_cpu(value):
    value.cpu()
    return value


def takes_one_from_the_cpu(value):
    return value + torch.ones(value.shape[1:])


def chooses_by_a_mask(value):
    return value + value[value > 0].sum()


def computes_in_double(value):
    return value.double().float()


@pytest.mark.parametrize("method", ["train_logits", "model_inference"])
@pytest.mark.parametrize(
    "mutation, words",
    [
        (reads_a_value, "reads a value of the device"),
        (asks_a_tensor, "reads a value of the device"),
        (goes_to_the_cpu, "reads a value of the device"),
        (takes_one_from_the_cpu, r"takes a tensor \(10,\) that is on the CPU"),
        (chooses_by_a_mask, "reads a value of the device"),
    ],
)
def test_a_step_with_a_fault_fails(monkeypatch, mutation, words, method):
    trainer = TRAINER_REGISTRY.get("LinearProbe")
    original = getattr(trainer, method)
    monkeypatch.setattr(trainer, method, lambda self, *arguments: mutation(original(self, *arguments)))
    with pytest.raises(DeviceFault, match=rf"^tests/test_devices_walk.py:\d+ in {mutation.__name__}: aten\S+ .*{words}"):
        walk("LinearProbe", "cnn")


@pytest.mark.parametrize("mutation", [reads_a_value, goes_to_the_cpu, takes_one_from_the_cpu])
@pytest.mark.parametrize("place", ["a mapping pass", "a pass for features"])
def test_a_pass_with_a_fault_fails(monkeypatch, mutation, place):
    backbone = type(pretrained("clip"))
    original = backbone.features
    monkeypatch.setattr(backbone, "features", lambda self, x: mutation(original(self, x)) if passing(place) else original(self, x))
    with pytest.raises(DeviceFault, match=rf"in {mutation.__name__}: "):
        walk("VR", "clip", MAPPING="ilm") if place == "a mapping pass" else walk("CoOp", "clip")


def passing(place):
    name = "refresh_mapping" if place == "a mapping pass" else "_computed"
    return any(frame.function == name for frame in inspect.stack(0))


def test_what_a_module_keeps_outside_of_its_buffers_is_left_behind(monkeypatch):
    f_in = INPUT_REGISTRY.get("full")
    init, forward = f_in.__init__, f_in.forward

    def build(self, *arguments, **options):
        init(self, *arguments, **options)
        self.gain = torch.ones(3, 1, 1)

    monkeypatch.setattr(f_in, "__init__", build)
    monkeypatch.setattr(f_in, "forward", lambda self, x: forward(self, x) * self.gain)
    with pytest.raises(DeviceFault, match=r"in <lambda>: aten.mul.Tensor .* takes a tensor \(3, 1, 1\) that is on the CPU"):
        walk("VR", "vit", METHOD="full")


def test_double_precision_is_noticed(monkeypatch):
    trainer = TRAINER_REGISTRY.get("LinearProbe")
    original = trainer.train_logits
    monkeypatch.setattr(trainer, "train_logits", lambda self, *arguments: computes_in_double(original(self, *arguments)))
    with pytest.raises(DeviceFault, match="in computes_in_double: .* computes in double precision"):
        walk("LinearProbe", "cnn", float64=False)


def test_the_places_that_may_read_are_there():
    for module, name in MAY_READ | MAY_READ_WITHOUT_DOUBLE:
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{module} has no {name}"
