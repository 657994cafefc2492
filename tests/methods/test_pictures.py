"""What a run draws for TensorBoard: what its method has, on images of every class, in few bytes."""

import io
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dassl_vr.backbones import build_backbone
from dassl_vr.config import get_cfg_default, merge_mapping, read_yaml
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.engine.charts import PROMPT
from dassl_vr.engine.events import EventWriter
from dassl_vr.methods.pictures import PER_ROW, SHOWN, SNAPSHOTS, RunPictures
from dassl_vr.methods.visual_reprogramming import VisualReprogramming
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY
from dassl_vr.reprogramming.inputs.smm import SampleSpecificMask
from dassl_vr.utils.images import UnreadableImageError
from dassl_vr.utils.seeding import get_random_states

load_plugins()
NAMES = [f"class {number}" for number in range(12)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRAINERS = [name for name in TRAINER_REGISTRY.registered_names() if issubclass(TRAINER_REGISTRY.get(name), VisualReprogramming)]
OF_LABELS = [name for name in MAPPING_REGISTRY.registered_names() if MAPPING_REGISTRY.get(name).reads in ("labels", "features")]


class Images:
    """A class-sorted split as items and as a wrapper: grey images, the brighter the later, apart from some that cannot be read."""

    def __init__(self, number, size=64, unreadable=(), noise=False):
        self.items = [SimpleNamespace(label=n * len(NAMES) // number) for n in range(number)]
        self.size, self.unreadable, self.noise, self.read = size, unreadable, noise, []

    def __getitem__(self, position):
        if position in self.unreadable:
            raise UnreadableImageError("cannot be read")
        self.read.append(position)
        shape, generator = (3, self.size, self.size), torch.Generator().manual_seed(position)
        return {"img": torch.randn(shape, generator=generator) if self.noise else torch.full(shape, position / 15 - 2)}


def drawn(directory, network, images, epochs=(0,), max_epoch=1):
    """({tag: pictures}, {tag: texts}, bytes) of a run with this network."""
    writer, cfg = EventWriter(str(directory)), get_cfg_default()
    trainer = SimpleNamespace(
        **{"cfg": cfg, "max_epoch": max_epoch, "_writer": writer, "model": network, "val_loader": None, "device": "cpu"},
        **{"num_classes": len(NAMES), "lab2cname": dict(enumerate(NAMES)), "epoch": 0},
        dm=SimpleNamespace(dataset=SimpleNamespace(test=images.items)),
        test_loader=SimpleNamespace(dataset=images),
        set_model_mode=lambda mode: network.eval(),
    )
    trainer.steps_done = lambda: 10 * (trainer.epoch + 1)
    pictures = RunPictures(trainer)
    for trainer.epoch in epochs:
        pictures.after(trainer.epoch)
        assert pictures.writer is writer, "drawing failed"
    writer.close()
    events = EventAccumulator(str(directory), size_guidance={"images": 0, "tensors": 0}).Reload()
    shown = {tag: events.Images(tag) for tag in events.Tags()["images"]}
    texts = {tag: [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    return shown, texts, sum(path.stat().st_size for path in directory.iterdir())


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("tiny_vit", verbose=False)


def network_of(repository, backbone, trainer, **options):
    """A network as if trained: no parameter of its f_in is zero, and its mapping has looked at images."""
    cfg = get_cfg_default()
    path = next((repository / "configs/trainers" / trainer).glob("tiny_*.yaml"))
    merge_mapping(cfg, read_yaml(path), path)
    cfg.DATASET.NAME, cfg.INPUT.SIZE, cfg.INPUT.PAD_SIDE = "digits", (64, 64), 40
    cfg.TRAINER[trainer.upper()].update(options)
    if getattr(INPUT_REGISTRY.get(options["METHOD"]), "transforms", ()) if "METHOD" in options else trainer == "VP":
        cfg.INPUT.TRANSFORMS = ("vr_pad", "normalize")
    torch.manual_seed(0)
    network = TRAINER_REGISTRY.get(trainer).build_network(cfg, backbone, NAMES)
    for parameter in network.f_in.parameters():
        parameter.data.add_(torch.rand_like(parameter) / 10)
    network.f_out.reset()
    network.f_out.observe(torch.rand(24, network.f_out.num_source), torch.arange(24) % 12)
    network.f_out.update()
    return network


def parts(pictures):
    return {tag.removeprefix(f"{PROMPT}/") for tag in pictures}


@pytest.mark.parametrize("method", INPUT_REGISTRY.registered_names())
def test_every_f_in_is_drawn_as_it_is(repository, backbone, tmp_path, method):
    network = network_of(repository, backbone, "VR", METHOD=method, MAPPING="rlm")
    shown, _, _ = drawn(tmp_path, network, Images(24))
    if network.f_in.changes_nothing:
        assert not shown
        return
    x = torch.zeros(1, 3, 64, 64)
    masks, pattern = network.f_in.masks(x), network.f_in.pattern()
    masked = masks is not None and bool(masks.min() < masks.max())
    assert {"1 input", "5 result"} <= parts(shown)
    assert any("mask" in part and part.startswith("2") for part in parts(shown)) == masked, "a mask of ones is none"
    assert ("3 pattern" in parts(shown)) == (pattern is not None)
    claims = {"mask x pattern": lambda: masks * pattern, "mask": lambda: masks}
    if network.f_in.adds in claims:
        assert torch.allclose(network.f_in.added(x), claims[network.f_in.adds]()), "its heading is not true"
    for picture in parts(shown) - {"1 input"}:
        pixels = torch.tensor(list(shown[f"{PROMPT}/{picture}"][0].encoded_image_string))
        assert len(pixels) > 100, picture


@pytest.mark.parametrize("mapping", OF_LABELS)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_with_every_mapping(repository, backbone, tmp_path, trainer, mapping):
    network = network_of(repository, backbone, trainer, MAPPING=mapping, SOURCES_EACH=2)
    shown, texts, _ = drawn(tmp_path, network, Images(24))
    assert bool(shown) == (not network.f_in.changes_nothing)
    if MAPPING_REGISTRY.get(mapping).reads == "features":
        assert not texts
        return
    (table,) = texts["label mapping/text_summary"]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert [target for target, _ in rows] == NAMES and {source for _, source in rows} <= set(backbone.source_classes)
    assert "feature" not in table


def test_the_sample_is_balanced_in_the_order_of_classes_and_moves_no_generator(tmp_path):
    network, states = SimpleNamespace(f_in=SampleSpecificMask(64), eval=lambda: None), str(get_random_states())
    images = Images(60, unreadable=range(50))
    drawn(tmp_path / "a", network, images, epochs=(-1, 0))
    assert sorted(images.read) == list(range(50, 60)), "what cannot be read is left out"
    images = Images(60)
    shown, _, _ = drawn(tmp_path / "b", network, images, epochs=(-1, 0))
    assert str(get_random_states()) == states
    assert len(images.read) == SHOWN, "read once"
    assert len({images.items[position].label for position in images.read}) == SHOWN
    grid = Image.open(io.BytesIO(shown[f"{PROMPT}/1 input"][0].encoded_image_string)).convert("L")
    width, height = grid.width // PER_ROW, grid.height // 2
    greys = [grid.getpixel((n % PER_ROW * width + width // 2, n // PER_ROW * height + height // 2)) for n in range(SHOWN)]
    assert greys == sorted(greys) and len(set(greys)) == SHOWN, "in the order of the classes"


def test_nothing_is_drawn_of_a_pattern_that_is_still_zero(tmp_path):
    f_in = SampleSpecificMask(64)
    torch.nn.init.zeros_(f_in.delta)
    shown, texts, _ = drawn(tmp_path, SimpleNamespace(f_in=f_in, eval=lambda: None), Images(24), epochs=(-1,))
    assert parts(shown) == {"1 input", "2 mask red", "2 mask green", "2 mask blue"} and not texts


def test_pictures_of_large_images_are_small(tmp_path):
    """Of noise, which nothing compresses, on noise. With what every run has at its end it has to be less than 3 MB."""
    f_in = SampleSpecificMask(224, patch_size=1)
    torch.manual_seed(0)
    f_in.delta.data.normal_()
    network = SimpleNamespace(f_in=f_in, eval=lambda: None)
    shown, _, size = drawn(tmp_path, network, Images(24, 224, noise=True), epochs=range(100), max_epoch=100)
    assert {len(pictures) for part, pictures in shown.items() if "input" not in part} == {SNAPSHOTS}
    assert len(shown[f"{PROMPT}/1 input"]) == 1, "they do not change"
    assert 1e6 < size < 1.8e6
