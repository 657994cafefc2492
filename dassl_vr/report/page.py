"""`visualize.py`'s directory: PNG files, and one HTML page that needs none of them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from ..data import Datum
from ..utils.places import naming_file, new_directory
from ..utils.text import printable
from .canvas import save
from .features import features_figure
from .look import Look, context_words, image_figure, mapping_edges, mapping_figure, pattern_figure, title_of

PAGE, TEMPLATE = "index.html", "look.html"
ROWS = 1000  # of the mapping's table


def _shown(value):
    """A value for a template, without control characters; the output of the template's own macros is HTML already."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_shown,
    keep_trailing_newline=True,
)


@dataclass
class Table:
    """Numbers, and text that ends in ` %`, are aligned to the right. `head` may be empty."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass
class Section:
    """A part of the page: a text, pictures (PNG files in base64) and a table, all of them optional."""

    heading: str
    text: str
    pictures: list[str]
    table: Table | None


def write_look(look: Look, out: str | Path, items: Sequence[Datum] = (), features: int = 0) -> list[Path]:
    """Write all figures and tables of a `Look` to the directory `out`, which must be empty or absent.

    Args:
        items: images for t-SNE, of which `features` are drawn at random.

    Returns:
        Paths of the files, the page first.

    Raises:
        ConfigError: `out` holds something, or cannot be made.
    """
    with new_directory(out) as directory:
        names = [path.name for path in _write_look(look, directory, items, features)]
    return [Path(out, name) for name in names]


def _write_look(look, out, items, features):
    model = look.model
    title = title_of(model)
    paths, sections = [], []

    def add(heading, name, figures, text="", table=None):
        files = []
        for number, figure in enumerate(figures, start=1):
            path = out / (f"{name}-{number:03d}.png" if len(figures) > 1 or name == "image" else f"{name}.png")
            save(figure, path)
            paths.append(path)
            files.append(path)
        if files or table:
            sections.append(Section(heading, text, [_base64(file) for file in files], table))

    add("Images", "image", [image_figure(look, index) for index in range(len(look.names))], _images_text(look))
    if (figure := pattern_figure(model)) is not None:
        add("The pattern", "pattern", [figure], "Learned once for all images; scaled to its largest value.")
    edges = mapping_edges(model)
    if edges:
        rows = [(target, source, f"{100 * share:.0f} %") for target, source, share in edges[:ROWS]]
        text = "Which source classes of the backbone stand for which target classes."
        add("Label mapping", "mapping", [mapping_figure(model)], text, Table(("target class", "source class", "share"), rows))
    words = context_words(model)
    if words:
        rows = [(position, ", ".join(f"{word} ({distance:.2f})" for word, distance in near)) for position, near in words]
        text = "The words of the vocabulary nearest to each learned context vector (Euclidean distance)."
        add("Context", "context", [], text, Table(("vector", "nearest words"), rows))
    if items and features and (figure := features_figure(model, items, features, title)) is not None:
        text = (
            "t-SNE of the backbone's outputs for training images, before the label mapping: images that it finds alike are close."
        )
        add("Features", "features", [figure], text)
    page = out / PAGE
    with naming_file(page):
        content = PAGES.get_template(TEMPLATE).render(title=title, facts=_facts(model), sections=sections)
        page.write_text(content, encoding="utf-8")
    return [page, *paths]


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


def _images_text(look):
    parts = []
    if look.f_in is not None:
        parts.append(
            "A mask is shown over the image in grey: red where the pattern is added, blue where it is subtracted, white at zero."
        )
    if look.labels is not None:
        parts.append("A green bar is the true class.")
    return " ".join(parts)


def _base64(file):
    return base64.b64encode(file.read_bytes()).decode("ascii")
