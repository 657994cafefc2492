"""`visualize.py`'s directory: PNG files, and one HTML page that needs none of them."""

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..data import Datum
from ..reprogramming.pictures import signed_to_rgb
from ..utils.arguments import command_line
from ..utils.places import check_new_directory, naming_file, renewed_directory
from .canvas import described, save
from .features import features_figure
from .look import Look, context_words, image_figure, mapping_edges, mapping_figure, pattern_figure, title_of
from .look_words import about_model, about_pictures, alt_of_pattern, alt_of_picture
from .page import Bars, Picture, Row, Section, Table, page, png_of, with_names
from .per_class import confusion_figure, per_class_table
from .tested import Tested

PAGE = "index.html"
OURS = re.compile(r"index\.html|(?:image|error)-\d+\.png|(?:pattern|mapping|confusion|features)\.png")
LISTED = re.compile(r'<meta name="dassl_vr-files" content="([^"]*)">')
HEAD = 2**20  # characters of a page in which its list of files is
ROWS = 1000  # of a table of classes
SIDE = 512  # pixels of the longer side of an image on the page
MASK_OVER_IMAGE = 0.65  # opacity


def earlier_files(out: str | os.PathLike) -> list[str]:
    """Names of the files that an earlier call has left in `out`, the page first; [] where there is nothing.

    Raises:
        ConfigError: it holds other things, and no page of an earlier call.
    """
    path = Path(out, PAGE)
    if path.is_file() and not Path(out).is_symlink():
        with path.open(encoding="utf-8", errors="replace") as file:
            listed = LISTED.search(file.read(HEAD))
        if listed:
            return [PAGE, *(name for name in listed[1].split() if OURS.fullmatch(name) and name != PAGE)]
    check_new_directory(out)
    return []


def write_look(
    look: Look, out: str | os.PathLike, items: Sequence[Datum] = (), features: int = 0, tested: Tested | str = ""
) -> list[Path]:
    """Write all figures and tables of a `Look` to the directory `out`.

    `out` may hold the page of an earlier call: its files are replaced, others stay.

    Args:
        items: images for t-SNE, of which `features` are drawn at random.
        tested: what the test of the run said; or a text, why that is not known.

    Returns:
        Paths of the files, the page first.

    Raises:
        ConfigError: `out` holds something else, or cannot be made.
    """
    with renewed_directory(out, earlier_files(out)) as directory:
        names = _LookPage(look, directory).write(items, features, tested)
    return [Path(out, name) for name in names]


