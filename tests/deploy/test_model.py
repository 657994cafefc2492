"""Loading without the engine, and what `predict` takes."""

import numpy as np
import pytest
import torch
from PIL import Image

from dassl_vr import load_prompted
from dassl_vr.deploy import PromptedModel
from dassl_vr.deploy.bundle import write_bundle
from dassl_vr.deploy.exported import write_exported
from dassl_vr.deploy.load import model_of
from dassl_vr.engine import build_trainer
from dassl_vr.utils.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def model(smm_bundle):
    return load_prompted(smm_bundle, device="cpu")


def test_neither_engine_nor_data_are_built(trained, monkeypatch):
    directory = trained("SMM")
    monkeypatch.setattr("dassl_vr.engine.trainer.SimpleTrainer.__init__", lambda *args: pytest.fail("a trainer was built"))
    monkeypatch.setattr("dassl_vr.data.datasets.build_dataset", lambda *args: pytest.fail("a data set was built"))
    before = torch.get_rng_state()
    model = load_prompted(directory)
    assert isinstance(model, torch.nn.Module) and not model.training
    assert torch.equal(torch.get_rng_state(), before), "no random number was drawn"


@pytest.mark.parametrize("name", ["SMM", "CoOp"])
def test_a_trainer_that_still_lives_gives_the_same_model(name, trained, digits, tmp_path):
    loaded = load_prompted(trained(name), device="cpu")
    trainer = build_trainer(loaded.details.cfg)
    trainer.load_model(str(trained(name)))
    model = model_of(trainer)
    images = digits[0][:20]
    probabilities = model.predict(images).probabilities
    expected = loaded.predict(images).probabilities  # without TRAIN.KERNELS: equal up to rounding
    assert torch.allclose(probabilities, expected, rtol=1e-4, atol=1e-6) and not model.training
    write_bundle(model, tmp_path / "bundle")
    bundle = load_prompted(tmp_path / "bundle", device="cpu")
    assert torch.equal(bundle.predict(images).probabilities, loaded.predict(images).probabilities)


def test_all_forms_of_an_image_are_one(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "image.png")
    expected = model.predict(image).probabilities
    assert expected.shape == (1, 10) and float(expected.sum()) == pytest.approx(1)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for form in (tmp_path / "image.png", str(tmp_path / "image.png"), pixels, tensor, tensor[None], [image]):
        assert torch.equal(model.predict(form).probabilities, expected)
    assert len(model.predict([])) == 0


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_any_mode(model, mode, digits):
    image = digits[0][0].convert("L" if mode == "I;16" else mode) if mode != "LA" else digits[0][0].convert("L").convert("LA")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        assert torch.equal(model.predict(image).probabilities, model.predict(digits[0][0]).probabilities)
    assert model.predict(image).probabilities.isfinite().all()


def test_a_photograph_on_its_side_is_turned_upright(model, tmp_path):
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:20] = 255
    turned = Image.fromarray(np.rot90(pixels).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = model.predict(pixels).probabilities
    assert torch.equal(model.predict(tmp_path / "turned.png").probabilities, upright)
    assert torch.equal(model.predict(Image.open(tmp_path / "turned.png")).probabilities, upright)


@pytest.mark.parametrize("form", ["bundle", "onnx"])
def test_white_in_deep_greys_is_that_of_the_run(trained, digits, tmp_path, form):
    model = load_prompted(trained("SMM"), device="cpu")
    model.details.cfg.DATASET.GREY_BITS = 12
    if form == "bundle":
        write_bundle(model, tmp_path / "model")
    else:
        pytest.importorskip("onnxruntime")
        write_exported(model, tmp_path / "model", "onnx")
    exported = load_prompted(tmp_path / "model", device="cpu")
    grey = np.asarray(digits[0][0].convert("L")).astype(int)
    Image.fromarray((grey * 4095 // 255).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "plain.png")
    deep, plain = (exported.preprocess(tmp_path / name).int() for name in ("deep.png", "plain.png"))
    assert (deep - plain).abs().max() <= 1 and plain.max() > 100
    with Image.open(tmp_path / "deep.png") as image:
        assert torch.equal(exported.preprocess(image).int(), deep)


def test_top_and_names(model, digits):
    predictions = model.predict(digits[0][:5])
    top = predictions.top(3)
    assert [classes[0][0] for classes in top] == predictions.names
    assert all(first[1] >= second[1] >= third[1] for first, second, third in top)
    assert len(predictions.top(99)[0]) == 10


def test_forward_takes_preprocessed_bytes(model, digits):
    pixels = model.preprocess(digits[0][:3])
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, *model.pixel_shape)
    with torch.inference_mode():  # as `predict`; with gradients the mask generator's layers are computed otherwise, up to rounding
        assert torch.equal(model(pixels).softmax(dim=1), model.predict(digits[0][:3]).probabilities)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), 7, Image.new("F", (4, 4))]
)
def test_arguments_that_are_not_images_are_refused(model, image):
    with pytest.raises(DataError, match="image number 1"):
        model.predict([Image.new("RGB", (4, 4)), image])


def test_names_that_are_wrong(smm_bundle, trained):
    for arguments, words in (({"device": "gpu"}, "device is 'gpu'"), ({"precision": "fp8"}, "precision 'fp8'")):
        with pytest.raises(ConfigError, match=words):
            load_prompted(smm_bundle, **arguments)


def test_the_best_by_validation_is_what_is_loaded(trained, tmp_path):
    import shutil

    run = shutil.copytree(trained("LinearProbe"), tmp_path / "run")
    last = next((run / "head").glob("model.pth.tar-*"))
    state = torch.load(last, weights_only=True)
    state["state_dict"] = {key: torch.zeros_like(value) for key, value in state["state_dict"].items()}
    torch.save(state, run / "head" / "model-best.pth.tar")
    model = load_prompted(run)
    assert isinstance(model, PromptedModel) and not model.network.f_out.linear.weight.any()
