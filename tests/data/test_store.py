import io
import json
import multiprocessing
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from dassl_vr.data import DataManager, Datum, build_transform, store_content, store_file
from dassl_vr.data.store import FOLDER, ImageStores
from dassl_vr.data.store_file import StoreFile, check_stores
from dassl_vr.utils.errors import DataError

from .conftest import FAMILY, VR


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test writes to the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def manager(make_cfg, register, image_items):
    def make(how, *pairs, items=None, transforms=VR, **options):
        name = register(items or image_items, val=(items or image_items)[:5])
        keys = ["DATASET.NAME", name, "INPUT.TRANSFORMS", transforms, "DATALOADER.STORE", how, "DATALOADER.TRAIN_X.BATCH_SIZE", 4]
        return DataManager(make_cfg(*keys, *pairs), **options)

    return make


def stores_in(directory):
    return sorted(directory.rglob("*.bin"))


def assert_same_batches(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert one.keys() == other.keys() and one["impath"] == other["impath"]
        for name in one.keys() - {"impath"}:
            images = zip(one[name], other[name]) if isinstance(one[name], list) else [(one[name], other[name])]
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in images), name


@pytest.mark.parametrize("keys", [(), ("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True)])
@pytest.mark.parametrize("how", ["auto", "memory", "disk", "device"])
def test_a_store_gives_the_batches_of_the_ordinary_loader_bit_for_bit(manager, how, keys, cache):
    stored, decoded = manager(how, *keys), manager("off", *keys)
    for epoch in (0, 3):
        for m in (stored, decoded):
            m.set_epoch(epoch)
        for name in ("train_loader_x", "train_loader_all", "train_loader_plain", "val_loader", "test_loader"):
            assert_same_batches(getattr(stored, name), getattr(decoded, name))
    assert bool(stores_in(cache)) == (how == "disk")


def test_a_device_without_room_ends_in_one_line(monkeypatch, manager):
    def full(store, device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("dassl_vr.data.store.DeviceStore", full)
    with pytest.raises(DataError, match=r"^the image store of .* does not fit on cpu; set DATALOADER.STORE memory or auto$"):
        next(iter(manager("device").train_loader_x))


def test_too_little_memory_ends_in_one_line(monkeypatch, manager):
    def full(shape):
        raise MemoryError("why")

    monkeypatch.setattr("dassl_vr.data.store.SharedArray", full)
    with pytest.raises(DataError, match=r"^the image store of .* in memory \(why\); set DATALOADER.STORE disk or off$"):
        next(iter(manager("memory").train_loader_x))
    monkeypatch.setattr("dassl_vr.data.store_content.SharedArray", full)
    with pytest.raises(DataError, match=r"^no image store of .* can be kept \(.*: why\); name a directory"):
        next(iter(manager("disk").train_loader_x))
    next(iter(manager("auto", "DATALOADER.STORE_MEMORY", 0.0).train_loader_x))  # decoded in every epoch


@pytest.mark.parametrize("transforms", [VR, ("vr_pad", "normalize"), ("vr_squash", "normalize"), ("normalize",), ("cutout",)])
def test_its_pixels_are_those_of_the_pil_pipeline(make_cfg, image_items, transforms):
    cfg = make_cfg("INPUT.TRANSFORMS", transforms, "INPUT.SIZE", (40, 40), "DATASET.NATIVE_SIZE", 64, "DATALOADER.STORE", "disk")
    stores = ImageStores(cfg)
    for is_train in (True, False):
        pipeline = build_transform(cfg, is_train)
        opened = stores.get(image_items, pipeline)
        for n, item in enumerate(image_items):
            assert np.array_equal(opened.pixels[n], pipeline.per_sample(item.read()).numpy())


def test_images_are_decoded_once(manager, monkeypatch):
    read, of_file = [], Datum.read
    monkeypatch.setattr(Datum, "read", lambda item: read.append(item.impath) or of_file(item))
    m = manager("memory")
    for _ in range(3):
        list(m.train_loader_x), list(m.train_loader_all), list(m.train_loader_plain), list(m.test_loader)
    assert len(read) == 2 * (22 + 1)  # two sizes, with and without a margin, and the first of each once more


def test_arrays_take_the_same_path(manager, array_items):
    assert_same_batches(manager("disk", items=array_items).train_loader_x, manager("off", items=array_items).train_loader_x)


def test_random_first_steps_go_through_the_ordinary_loader(manager, monkeypatch):
    monkeypatch.setattr(store_content.StoreContent, "decode", lambda *_: pytest.fail("nothing to store"))
    list(manager("disk", transforms=FAMILY).train_loader_x)
    list(manager("memory", custom_tfm_train=lambda img: torch.zeros(1)).train_loader_x)


def test_auto_takes_memory_then_disk_then_neither(manager, cache, monkeypatch, capsys):
    list(manager("auto", "DATALOADER.STORE_MEMORY", 1.0).test_loader)
    assert not stores_in(cache)
    list(manager("auto", "DATALOADER.STORE_MEMORY", 0.0).test_loader)
    assert len(stores_in(cache)) == 1 and "Image store: 22 images" in capsys.readouterr().out
    m = manager("auto", "DATALOADER.STORE_MEMORY", 22 * 3 * 32 * 32 / 1e9)  # one of the two
    list(m.test_loader), list(m.train_loader_x)
    assert len(stores_in(cache)) == 2
    monkeypatch.setattr(store_file, "SPARE", 1 << 60)
    few = manager("auto", "DATALOADER.STORE_MEMORY", 0.0, "INPUT.SIZE", (24, 24))
    assert_same_batches(few.test_loader, manager("off", "INPUT.SIZE", (24, 24)).test_loader)
    assert "decoded in every epoch" in capsys.readouterr().out and len(stores_in(cache)) == 2
    with pytest.raises(DataError, match="GB free.*STORE_DIR") as caught:
        list(manager("disk", "INPUT.SIZE", (24, 24)).test_loader)
    assert "\n" not in str(caught.value)


def test_it_is_beside_the_data_or_in_a_fallback_or_in_the_given_place(make_cfg, image_items, tmp_path, cache):
    pipeline = build_transform(make_cfg("INPUT.TRANSFORMS", VR), False)
    data = tmp_path / "data set"
    data.mkdir()
    cfg = make_cfg("DATALOADER.STORE", "disk")
    assert ImageStores(cfg, str(data), "Toy").get(image_items, pipeline).place.startswith(str(data / FOLDER))
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / FOLDER).touch()  # also root cannot make a directory here
    assert ImageStores(cfg, str(blocked), "Toy").get(image_items, pipeline).place.startswith(str(cache / "dassl_vr"))
    cfg = make_cfg("DATALOADER.STORE", "disk", "DATALOADER.STORE_DIR", str(tmp_path / "there"))
    assert ImageStores(cfg, str(data), "Toy").get(image_items, pipeline).place.startswith(str(tmp_path / "there" / "Toy"))


@pytest.fixture
def on_disk(make_cfg, image_items, tmp_path):
    """`on_disk()`: the store of the items' test images in `tmp_path/.image_store`, newly looked for."""
    cfg = make_cfg("INPUT.TRANSFORMS", VR, "DATALOADER.STORE", "disk")

    def open_(*pairs):
        c = make_cfg("INPUT.TRANSFORMS", VR, "DATALOADER.STORE", "disk", *pairs) if pairs else cfg
        return ImageStores(c, str(tmp_path), "Toy").get(image_items, build_transform(c, False))

    return open_


def test_a_store_is_used_again(on_disk, monkeypatch):
    first = on_disk()
    monkeypatch.setattr(StoreFile, "write", lambda *_: pytest.fail("built again"))
    assert np.array_equal(on_disk().pixels, first.pixels)


def test_size_interpolation_and_images_have_stores_of_their_own(on_disk, image_items, tmp_path):
    assert len({on_disk(*keys).place for keys in ((), ("INPUT.SIZE", (24, 24)), ("INPUT.INTERPOLATION", "bicubic"))}) == 3
    image_items.pop()
    assert on_disk().pixels.shape[0] == 21 and len(stores_in(tmp_path)) == 4
    assert check_stores([tmp_path / FOLDER]) == []


def truncate(path):
    with open(path, "r+b") as file:
        file.truncate(1000)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


def header_with(**entries):
    def damage(path):
        header = json.loads(path.read_text())
        path.write_text(json.dumps({**header, **{name: change(header[name]) for name, change in entries.items()}}))

    return damage


DAMAGES = {
    "truncated": (".bin", truncate, "damaged"),
    "no pixels": (".bin", os.unlink, "damaged"),
    "no header": (".json", os.unlink, "incomplete"),
    "half a header": (".json", truncate, "incomplete"),
    "empty header": (".json", lambda path: path.write_text(""), "incomplete"),
    "of another kind": (".json", lambda path: path.write_text("[]"), "incomplete"),
    "nested deeply": (".json", lambda path: path.write_text("[" * 10**5), "incomplete"),
    "no text": (".json", lambda path: path.write_bytes(b"\xff\x80"), "incomplete"),
    "another pixel": (".bin", flip_a_bit, "wrong checksum"),
    "half of it zero": (".bin", lambda path: path.write_bytes(bytes(path.stat().st_size)), "wrong checksum"),
    "shape a text": (".json", header_with(shape=lambda shape: "abc"), "incomplete"),
    "shape nested": (".json", header_with(shape=lambda shape: [shape]), "incomplete"),
    "shape of texts": (".json", header_with(shape=lambda shape: list(map(str, shape))), "incomplete"),
    "shape negative": (".json", header_with(shape=lambda shape: [-shape[0], -shape[1], *shape[2:]]), "incomplete"),
    "shape huge": (".json", header_with(shape=lambda shape: [10**400, *shape[1:]]), "incomplete"),
    "another shape": (".json", header_with(shape=lambda shape: [shape[1], shape[0], *shape[2:]]), ""),
    "more images": (".json", header_with(shape=lambda shape: [shape[0] + 1, *shape[1:]]), "bytes of pixels instead of"),
    "bad a list": (".json", header_with(bad=lambda bad: [1]), "incomplete"),
    "bad no index": (".json", header_with(bad=lambda bad: {"x": "y"}), "incomplete"),
    "bad no reason": (".json", header_with(bad=lambda bad: {"1": 5}), "incomplete"),
    "bad beyond the end": (".json", header_with(bad=lambda bad: {"22": "y"}), "named as bad"),
    "a good one named bad": (".json", header_with(bad=lambda bad: {"3": "y"}), "named as bad"),
    "checksum a text": (".json", header_with(crc32=str), "incomplete"),
    "sources a number": (".json", header_with(sources=lambda _: 5), "incomplete"),
    "paths a text": (".json", header_with(paths=lambda _: "abc"), "incomplete"),
    "remarks of another kind": (".json", header_with(remarks=lambda _: [1]), "incomplete"),
}


@pytest.mark.parametrize("suffix, damage, word", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_store_is_noticed_and_made_again(on_disk, tmp_path, suffix, damage, word):
    reference = np.array(on_disk().pixels)
    (bin_path,) = stores_in(tmp_path)
    if damage is truncate and suffix == ".json":
        bin_path.with_suffix(".json").write_text(bin_path.with_suffix(".json").read_text()[:300])
    else:
        damage(bin_path.with_suffix(suffix))
    if word:
        (problem,) = check_stores([tmp_path / FOLDER])
        assert word in problem and bin_path.name in problem
    assert np.array_equal(on_disk().pixels, reference) and check_stores([tmp_path / FOLDER]) == []


def test_a_changed_image_makes_it_stale(on_disk, image_items, tmp_path):
    before = np.array(on_disk().pixels)
    Image.new("RGB", (40, 40), "red").save(image_items[3].impath)
    assert "stale" in check_stores([tmp_path / FOLDER])[0]
    after = on_disk().pixels
    assert after[3, 0].min() == 255 and not after[3, 1:].any()
    assert np.array_equal(np.delete(after, 3, 0), np.delete(before, 3, 0))


def test_a_damaged_store_is_reported_once(on_disk, tmp_path, capsys):
    on_disk()
    flip_a_bit(stores_in(tmp_path)[0])
    capsys.readouterr()
    on_disk()
    assert capsys.readouterr().out.count("is damaged (wrong checksum); it is made again") == 1


def test_replacing_a_store_does_not_change_its_open_readers(on_disk, image_items, tmp_path):
    reader = on_disk()
    before = np.array(reader.pixels)
    Image.new("RGB", (40, 40), "red").save(image_items[3].impath)
    assert on_disk().pixels[3, 0].min() == 255
    assert np.array_equal(reader.pixels, before)


def test_bad_images_of_a_store_are_known_when_it_is_opened_again(make_cfg, with_bad, tmp_path, monkeypatch):
    cfg = make_cfg("INPUT.TRANSFORMS", VR, "DATALOADER.STORE", "disk", "DATASET.ON_BAD_IMAGE", "skip")
    first = ImageStores(cfg, str(tmp_path), "Toy").get(with_bad, build_transform(cfg, False))
    monkeypatch.setattr(StoreFile, "write", lambda *_: pytest.fail("built again"))
    again = ImageStores(cfg, str(tmp_path), "Toy").get(with_bad, build_transform(cfg, False))
    assert list(first.bad) == list(again.bad) == [3, 9] and again.bad == first.bad


def test_a_full_disk_in_the_middle_leaves_nothing(on_disk, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, content):
            super().write(content[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_file, "open", Full, raising=False)
    with pytest.raises(DataError, match="No space left on device"):
        on_disk()
    assert not [path for path in tmp_path.rglob("*.*") if path.suffix in (".bin", ".json", ".tmp")]


def build_slowly(cfg, items, directory, pause, messages):
    """In a process of its own: build a store, for somebody to come in between."""
    decode = store_content.StoreContent.decode

    def slow(*args):
        for chunk in decode(*args):
            yield chunk
            messages.send("chunk")
            time.sleep(pause)

    store_content.StoreContent.decode, store_content.CHUNK = slow, 2
    messages.send(ImageStores(cfg, str(directory), "Toy").get(items, build_transform(cfg, False)).place)
    messages.send("done")


def test_two_processes_build_one_store_and_a_killed_one_leaves_none(make_cfg, image_items, tmp_path):
    cfg = make_cfg("INPUT.TRANSFORMS", ("vr_squash",), "DATALOADER.STORE", "disk")
    context = multiprocessing.get_context("fork")  # quicker than importing torch again

    def start(pause):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=build_slowly, args=(cfg, image_items, tmp_path, pause, sender))
        process.start()
        sender.close()
        return process, receiver

    killed, receiver = start(60)
    assert receiver.recv() == "chunk"
    killed.kill()
    killed.join()
    folder = tmp_path / FOLDER
    assert not stores_in(tmp_path) and len(list(folder.glob("*.tmp"))) == 1
    assert "half of an image store" in check_stores([folder])[0]

    both = [start(0.05) for _ in range(2)]
    said = []
    for process, receiver in both:
        said.append([])
        while not said[-1] or said[-1][-1] != "done":
            said[-1].append(receiver.recv())
        process.join()
    assert sum(words.count("chunk") for words in said) == 11  # 22 images, decoded by one of them
    assert said[0][-2] == said[1][-2]  # the same file
    assert check_stores([folder]) == [] and not list(folder.glob("*.tmp"))
    pipeline = build_transform(cfg, False)
    opened = ImageStores(cfg, str(tmp_path), "Toy").get(image_items, pipeline)
    assert all(np.array_equal(opened.pixels[n], pipeline.per_sample(item.read())) for n, item in enumerate(image_items))


@pytest.fixture(params=["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def started_by(request):
    """How this process starts its workers."""
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(usual, force=True)


@pytest.mark.parametrize("how", ["memory", "disk"])
def test_workers_decode_the_same(started_by, make_cfg, image_items, tmp_path, monkeypatch, how):
    monkeypatch.setattr(store_content, "FEW", 1)
    monkeypatch.setattr(store_content, "CHUNK", 2)
    monkeypatch.setattr("dassl_vr.data.store.cpu_cores", lambda: 2)
    pipeline = build_transform(make_cfg("INPUT.TRANSFORMS", VR), False)
    state = torch.get_rng_state()
    cfg = make_cfg("DATALOADER.STORE", how, "DATALOADER.NUM_WORKERS", -1)
    pixels = ImageStores(cfg, str(tmp_path), "Toy").get(image_items, pipeline).pixels
    assert torch.equal(state, torch.get_rng_state())
    assert all(np.array_equal(pixels[n], pipeline.per_sample(item.read())) for n, item in enumerate(image_items))


def test_chunks_stay_whole_while_a_slow_reader_has_them(make_cfg, image_items, monkeypatch):
    """Workers are then as far ahead as the loader lets them be, in memory that holds fewer chunks than there are."""
    monkeypatch.setattr(store_content, "FEW", 1)
    monkeypatch.setattr(store_content, "CHUNK", 2)
    pipeline = build_transform(make_cfg("INPUT.TRANSFORMS", VR), False)
    expected = np.stack([pipeline.per_sample(item.read()).numpy() for item in image_items])
    source = store_content.StoreContent(image_items, pipeline, expected.shape[1:], "")
    seen = 0
    for start, images, _ in source.decode(2, False):
        time.sleep(0.1)
        assert start == seen and np.array_equal(images, expected[start : start + len(images)])
        seen += len(images)
    assert seen == len(image_items) > 2 * 5


# --------------------------------------------------------------------------------------------------------- bad images
@pytest.fixture
def with_bad(image_items, tmp_path):
    """The items with two among them that cannot be read; a batch of its own at the end, where batches hold one."""
    for number, content in ((3, b""), (9, b"no image")):
        (tmp_path / f"bad {number} ä.png").write_bytes(content)
        image_items.insert(number, Datum(tmp_path / f"bad {number} ä.png", 0, 0, "a"))
    return image_items


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["memory", "disk", "off"])
def test_bad_images_end_a_run_or_are_skipped_and_counted(manager, with_bad, how, workers, capsys, tmp_path):
    keys = ("DATALOADER.NUM_WORKERS", workers)
    skipping = manager(how, *keys, "DATASET.ON_BAD_IMAGE", "skip", items=with_bad)
    shown = [n for batch in skipping.test_loader for n in batch["index"].tolist()]
    assert shown == [n for n in range(24) if n not in (3, 9)]
    assert {os.path.basename(path) for path in skipping.skipped_images} == {"bad 3 ä.png", "bad 9 ä.png"}
    assert "an empty file" in " ".join(skipping.skipped_images.values())
    list(skipping.test_loader)
    assert capsys.readouterr().out.count("WARNING: left out: image") == 2  # once each
    reference = manager("off", "DATASET.ON_BAD_IMAGE", "skip", items=with_bad)
    skipping.set_epoch(1), reference.set_epoch(1)
    assert_same_batches(skipping.train_loader_x, reference.train_loader_x)
    with pytest.raises(DataError, match=r"bad \d ä\.png.*(empty|not an image).*ON_BAD_IMAGE skip") as caught:
        list(manager(how, *keys, items=with_bad).test_loader)  # also after a store that knows them was built
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["memory", "off"])
def test_a_batch_of_bad_images_is_left_out(manager, with_bad, how):
    m = manager(how, "DATASET.ON_BAD_IMAGE", "skip", "DATALOADER.TEST.BATCH_SIZE", 1, items=with_bad)
    assert len(list(m.test_loader)) == 22 and len(m.skipped_images) == 2


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["memory", "disk", "off"])
def test_a_split_of_bad_images_is_one_line_that_names_it(make_cfg, register, image_items, how, workers, tmp_path):
    bad = [Datum(tmp_path / f"bad {number}.png", 0, 0, "a") for number in range(3)]
    keys = ("DATASET.ON_BAD_IMAGE", "skip", "DATALOADER.STORE", how, "DATALOADER.NUM_WORKERS", workers)
    splits = (("train", "training", "train_loader_x"), ("val", "validation", "val_loader"), ("test", "test", "test_loader"))
    for split, name, loader in splits:
        items = {"train": image_items, "val": image_items, "test": image_items, split: bad}
        m = DataManager(make_cfg("DATASET.NAME", register(**items), *keys))
        with pytest.raises(DataError, match=rf"none of the 3 {name} images can be read, for example .*bad \d\.png") as caught:
            list(getattr(m, loader))
        assert "ON_BAD_IMAGE" not in str(caught.value), "which is set already"


# -------------------------------------------------------------------------------------------------------- deep greys
@pytest.fixture
def dark(image_items, tmp_path):
    """The items with two among them of 12 bits in files of 16, and one of 8 such bits."""
    for number, top in ((3, 4000), (9, 4000), (11, 200)):
        values = np.linspace(0, top, 48 * 48).reshape(48, 48).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"dark {number}.png")
        image_items.insert(number, Datum(tmp_path / f"dark {number}.png", 0, 0, "a"))
    return image_items


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["memory", "disk", "off"])
def test_dark_greys_are_reported_once_per_run_and_a_key_corrects_them(manager, dark, how, workers, capfd):
    for _ in range(2):  # the second finds the first one's file
        m = manager(how, "DATALOADER.NUM_WORKERS", workers, items=dark)
        images = torch.cat([batch["img"] for _ in range(2) for batch in m.test_loader])
        printed = capfd.readouterr()
        warned = [line for line in printed.out.splitlines() if line.startswith("WARNING")]
        assert len(warned) == 2 and any("GREY_BITS 12 " in line for line in warned) and "dark" not in printed.err
        assert "made again" not in printed.out
    m = manager(how, "DATALOADER.NUM_WORKERS", workers, "DATASET.GREY_BITS", 12, items=dark)
    brighter = torch.cat([batch["img"] for batch in m.test_loader])
    assert "WARNING" not in capfd.readouterr().out
    assert images[3].max() < -1.4 and brighter[3].max() > 2 and brighter[11].max() < -1.4, "all images alike"
    assert torch.equal(images[0], brighter[0]), "of 8 bits"


def test_the_header_is_readable(on_disk, tmp_path):
    on_disk()
    header = json.loads(stores_in(tmp_path)[0].with_suffix(".json").read_text())
    assert header["shape"] == [22, 3, 32, 32] and header["paths"][0] == "00.png" and "Resize" in header["transform"]
