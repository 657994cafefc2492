"""`visualize.py`'s directory: PNG files, and one HTML page that needs none of them."""

import base64
import contextlib
import html
from collections import Counter
from pathlib import Path

import torch

from ..data.store import read_item_image
from ..utils.images import UnreadableImageError
from ..utils.places import naming_file, new_directory
from ..utils.text import printable
from .canvas import save
from .look import context_words, features_figure_of, image_figure, mapping_edges, mapping_figure, pattern_figure

PAGE = "index.html"
ROWS = 1000  # of the mapping's table
STYLE = """
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1b1b; background: #fff;
       max-width: 1240px; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
p.lead { color: #555; margin-top: 0; } figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: .8rem 0; }
td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #bbb; font-weight: 600; } td { border-bottom: 1px solid #eee; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def write_look(look, out, features=None):
    """Write everything there is to see of a `Look` to the directory `out`, which must not hold anything yet.

    Args:
        features: list of `Datum` for t-SNE, or None for none.

    Returns:
        Paths of the files, the page first.

    Raises:
        ConfigError: `out` holds something, or cannot be made.
    """
    with new_directory(out) as directory:
        names = [path.name for path in _write_look(look, directory, features)]
    return [Path(out, name) for name in names]


def _write_look(look, out, features):
    model = look.model
    title = title_of(model)
    paths, sections = [], []

    def add(heading, name, figures, text="", table=""):
        files = []
        for number, figure in enumerate(figures, start=1):
            path = out / (f"{name}-{number:03d}.png" if len(figures) > 1 or name == "image" else f"{name}.png")
            save(figure, path)
            paths.append(path)
            files.append(path)
        if files or table:
            sections.append(_section(heading, text, files, table))

    add("Images", "image", [image_figure(look, index) for index in range(len(look.names))], _images_text(look))
    if (figure := pattern_figure(model)) is not None:
        add("The pattern", "pattern", [figure], "What is learned for all images alike, scaled to its largest value.")
    edges = mapping_edges(model)
    if edges:
        rows = [(target, source, f"{100 * share:.0f} %") for target, source, share in edges[:ROWS]]
        text = "Which classes of the backbone are read as which classes of the task."
        add("Label mapping", "mapping", [mapping_figure(model)], text, _table(("target class", "source class", "share"), rows))
    words = context_words(model)
    if words:
        rows = [(position, ", ".join(f"{word} ({distance:.2f})" for word, distance in near)) for position, near in words]
        text = "The words of the vocabulary that lie nearest to each learned context vector (Euclidean distance)."
        add("Context", "context", [], text, _table(("vector", "nearest words"), rows))
    if features and (figure := features_figure_of(model, features, title)) is not None:
        text = "t-SNE of what the backbone makes of training images, before a label mapping: what looks alike to it lies together."
        add("Features", "features", [figure], text)
    page = out / PAGE
    with naming_file(page):
        page.write_text(_page(title, _facts(model), sections), encoding="utf-8")
    return [page, *paths]


def spread(items, number):
    """`number` of a list of `Datum` (or all), of all classes alike, always the same ones: (PIL images, (N,) labels).

    Those that cannot be read are left out.
    """
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).tolist()
    seen, rounds = Counter(), []
    for position in order:
        seen[items[position].label] += 1
        rounds.append((seen[items[position].label], position))
    images, labels = [], []
    for _, position in sorted(rounds, key=lambda entry: entry[0]):
        if len(images) == number:
            break
        with contextlib.suppress(UnreadableImageError):
            images.append(read_item_image(items[position]))
            labels.append(items[position].label)
    return images, torch.tensor(labels)


def title_of(model):
    cfg = model.details.cfg
    method = cfg.TRAINER.get(cfg.TRAINER.NAME.upper(), {}).get("METHOD", "")
    name = cfg.TRAINER.NAME + (f" ({method})" if method and method.lower() != cfg.TRAINER.NAME.lower() else "")
    return f"{name} on {cfg.DATASET.NAME}, {cfg.MODEL.BACKBONE.NAME}"


def _facts(model):
    cfg, results = model.details.cfg, model.details.results
    accuracy, shots = results.get("accuracy"), results.get("shots")
    rows = [
        ("accuracy", "not tested" if accuracy is None else f"{accuracy:.1f} % on {results.get('num_test')} test images"),
        ("trained on", f"{results.get('num_train')} images" + (f" ({shots} a class)" if shots and shots > 0 else "")),
        ("trained parameters", f"{results.get('params_trainable') or 0:,}"),
        ("backbone", f"{model.details.backbone.spec.name}, {model.details.backbone.num_parameters:,} parameters"),
        ("image size", f"{cfg.INPUT.SIZE[0]} x {cfg.INPUT.SIZE[1]}"),
        ("seed, epochs", f"{results.get('seed')}, {results.get('epochs')}"),
    ]
    return _table((), rows)


def _images_text(look):
    parts = []
    if look.f_in is not None:
        parts.append(
            "A mask is shown over the image in grey: red where the pattern is added, blue where it is subtracted, white at zero."
        )
    if look.labels is not None:
        parts.append("A green bar is the true class.")
    return " ".join(parts)


def _table(head, rows):
    cells = "".join("<tr>" + "".join(f"<td{_number(cell)}>{_escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    header = "<tr>" + "".join(f"<th>{_escaped(name)}</th>" for name in head) + "</tr>" if head else ""
    return f"<table>{header}{cells}</table>"


def _escaped(text):
    return html.escape(printable(str(text)))


def _number(cell):
    return ' class="number"' if isinstance(cell, (int, float)) or str(cell).endswith(" %") else ""


def _section(heading, text, files, table):
    figures = "".join(
        f'<figure><img alt="{_escaped(heading)} {number}" src="data:image/png;base64,{_base64(file)}"></figure>'
        for number, file in enumerate(files, start=1)
    )
    lead = f"<p>{_escaped(text)}</p>" if text else ""
    return f"<section><h2>{_escaped(heading)}</h2>{lead}{figures}{table}</section>"


def _base64(file):
    return base64.b64encode(file.read_bytes()).decode("ascii")


def _page(title, facts, sections):
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_escaped(title)}</title>'
    body = f"<h1>{_escaped(title)}</h1>{facts}{''.join(sections)}"
    return f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>\n'
