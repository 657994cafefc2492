"""`visualize.py`: what is drawn of a model, and the page."""

import base64
import dataclasses
import html
import io
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from dassl_vr import load_prompted
from dassl_vr.backbones import build_backbone
from dassl_vr.cli.train import main as train
from dassl_vr.cli.visualize import main as visualize
from dassl_vr.data import Datum
from dassl_vr.data.transforms import build_transform
from dassl_vr.deploy.bundle import write_bundle
from dassl_vr.deploy.load import Details
from dassl_vr.deploy.model import PromptedModel
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.engine.charts import TRAINED
from dassl_vr.evaluation.predictions import read_predictions
from dassl_vr.names import TRAINERS
from dassl_vr.plugins import load_plugins
from dassl_vr.report import look as looks
from dassl_vr.report import tested as tests
from dassl_vr.report.features import features_before_after
from dassl_vr.report.look_page import earlier_files, write_look
from dassl_vr.report.look_words import about_model, about_pictures
from dassl_vr.report.samples import data_of, random_items, spread
from dassl_vr.reprogramming import INPUT_REGISTRY
from dassl_vr.reprogramming.pictures import unnormalize
from dassl_vr.runs import build_cfg

load_plugins()
ROOT = Path(__file__).resolve().parents[2]


class Tags(HTMLParser):
    """All tags of a page as a browser reads them: [(tag, [(attribute, value)])]."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, attrs))


@pytest.fixture(scope="module")
def tiny_clip():
    return build_backbone("tiny_clip", verbose=False)


def run(directory, trainer, recipe, *more):
    command = ["--trainer", trainer, "--config-file", str(ROOT / f"configs/trainers/{trainer}/{recipe}.yaml"), "--seed", "1"]
    opts = ["DATASET.NAME", "digits", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1", "VERBOSE", "False", *more]
    assert train([*command, "--output-dir", str(directory), *opts]) == 0
    return directory


@pytest.fixture(scope="module")
def smm(tmp_path_factory):
    return run(tmp_path_factory.mktemp("smm") / "run", "SMM", "tiny_vit")


@pytest.fixture(scope="module")
def coop(tmp_path_factory):
    return run(tmp_path_factory.mktemp("coop") / "run", "CoOp", "tiny_clip", "TRAIN.END_FIGURES", "False")


@pytest.fixture(scope="module")
def page_of_smm(smm, tmp_path_factory):
    """(directory, the page) of `visualize.py` for the run of SMM."""
    out = tmp_path_factory.mktemp("look")
    assert visualize([str(smm), "--out", str(out), "--number", "2", "--features", "40"]) == 0
    return out, (out / "index.html").read_text()


def pictures_on(page):
    """[(alternative text, content of the PNG file)]"""
    found = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)"', page)
    return [(html.unescape(alt), base64.b64decode(data)) for alt, data in found]


def headings(page):
    return re.findall("<h2>(.*)</h2>", page)


def test_the_page_needs_nothing_outside_of_it(smm, page_of_smm):
    out, page = page_of_smm
    files = {path.name for path in out.iterdir()}
    charts = {"pattern.png", "mapping.png", "confusion.png", "features.png"}
    errors = {f"error-{number:03d}.png" for number in range(1, 13)}
    assert files == {"index.html", "image-001.png", "image-002.png", *charts, *errors}
    inline = {png for _, png in pictures_on(page)}
    assert {(out / name).read_bytes() for name in (*charts, *errors)} <= inline
    assert not re.search(r'src="(?!data:)|url\(|@import', page)
    assert set(re.findall(r'href="([^"#]+)"', page)) == files - {"index.html"}, "each picture leads to its file"
    assert re.search(r'dassl_vr-files" content="([^"]+)"', page)[1].split()[0] == "index.html" and page.isascii()
    sections = ("Images", "Pattern", "Label mapping", "Accuracy of each class", "Confusion matrix", "Worst errors", "Features")
    assert headings(page) == [*sections, "Commands"]
    assert "SMM on digits, tiny_vit" in page
    model = load_prompted(smm)
    for target, source, _ in looks.mapping_edges(model):
        assert re.search(f"<td[^>]*>{target}</td><td>{source}</td>", page)


def test_every_picture_has_a_text_of_its_own(smm, page_of_smm):
    page = page_of_smm[1]
    assert page.count("<img") == len(pictures_on(page)) + 1, "and the one that is filled when a picture is opened"
    alts = [alt for alt, _ in pictures_on(page)]
    assert len(set(alts)) == len(alts)
    with torch.no_grad():
        model = load_prompted(smm)
        images, _ = spread(data_of(model).dataset.test, 2)
        mask = model.network.f_in.masks(model.normalize(model.preprocess(images)))[1, 2]
    low, high, mean = (f"{float(value):.2g}" for value in (mask.min(), mask.max(), mask.mean()))
    assert any(alt.startswith(f"mask, blue, values from {low} to {high}, mean {mean}: test image 2, class ") for alt in alts)


def test_the_test_of_a_run_on_its_page(smm, page_of_smm):
    page = page_of_smm[1]
    kept, names = read_predictions(smm), load_prompted(smm).classnames
    right = int(kept.right.sum())
    assert f"Of {len(kept.label)} test images {right} were classified correctly, {len(kept.label) - right} were not" in page
    wrong = np.flatnonzero(~kept.right)
    worst = wrong[kept.confidence[wrong].argmax()]
    alts = [alt for alt, _ in pictures_on(page)]
    truth, said = names[kept.label[worst]], names[kept.predicted[worst]]
    assert f"{kept.path[worst]}: {truth}, taken for {said} ({100 * kept.confidence[worst]:.1f} %)" in alts
    shown = Image.open(io.BytesIO(next(png for alt, png in pictures_on(page) if alt.startswith(f"{kept.path[worst]}:"))))
    assert np.array_equal(np.asarray(shown), np.asarray(data_of(load_prompted(smm)).dataset.test[int(kept.index[worst])].read()))
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (kept.label, kept.predicted), 1)
    np.fill_diagonal(counts, 0)
    true, taken = np.unravel_index(counts.argmax(), counts.shape)
    assert any(f"Most often: {names[true]} taken for {names[taken]} ({counts.max()})" in alt for alt in alts)


def test_a_bundle_says_that_its_test_is_not_known(smm, tmp_path):
    write_bundle(load_prompted(smm), tmp_path / "bundle")
    out = tmp_path / "look"
    assert visualize([str(tmp_path / "bundle"), "--out", str(out), "--number", "1", "--features", "0"]) == 0
    page = (out / "index.html").read_text()
    assert "Test" in headings(page) and "name the directory of the run" in page and not (out / "confusion.png").exists()


def test_pictures_of_unreadable_images_are_left_out(smm, tmp_path, capsys):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    given = [str(tmp_path / name) for name in ("bad.png", "good.png")]
    assert visualize([str(smm), "--out", str(tmp_path / "look"), "--features", "0", "--images", *given]) == 1
    assert "skipped: image" in capsys.readouterr().err and (tmp_path / "look" / "image-001.png").is_file()
    assert visualize([str(smm), "--out", str(tmp_path / "none"), "--images", given[0]]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: none of 1 images could be read"
    assert not (tmp_path / "none").exists()
    items = [Datum(given[0], 0), Datum(given[1], 1), Datum(given[0], 0)]
    images, labels = spread(items, 2)
    assert len(images) == 1 and labels.tolist() == [1]


def test_what_others_have_put_there_stays(smm, tmp_path, capsys):
    (tmp_path / "index.html").write_text("mine")
    assert visualize([str(smm), "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"] and (tmp_path / "index.html").read_text() == "mine"


def test_an_earlier_page_is_replaced_and_leaves_no_pictures(smm, page_of_smm, tmp_path):
    out = shutil.copytree(page_of_smm[0], tmp_path / "look")
    (out / "notes.txt").write_text("mine")
    (out / "image-009.png").write_text("mine, though it is called like one of them")
    write_look(looks.look_at(load_prompted(smm), [Image.new("RGB", (20, 20), "red")], ["a red one"]), out)
    there = {path.name for path in out.iterdir()}
    assert there == {"index.html", "image-001.png", "pattern.png", "mapping.png", "notes.txt", "image-009.png"}
    assert (out / "image-009.png").read_text().startswith("mine") and not list(tmp_path.glob(".look*"))
    page = (out / "index.html").read_text()
    assert "a red one" in page and "test image 2" not in page
    (out / "index.html").write_text(page.replace("image-001.png", "notes.txt").replace("pattern.png", "../index.html"))
    assert earlier_files(out) == ["index.html", "mapping.png"], "a list of other names than ours is not believed"


def test_what_is_shown_is_what_the_model_does(smm, tmp_path):
    model = load_prompted(smm)
    images = [Image.new("RGB", (20, 20), colour) for colour in ("red", "navy")]
    look = looks.look_at(model, images, ["red", "navy"])
    assert [classes[0][0] for classes in look.after] == model.predict(images).names
    with torch.no_grad():
        scores = model.details.backbone.logits(look.plain).softmax(dim=1)
    assert look.before[0][0] == (model.details.backbone.source_classes[int(scores[0].argmax())], float(scores[0].max()))
    figure = looks.image_figure(look, 0)
    assert [axes.get_title() for axes in figure.axes[:8]] == [
        *("input", "mask, red", "mask, green", "mask, blue", "change", "result"),
        *("before:\nsource classes", "after: classes of\ndigits"),
    ]
    shown = figure.axes[5].images[0].get_array()
    with torch.no_grad():
        assert torch.allclose(torch.tensor(shown), look.pictures.results[0].permute(1, 2, 0))
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.details.cfg.INPUT.PIXEL_MEAN, model.details.cfg.INPUT.PIXEL_STD))
        result = (model.network.f_in(look.x[:1])[0] * std + mean).clamp(0, 1)
        assert torch.allclose(torch.tensor(shown), result.permute(1, 2, 0), atol=1e-5)


@torch.no_grad()
def test_features_are_outputs_before_the_mapping_on_random_training_images(smm):
    model = load_prompted(smm)
    x, plain = torch.randn(5, 3, 64, 64), torch.randn(5, 3, 64, 64)
    features = features_before_after(model, [(x[:3], plain[:3]), (x[3:], plain[3:])])
    backbone = model.details.backbone
    assert list(features) == ["without the prompt", "with the prompt"]
    assert torch.allclose(features["without the prompt"], backbone.logits(plain), atol=1e-4)
    assert torch.allclose(features["with the prompt"], backbone.logits(model.network.f_in(x)), atol=1e-4)
    items = list(range(100))
    drawn = random_items(items, 40)
    assert drawn == random_items(items, 40) != sorted(drawn) and len(set(drawn)) == 40
    assert sorted(random_items(items, 5000)) == items


@pytest.mark.parametrize("mapping", ["head", "text", "ilm"])
def test_tokens_are_a_prompt_too(tmp_path, mapping):
    vpt = tmp_path / "vpt"
    shows = mapping == "head"  # once: TensorBoard's projector as well
    model = load_prompted(run(vpt, "VPT", "tiny_clip", "TRAIN.END_FIGURES", str(shows), "TRAINER.VPT.MAPPING", mapping))
    x = torch.randn(2, 3, 64, 64)
    features = features_before_after(model, [(x, x)])
    source, backbone = model.network.backbone, model.details.backbone
    with torch.no_grad():
        if mapping == "head":
            before, after = (F.normalize(of.features(x), dim=1) for of in (backbone, source))
        else:
            text = backbone.text_features(source.source_classes)
            before, after = backbone.scale * F.normalize(backbone.features(x), dim=1) @ text.T, source.logits(x)
    assert torch.allclose(features["without the prompt"], before, atol=1e-4)
    assert torch.allclose(features["with the prompt"], after, atol=1e-4)
    if shows:
        tags = ("without the prompt", "with the prompt")
        projected = [next(vpt.glob(f"tensorboard/**/{tag}/tensors.tsv")).read_text() for tag in tags]
        assert projected[0] != projected[1]
        events = EventAccumulator(str(vpt / "tensorboard"), size_guidance={"images": 0}).Reload()
        figures = [*(f"1 image {number}" for number in range(1, 5)), "4 features"]
        assert events.Tags()["images"] == [f"{TRAINED}/{figure}" for figure in figures], "no prompt on the pixels, no label mapping"
        assert events.Tags()["tensors"] == ["custom_scalars__config__"]


def test_a_prompt_of_text(coop, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (30, 20), "green").save(photo)
    assert visualize([str(coop), "--images", str(photo), "--out", str(tmp_path / "look"), "--features", "0"]) == 0
    files = {path.name for path in (tmp_path / "look").iterdir()}
    assert {name for name in files if not name.startswith("error")} == {"index.html", "image-001.png", "confusion.png"}
    assert "nearest words" in (tmp_path / "look" / "index.html").read_text()
    model = load_prompted(coop)
    assert looks.pattern_figure(model) is None and looks.mapping_figure(model) is None
    features = features_before_after(model, [(torch.zeros(3, 3, 64, 64),) * 2])
    assert len(features) == 1, "CoOp leaves image features as they are"


def test_words_nearest_to_a_context_of_words(coop):
    model = load_prompted(coop)
    prompts, backbone = model.network.prompts, model.details.backbone
    words = backbone.tokenize(["a photo of a"])[0, 1:5]
    with torch.no_grad():
        prompts.context[:4] = backbone.token_embeddings(words)
    rows = looks.context_words(model)
    assert [near[0][0] for _, near in rows[:4]] == ["a", "photo", "of", "a"]


def test_without_the_data(smm, tmp_path, capsys, monkeypatch):
    model = load_prompted(smm)
    monkeypatch.setattr("dassl_vr.deploy.load_prompted", lambda *args, **kwargs: model)
    model.details.cfg.DATASET.NAME = "dtd"
    assert visualize([str(smm), "--out", str(tmp_path / "look"), "--root", str(tmp_path)]) == 2
    assert "--images" in capsys.readouterr().err and not (tmp_path / "look").exists()


def test_the_projector_of_tensorboard_has_every_class(smm):
    config = (smm / "tensorboard" / "projector_config.pbtxt").read_text()
    assert re.findall('tensor_name: "(.*):', config) == ["without the prompt", "with the prompt"]
    for place in (smm / "tensorboard").glob("*/with*the prompt"):
        head, *rows = [line.split("\t") for line in (place / "metadata.tsv").read_text().splitlines()]
        assert head == ["class", "number of the class"] and all(name == number for name, number in rows), "digits"
        numbers = [int(number) for _, number in rows]
        assert numbers == sorted(numbers) and set(Counter(numbers).values()) == {30}, "balanced, in the order of the classes"
        columns = torch.tensor([[*map(float, line.split("\t"))] for line in (place / "tensors.tsv").read_text().splitlines()])
        assert columns.shape == (300, 32) and columns.std(dim=0).argmax() == 0
        sprite = Image.open(place / "sprite.png")
        side = sprite.width // 18  # 18 x 18 places for 300 thumbnails
        frames = {sprite.getpixel((n % 18 * side, n // 18 * side)): number for n, number in enumerate(numbers)}
        assert len(frames) == 10 and set(frames.values()) == set(range(10)), "a colour for each class"
        inside = [sprite.getpixel((n * side + side // 2, side // 2)) for n in range(18)]
        assert len(set(inside)) > 4, "pictures in the frames"


def test_masks_have_one_scale_on_all_images(smm):
    model = load_prompted(smm)
    images = [Image.new("RGB", (20, 20), colour) for colour in ("black", "white", "red")]
    look = looks.look_at(model, images, ["", "", ""])
    with torch.no_grad():
        masks = model.network.f_in.masks(look.x)
        added = model.network.f_in.added(look.x)
    assert look.limit == pytest.approx(float(masks.abs().max()))
    for index in range(3):
        shown = looks.image_figure(look, index).axes[1].images[1]
        assert shown.get_clim() == (-look.limit, look.limit)
        change = dict(look.panels([index]))["change"][0]
        assert torch.allclose(change, 0.5 + 0.5 * added[index] / added.abs().max(), atol=1e-4)


class Inverted(torch.nn.Module):
    """A network of somebody else's, which changes its images under no name that is known."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(-x)


