"""The whole reprogrammed classifier as one graph, from uint8 pixels to logits: for ONNX Runtime, or of `torch.export`."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from ..data.transforms import build_transform
from ..names import ONNX, TORCH
from ..utils.errors import ConfigError, DataError, WeightsError
from ..utils.places import naming_file, new_directory
from .description import DESCRIPTION_FILE, FILES, check_preprocessing, describe, write_description
from .model import ImageClassifier, Picture, PromptedModel

TOLERANCE = 1e-3  # of a logit
CROPS = 12  # of photographs, to compare on
INPUT, OUTPUT = "pixels", "logits"


def write_exported(model: PromptedModel, out: str | os.PathLike, form: str, images: Sequence[Picture] = ()) -> str:
    """Write a `PromptedModel` on the CPU as a graph to the new directory `out`, if it does what the model does.

    The graph's input `pixels` is (N, 3, h, w) uint8 RGB as `model.preprocess` gives it, N being free; its output `logits` is
    (N, K) float32. It is run on `images` and on crops of photographs, in batches of several sizes.

    Args:
        form: ONNX or TORCH.
        images: what `preprocess` takes.

    Returns:
        A line about the comparison.

    Raises:
        ConfigError: `out` holds something, or a library is missing.
        WeightsError: the graph's logits differ by more than TOLERANCE, or its arg-max does, on any image.
    """
    if form == ONNX:
        _import("onnx", "onnxscript", "onnxruntime")
    pixels = torch.cat([model.preprocess(list(images)), model.preprocess(photographs(CROPS))])
    with new_directory(out) as directory:
        file = directory / FILES[form]
        with _quiet(), naming_file(file):
            program = exported_program(model, pixels)
            if form == ONNX:
                _write_onnx(program, file)
                runner = _OnnxSession(file)
            else:
                write_program(program, file)
                runner = _program_runner(file)
        report = _compare(model, runner, pixels, form)
        write_description(describe(model, form, [file]), directory)
    return report


@torch.no_grad()
def exported_program(model: PromptedModel, pixels: torch.Tensor) -> torch.export.ExportedProgram:
    """The `torch.export` program of a `PromptedModel`, with a batch of any size.

    Raises:
        ConfigError: a part of the model cannot be traced, or only for some sizes of the batch.
    """
    model(pixels[:2])  # what does not depend on the image, such as text features, is computed now and a constant in the graph
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.export.export(model, (pixels[:2],), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:  # of whatever a plug-in's module does; torch has many kinds
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"torch.export cannot trace this model for batches of any size ({type(error).__name__}: {reason}); in a module of your"
            " own, use x.shape[0] for the number of images, not len(x), and no branches on values"
        ) from error
    _leave_out_unused(program)
    return program


def _leave_out_unused(program):
    """Take weights out of a program that it does not compute with: those that others were merged into, a text tower whose features
    are constants."""
    inputs, unused = program.graph_signature.input_specs, []
    for node in [node for node in program.graph.nodes if node.op == "placeholder" and not node.users]:
        spec = next(spec for spec in inputs if spec.arg.name == node.name)
        if spec.target is not None:  # no image
            program.graph.erase_node(node)
            inputs.remove(spec)
            unused.append(spec.target)
    for name in unused:
        program.state_dict.pop(name, None)
        program.constants.pop(name, None)  # where buffers are that are not saved
    program.graph_module.recompile()


def _write_onnx(program, file):
    torch.onnx.export(program, (), str(file), input_names=[INPUT], output_names=[OUTPUT], external_data=False, verbose=False)


def write_program(program: torch.export.ExportedProgram, file: Path) -> None:
    """Write a program of `torch.export` to the path `file`. Raises `OSError` where it cannot be."""
    content = io.BytesIO()  # torch's own writer aborts the process where the disk is full
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())


def _program_runner(file):
    module = torch.export.load(file).module()  # the file that was just written: nothing of others' is loaded

    @torch.no_grad()
    def run(pixels):
        return module(pixels)

    return run


@torch.no_grad()
def _compare(model, runner, pixels, form):
    largest = 0.0
    for size in sorted({1, 3, len(pixels)}):
        for part in pixels.split(size):
            expected, got = model(part).float(), runner(part)
            difference = float((got - expected).abs().max())
            if not difference <= TOLERANCE or not torch.equal(got.argmax(dim=1), expected.argmax(dim=1)):
                allowed = f"allowed: {TOLERANCE:g}, and the same class has to win"
                raise WeightsError(
                    f"the {form} graph was not written: its logits differ by {difference:.2g} from the model's ({allowed});"
                    " export a bundle instead"
                )
            largest = max(largest, difference)
    return f"{form}: the same class as the model on {len(pixels)} images, logits within {largest:.1g}"


def photographs(number: int) -> list[Image.Image]:
    """`number` crops of the two photographs that come with scikit-learn, of sides from 64 pixels on; the same at every call."""
    from sklearn.datasets import load_sample_images

    rng, crops = np.random.default_rng(0), []
    for index in range(number):
        image = load_sample_images().images[index % 2]
        height, width = (int(rng.integers(64, side + 1)) for side in image.shape[:2])
        top, left = (int(rng.integers(0, side - taken + 1)) for side, taken in zip(image.shape, (height, width), strict=False))
        crops.append(Image.fromarray(image[top : top + height, left : left + width]))
    return crops


def open_exported(directory: str | os.PathLike, description: dict, cfg: CfgNode) -> "OnnxModel":
    """The `OnnxModel` in `directory`.

    Raises:
        ConfigError: it is a `torch.export` program, or ONNX Runtime is missing.
        WeightsError: the graph is damaged, or not what the description says.
    """
    if description["format"] == TORCH:
        file = Path(directory, FILES[TORCH])
        raise ConfigError(
            f"{file} is a program of torch.export, whose files can hold Python objects, so it is not opened here; use"
            " torch.export.load on a file of your own, or predict from the bundle"
        )
    return OnnxModel(Path(directory, FILES[ONNX]), cfg, description)


class OnnxModel(ImageClassifier):
    """A graph of ONNX Runtime with the preprocessing and the class names that belong to it; predicts as a `PromptedModel`."""

    def __init__(self, file: Path, cfg: CfgNode, description: dict):
        _import("onnxruntime")
        self.pipeline = build_transform(cfg, is_train=False)
        self.classnames = list(description["classnames"])
        self.batch_size = cfg.DATALOADER.TEST.BATCH_SIZE
        self.grey_bits = cfg.DATASET.GREY_BITS
        check_preprocessing(description, cfg, self.pixel_shape, file.with_name(DESCRIPTION_FILE))
        self.logits_of = _OnnxSession(file)
        self.logits_of.check(self.pixel_shape, len(self.classnames))


class _OnnxSession:
    def __init__(self, file):
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        self.file = file
        try:
            self._session = InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library has exceptions of its own
            raise WeightsError(
                f"{file}: ONNX Runtime cannot open it ({str(error).splitlines()[0][:160]}); export it again"
            ) from error

    def check(self, pixel_shape, num_classes):
        """Raises `DataError` unless the graph takes any number of images of `pixel_shape` and gives that many logits for each."""
        for what, entries, name, kind, shape in (
            ("input", self._session.get_inputs(), INPUT, "tensor(uint8)", pixel_shape),
            ("output", self._session.get_outputs(), OUTPUT, "tensor(float)", (num_classes,)),
        ):
            found = [[entry.name, entry.type, *entry.shape] for entry in entries]
            free = [[*entry[:2], "N", *entry[3:]] if len(entry) > 2 and not isinstance(entry[2], int) else entry for entry in found]
            if free != [[name, kind, "N", *shape]]:
                shown = "; ".join(f"{entry[0]!a} {entry[1]} {entry[2:]}" for entry in found) or "none"
                raise DataError(f"{self.file}: its {what} is {shown}; expected '{name}' {kind} {['N', *shape]}; export it again")
        logits = self(torch.zeros((1, *pixel_shape), dtype=torch.uint8))
        if logits.shape != (1, num_classes):
            raise DataError(f"{self.file}: gives {tuple(logits.shape)} for an image and {num_classes} class names; export it again")

    def __call__(self, pixels):
        try:
            return torch.from_numpy(self._session.run([OUTPUT], {INPUT: pixels.numpy()})[0])
        except Exception as error:  # the library's own, for a graph that does not do what it declares
            raise WeightsError(
                f"{self.file}: ONNX Runtime cannot run it ({str(error).splitlines()[0][:160]}); export it again"
            ) from error


def _import(*names):
    import importlib

    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"the format onnx needs {name}; install it with: pip install 'dassl_vr[onnx]'") from error


@contextlib.contextmanager
def _quiet():
    """Without the exporters' reports of progress; what goes wrong is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