class _LookPage:
    def __init__(self, look, directory):
        self.look, self.model, self.directory = look, look.model, directory
        self.files, self.sections = [], []

    def write(self, items, features, tested):
        """Names of the files, the page first."""
        self._images()
        self._pattern()
        self._mapping()
        self._context()
        self._test(tested)
        self._features(items, features)
        ran = self.model.details.results.get("command")
        commands = [*([("The run:", [ran])] if ran else []), ("This page:", [command_line()])]
        self.sections.append(Section("Commands", commands=commands))
        title, names = title_of(self.model), [PAGE, *self.files]
        path = self.directory / PAGE
        with naming_file(path):
            path.write_text(page(title, about_model(self.model), _facts(self.model), self.sections, names), encoding="ascii")
        return names

    def _chart(self, figure, name, alt, caption=""):
        """A figure as a file and on the page."""
        path = self.directory / name
        save(figure, path)
        self.files.append(name)
        return Picture(path.read_bytes(), alt, caption, name)

    # ------------------------------------------------------------------------------------------------- the images
    def _images(self):
        look, rows = self.look, []
        for index, name in enumerate(look.names):
            file, truth = f"image-{index + 1:03d}.png", look.truth(index)
            save(image_figure(look, index), self.directory / file)
            self.files.append(file)
            of_class = "" if truth is None else f", class {truth}"
            heading = with_names("{}", name) if truth is None else with_names("{}, class {}", name, truth)
            panels = look.panels([index])
            grey = dict(panels)["input"][0].mean(dim=0)
            pictures = [self._panel(kind, panel[0], grey, f"{name}{of_class}", file) for kind, panel in panels]
            rows.append(Row(heading, pictures, self._bars(index)))
        scale = look.limit if look.pictures is not None and look.pictures.masks else None
        self.sections.append(Section("Images", terms=about_pictures(look), scale=scale, rows=rows))

    def _panel(self, heading, picture, grey, of, file):
        alt = f"{alt_of_picture(heading, picture)}: {of}"
        if picture.dim() == 2:  # a mask over the image in grey
            picture = MASK_OVER_IMAGE * signed_to_rgb(picture, self.look.limit) + (1 - MASK_OVER_IMAGE) * grey
        return Picture(png_of(picture), alt, heading, file, pixels=True)

    def _bars(self, index):
        look, truth = self.look, self.look.truth(index)
        charts = [(f"after: classes of {look.model.details.data_name}", look.after[index])]
        if look.before is not None:
            charts.insert(0, (f"before: {look.before_what}", look.before[index]))
        return [Bars(heading, [(name, share, name == truth) for name, share in classes]) for heading, classes in charts]

    # -------------------------------------------------------------------------------------------------- the model
    def _pattern(self):
        figure = pattern_figure(self.model)
        if figure is not None:
            text = "Learned once for all images. First in colour, then each colour with its sign: red above 0, blue below."
            picture = self._chart(figure, "pattern.png", alt_of_pattern(self.model))
            self.sections.append(Section("Pattern", [text], pictures=[picture]))

    def _mapping(self):
        edges = mapping_edges(self.model)
        if not edges:
            return
        about = inspect.cleandoc(type(self.model.network.f_out).__doc__ or "").partition("\n\n")[0]
        text = "Lines lead from source classes of the backbone to the target classes they stand for, thicker where they count more."
        picture = self._chart(mapping_figure(self.model), "mapping.png", "The label mapping as lines; the table below lists them")
        rows = [(target, source, f"{100 * share:.0f} %") for target, source, share in edges[:ROWS]]
        table = Table(("target class", "source class", "share"), rows)
        self.sections.append(Section("Label mapping", [*filter(None, [about]), text], pictures=[picture], tables=[table]))

    def _context(self):
        words = context_words(self.model)
        if words:
            rows = [(place, ", ".join(f"{word} ({distance:.2f})" for word, distance in near)) for place, near in words]
            text = "The words of the vocabulary nearest to each learned context vector, with the Euclidean distance."
            self.sections.append(Section("Context", [text], tables=[Table(("vector", "nearest words"), rows)]))

    # ----------------------------------------------------------------------------------------------------- the data
    def _test(self, tested):
        if isinstance(tested, str):
            if tested:
                self.sections.append(Section("Test", [f"What the test said of each image is not known: {tested}"]))
            return
        confusion = tested.confusion
        head, rows = per_class_table([confusion])
        kept = [place for place, name in enumerate(head) if name != "method"]
        table = Table([head[place] for place in kept], [[row[place] for place in kept] for row in rows[:ROWS]])
        what = "validation" if tested.split == "val" else "test"
        right = tested.images - tested.errors
        text = f"Of {tested.images:,} {what} images {right:,} were classified correctly, {tested.errors:,} were not."
        columns = (
            "Accuracy: the share of the images of a class that were found. Precision: the share of its answers that are right."
        )
        self.sections.append(Section("Accuracy of each class", [text, columns], tables=[table]))
        picture = self._chart(confusion_figure(confusion, confusion.group.name), "confusion.png", confusion.in_words())
        text = "Each row is a true class, each column what its images were taken for, in percent of the row. The diagonal is right."
        self.sections.append(Section("Confusion matrix", [text], pictures=[picture]))
        if tested.worst:
            self.sections.append(self._errors(tested))

    def _errors(self, tested):
        rows, pictures = [], []
        for number, mistake in enumerate(tested.worst, start=1):
            right, wrong = f"{100 * mistake.of_truth:.1f} %", f"{100 * mistake.confidence:.1f} %"
            place = mistake.path or f"image {mistake.number}"
            rows.append((place, mistake.truth, mistake.predicted, wrong, right))
            if mistake.image is not None:
                image, file = mistake.image.copy(), f"error-{number:03d}.png"
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                png = png_of(image)
                (self.directory / file).write_bytes(png)
                self.files.append(file)
                alt = f"{place}: {mistake.truth}, taken for {mistake.predicted} ({wrong})"
                caption = with_names("{}, taken for {} ({})", mistake.truth, mistake.predicted, wrong)
                pictures.append(Picture(png, alt, caption, file, pixels=True))
        texts = ["The wrong answers that the model was surest of, surest first."]
        if len(pictures) < len(rows):
            texts.append("Images that are no longer where the run had them are not shown.")
        head = ("image", "class", "taken for", "its probability", "of the class")
        shown = [Row("", pictures)] if pictures else []
        return Section("Worst errors", texts, rows=shown, tables=[Table(head, rows)])

    def _features(self, items, features):
        figure = features_figure(self.model, items, features, title_of(self.model)) if items and features else None
        if figure is not None:
            text = (
                "Each point is a training image, its colour the class: t-SNE of the backbone's outputs, before the label mapping."
                " Images that the backbone finds alike are close; the axes have no unit."
            )
            picture = self._chart(figure, "features.png", f"Scatter plots. {described(figure)}")
            self.sections.append(Section("Features", [text], pictures=[picture]))


def _facts(model):
    cfg, results = model.details.cfg, model.details.results
    accuracy, shots = results.get("accuracy"), results.get("shots")
    rows = [
        ("accuracy", "not tested" if accuracy is None else f"{accuracy:.1f} % on {results.get('num_test')} test images"),
        ("trained on", f"{results.get('num_train')} images" + (f" ({shots} per class)" if shots and shots > 0 else "")),
        ("trained parameters", f"{results.get('params_trainable') or 0:,}"),
        ("backbone", f"{model.details.backbone.spec.name}, {model.details.backbone.num_parameters:,} parameters"),
        ("image size", f"{cfg.INPUT.SIZE[0]} x {cfg.INPUT.SIZE[1]}"),
        ("seed, epochs", f"{results.get('seed')}, {results.get('epochs')}"),
    ]
    return Table((), rows)