def test_a_change_of_the_images_is_seen_whatever_the_method(coop):
    model = load_prompted(coop)
    image = Image.new("RGB", (20, 20), "teal")
    assert looks.look_at(model, [image], ["teal"]).pictures is None
    model.network = Inverted(model.network)
    look = looks.look_at(model, [image], ["teal"])
    panels = dict(look.panels([0]))
    assert list(panels) == ["input", "change", "result"] and not torch.equal(panels["input"], panels["result"])
    assert dict(about_pictures(look))["change"].startswith("All that the method does to the input.")
    assert "logits" not in vars(model.details.backbone), "it is as it was"


class Behind(torch.nn.Module):
    """Any f_in in front of a backbone, whose classes are averaged over the views."""

    def __init__(self, f_in, backbone):
        super().__init__()
        self.f_in, self.backbone = f_in, backbone

    def forward(self, x):
        return self.backbone.logits(self.f_in(x)).unflatten(0, (len(x), -1)).mean(dim=1)[:, :10]


@pytest.mark.parametrize("name", INPUT_REGISTRY.registered_names())
@torch.no_grad()
def test_every_input_is_shown_as_it_is(smm, name):
    model = load_prompted(smm)
    cfg, kind = model.details.cfg, INPUT_REGISTRY.get(name)
    options = cfg.TRAINER.VR.clone()
    options.update(PIXEL_MEAN=cfg.INPUT.PIXEL_MEAN, PIXEL_STD=cfg.INPUT.PIXEL_STD, PAD_SIDE=40)
    torch.manual_seed(1)
    f_in = kind.from_cfg(options, 64).eval()
    for parameter in f_in.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    model.network = Behind(f_in, model.details.backbone)
    look = looks.look_at(model, [Image.new("RGB", (20, 20), colour) for colour in ("teal", "olive")], ["", ""])
    panels, views = dict(look.panels([0, 1])), f_in.views
    expected = unnormalize(f_in(look.x), cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD).unflatten(0, (2, views))
    assert torch.allclose(panels["result"], torch.cat(list(expected.unbind(1)), dim=-1), atol=1e-6)
    assert panels["input"].shape == panels["change"].shape == (2, 3, 64, 64 * views) and panels["change"].std() > 0
    terms, own = dict(about_pictures(look)), f_in.captions()
    assert own.keys() <= {"mask", "pattern", "change"} and own["change"] in terms["change"]
    assert ("mask" in terms) == ("mask" in own) == any(heading.startswith("mask") for heading in panels)
    assert ("pattern" in own) == (f_in.pattern() is not None or name == "only_mask")


