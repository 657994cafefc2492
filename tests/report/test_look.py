"""`visualize.py`: what is drawn of a model, and the page."""

import base64
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from dassl_vr import load_prompted
from dassl_vr.cli.train import main as train
from dassl_vr.cli.visualize import main as visualize
from dassl_vr.data import Datum
from dassl_vr.engine.charts import TRAINED
from dassl_vr.report import look as looks
from dassl_vr.report.features import features_before_after
from dassl_vr.report.page import write_look
from dassl_vr.report.samples import random_items, spread

ROOT = Path(__file__).resolve().parents[2]


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


def test_the_page_holds_all_its_pictures(smm, tmp_path, capsys):
    assert visualize([str(smm), "--out", str(tmp_path / "look"), "--number", "2", "--features", "40"]) == 0
    files = {path.name for path in (tmp_path / "look").iterdir()}
    assert files == {"index.html", "image-001.png", "image-002.png", "pattern.png", "mapping.png", "features.png"}
    page = (tmp_path / "look" / "index.html").read_text()
    inline = {base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)}
    assert inline == {path.read_bytes() for path in (tmp_path / "look").glob("*.png")}
    assert not re.search(r'(src|href)="(?!data:)', page), "nothing outside of the file is needed"
    assert "SMM on digits, tiny_vit" in page and capsys.readouterr().out.count("wrote") == 6
    model = load_prompted(smm)
    for target, source, _ in looks.mapping_edges(model):
        assert f"<td>{target}</td><td>{source}</td>" in page


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


def test_a_page_that_is_there_stays(smm, tmp_path, capsys):
    (tmp_path / "index.html").write_text("mine")
    assert visualize([str(smm), "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"] and (tmp_path / "index.html").read_text() == "mine"


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
        *("input", "mask, red", "mask, green", "mask, blue", "mask x pattern", "result"),
        *("before:\nsource classes", "after: classes of\ndigits"),
    ]
    shown = figure.axes[5].images[0].get_array()
    with torch.no_grad():
        assert torch.allclose(torch.tensor(shown), look.prompted([0]).results[0].permute(1, 2, 0))
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.details.cfg.INPUT.PIXEL_MEAN, model.details.cfg.INPUT.PIXEL_STD))
        result = (model.network.f_in(look.x[:1])[0] * std + mean).clamp(0, 1)
        assert torch.allclose(torch.tensor(shown), result.permute(1, 2, 0))


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
    assert {path.name for path in (tmp_path / "look").iterdir()} == {"index.html", "image-001.png"}
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


def test_names_are_text_on_the_page_and_nothing_else(smm, tmp_path):
    model = load_prompted(smm)
    evil = '</title><script>alert("1")</script>\u202e'
    model.classnames[0] = evil
    model.details.cfg.DATASET.NAME = evil
    look = looks.look_at(model, [Image.new("RGB", (20, 20))], [evil], torch.tensor([0]))
    page = write_look(look, tmp_path / "look")[0].read_text(encoding="utf-8")
    assert "<script" not in page and "\u202e" not in page
    assert page.count("&lt;/title&gt;&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;\\u202e") >= 3, "title, heading, label mapping"
