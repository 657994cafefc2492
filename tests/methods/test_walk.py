"""Every f_in with every f_out on every kind of backbone: a step moves what is declared and nothing else, or there is one line."""

import functools

import pytest
import torch
from torch.nn import functional as F

from dassl_vr.backbones import build_backbone
from dassl_vr.config import get_cfg_default, merge_mapping, read_yaml
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods.words import words_of
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY
from dassl_vr.reprogramming.mappings import CLASSES, EMBEDDING

load_plugins()
NAMES = [*"0123456789"]
BACKBONES = {"cnn": "lite0", "vit": "tiny_vit", "clip": "tiny_clip"}
OF_TEXT = {name for name in MAPPING_REGISTRY.registered_names() if MAPPING_REGISTRY.get(name).reads in (CLASSES, EMBEDDING)}
REFUSED = {"cnn": OF_TEXT, "vit": OF_TEXT, "clip": set()}  # kind -> what is not for it


class Built:
    """What `words_of` asks of a trainer."""

    def __init__(self, cfg, model):
        self.cfg, self.model, self.options, self.device = cfg, model, cfg.TRAINER.VR, torch.device("cpu")
        self.dm = type("Manager", (), {"dataset": type("Data", (), {"classnames": NAMES})})


@pytest.fixture(autouse=True)
def one_text_tower(monkeypatch):
    """Names are compared by a CLIP that is built once."""
    monkeypatch.setattr("dassl_vr.methods.words.build_backbone", lambda name, verbose: text_tower(name))


@functools.cache
def text_tower(name):
    return build_backbone(name, verbose=False)


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    return build_backbone(BACKBONES[request.param], size=32 if request.param == "cnn" else 64, verbose=False)


def configuration(repository, backbone, method, mapping):
    cfg = get_cfg_default()
    path = repository / f"configs/trainers/VR/{BACKBONES[backbone.kind]}.yaml"
    merge_mapping(cfg, read_yaml(path), path)
    side = backbone.spec.input_size
    cfg.DATASET.NAME, cfg.SEED, cfg.INPUT.SIZE, cfg.INPUT.PAD_SIDE = "digits", 1, (side, side), 150
    cfg.DATASET.TEMPLATE = "a photo of the digit {}."
    if INPUT_REGISTRY.get(method).transforms:
        cfg.INPUT.TRANSFORMS = ("vr_pad", "normalize")
    node = cfg.TRAINER.VR
    node.METHOD, node.MAPPING, node.SOURCES_EACH, node.SENTENCES, node.NAMES_BY = method, mapping, 2, 4, "tiny_clip"
    return cfg


def snapshot(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("mapping", MAPPING_REGISTRY.registered_names())
def test_a_step_moves_what_is_declared(repository, backbone, mapping):
    trainer = TRAINER_REGISTRY.get("VR")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, backbone.spec.input_size, backbone.spec.input_size, generator=generator)
    labels = torch.arange(2)
    for method in INPUT_REGISTRY.registered_names():
        cfg = configuration(repository, backbone, method, mapping)
        several = mapping == "text" and method in ("dvp", "dvp_lite")
        if mapping in REFUSED[backbone.kind] or several:
            reason = "needs a text tower" if mapping in REFUSED[backbone.kind] else "expects as many, and an f_in with one view"
            with pytest.raises(ValueError, match=f"MAPPING {mapping} {reason}") as caught:
                trainer.build_network(cfg, backbone, NAMES)
            assert "\n" not in str(caught.value)
            continue
        torch.manual_seed(0)
        network = trainer.build_network(cfg, backbone, NAMES)
        parts = trainer.trained_parts(cfg, network)
        network.f_out.prepare(words_of(Built(cfg, network)))
        network.f_out.reset()
        logits = network.backbone.logits(network.f_in(images)).detach()
        network.f_out.observe(logits, labels)
        network.f_out.update()
        network.f_out.solve(logits, labels, trained=False)
        before = snapshot(network)
        network.train()
        parameters = [p for module, _ in parts.values() for p in module.parameters()]
        assert len({id(p) for p in parameters}) == len(parameters), "a parameter is in two parts"
        assert {id(p) for p in parameters} == {id(p) for p in network.parameters() if p.requires_grad}
        optimizer = torch.optim.Adam(parameters, lr=0.01)  # whose steps are large enough to see for small gradients
        for _ in range(2):  # what is multiplied by a zero moves in the second step
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
        assert loss.isfinite()
        after = snapshot(network)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        trained = {name for name, p in network.named_parameters() if p.requires_grad}
        statistics = {name for name in before if "running_" in name or "num_batches" in name}
        assert moved <= trained | statistics, (method, mapping)
        assert not [name for name in moved if name.startswith("backbone.")], (method, mapping)
        assert trained <= moved | {name for name in trained if ".body." in name and name.endswith(".bias")}, (method, mapping)
        evaluated = network.eval()(images)
        assert evaluated.shape == (2, 10) and evaluated.isfinite().all()