def untrained(name, backbone):
    """The model of a trainer before its training, on `tiny_clip`."""
    trainer = TRAINER_REGISTRY.get(name)
    settings = {"TRAINER.NAME": name, "DATASET.NAME": "digits"}
    settings |= {f"TRAINER.{name.upper()}.MAPPING": "text"} if name in ("SMM", "VR", "VP") else {}
    recipe = ROOT / f"configs/trainers/{name}/tiny_clip.yaml"
    cfg = build_cfg([recipe if recipe.exists() else ROOT / "configs/trainers/CoOp/tiny_clip.yaml"], settings)
    if not trainer.freeze_backbone:
        backbone = build_backbone("tiny_clip", frozen=False, verbose=False)
    network = trainer.build_network(cfg, backbone, [*"0123456789"])
    model = PromptedModel(network, build_transform(cfg, is_train=False), [*"0123456789"]).eval()
    modules = {part: module for part, (module, _) in trainer.trained_parts(cfg, network).items()}
    model.details = Details(cfg, {}, backbone, modules)
    return model


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_says_where_it_learns(name, tiny_clip):
    model = untrained(name, tiny_clip)
    look = looks.look_at(model, [Image.new("RGB", (20, 20), "teal")], [""])
    terms, about = dict(about_pictures(look)), about_model(model)
    words = {
        **dict.fromkeys(("VPT", "LoRA"), "acts inside of it."),
        **dict.fromkeys(("CLIPLoRA", "MaPLe", "PromptSRC"), "acts inside of its image tower and its text tower"),
        "FullFT": "its own weights are trained",
        "ZeroshotCLIP": "nothing is trained",
    }
    if name in ("SMM", "VR", "VP"):
        assert "result" in terms and look.pictures.masks
    else:
        assert look.pictures is None and words.get(name, "lies behind it, or in the text") in terms["input"]
    assert about[0] and about[-1].startswith("Nothing is trained" if name == "ZeroshotCLIP" else "Trained: `")


def test_names_are_text_on_the_page_and_nothing_else(smm, tmp_path):
    model = load_prompted(smm)
    evil = '</title><script>alert("1")</script>\u202e {} <!-- `x` "onload=\'y\''
    model.classnames[0] = evil
    model.details.results["dataset"] = evil
    model.details.results["command"] = f"python train.py {evil}"
    tested = tests.tested_of(smm, None)
    tested.confusion.classnames[0] = evil
    tested.worst = [dataclasses.replace(mistake, path=evil, truth=evil, image=Image.new("RGB", (9, 9))) for mistake in tested.worst]
    look = looks.look_at(model, [Image.new("RGB", (20, 20))], [evil], torch.tensor([0]))
    page = write_look(look, tmp_path / "look", tested=tested)[0].read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script") == 1 and "alert(&#34;1&#34;)" in page, "the one of the page itself"
    assert "\u202e" not in page and "<!-- `" not in page
    assert page.count("&lt;/title&gt;&lt;script&gt;") > 20, "title, headings, alternative texts, tables, commands"
    parsed = Tags(page)
    assert not any(name.startswith("on") for _, attributes in parsed.found for name, _ in attributes)
    assert [tag for tag, _ in parsed.found].count("script") == 1
