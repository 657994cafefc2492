"""Print class names and probabilities for images, from a run, a bundle or an exported graph."""

from __future__ import annotations

import argparse
import csv
import fnmatch
import glob
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..utils.arguments import OneLineParser, add_plugin_flag
from ..utils.errors import ConfigError, DataError
from ..utils.text import one_line, say, spreadsheet_cell
from .errors import one_line_errors

if TYPE_CHECKING:
    from ..deploy import ImageClassifier, Predictions

EXIT_SKIPPED = 1
EPILOG = """examples:
  %(prog)s output/digits/SMM/lite0/default/seed1 photo.jpg
  %(prog)s my_bundle photos/ 'more/**/*.png' --topk 3 --csv > predictions.csv

An image that cannot be read is named on standard error and left out; the exit code is then 1.
"""


def build_predict_parser() -> OneLineParser:
    parser = OneLineParser(description=__doc__, epilog=EPILOG)
    parser.add_argument(
        "model", metavar="MODEL_DIR", help="directory of a finished run, a bundle or an exported ONNX graph; or hub:USER/NAME"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR|GLOB", help="image files, directories of them, or patterns")
    parser.add_argument("--topk", type=int, default=1, metavar="K", help="classes per image (default: 1)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print a line for each image and class")
    parser.add_argument("--batch-size", type=int, default=0, metavar="N", help="images at a time (default: as in testing)")
    add_model_flags(parser)
    return parser


def add_model_flags(parser: argparse.ArgumentParser, device: bool = True) -> None:
    """The flags of all commands that load a trained model."""
    if device:
        parser.add_argument("--device", help="of the model: cpu, cuda, mps, xpu, ... (default: the accelerator if there is one)")
    parser.add_argument("--weights", default="", metavar="FILE", help="local file with the backbone's weights")
    add_plugin_flag(parser, "the trainer or the backbone, if it is not of this package")


def find_images(patterns: Iterable[str]) -> list[str]:
    """Paths of the images that files, directories and glob patterns name, in order, each once.

    A name that matches nothing is kept: reading it says what is wrong.
    """
    from ..data.datasets.walk import image_files
    from ..utils.images import left_out_line

    found = []
    for pattern in patterns:
        if os.path.isdir(pattern):
            others = []
            inside = image_files(pattern, others)
            left_out = left_out_line(others)
            if not inside:
                raise DataError(f"{pattern}: no image files in it" + (f", only {left_out}" if left_out else ""))
            if left_out:
                say(f"left out of {pattern}: {left_out}, which are no images of a type that is read")
            found += inside
        elif os.path.exists(pattern) or not glob.has_magic(pattern):
            found.append(pattern)
        else:
            matches = _matches(pattern)
            if not matches:
                raise DataError(f"{pattern}: matches no file")
            found += matches
    return list(dict.fromkeys(found))


def _matches(pattern):
    """Sorted paths of the files that match a glob pattern; `**` is any number of folders, each entered once."""
    from ..data.datasets.walk import image_files

    parts = pattern.replace(os.sep, "/").split("/")
    if "**" not in parts:
        return sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    base, wanted = "/".join([*fixed, ""]) or "./", parts[len(fixed) :]
    paths = image_files(base, suffixes="") if os.path.isdir(base) else []
    fitting = [path for path in paths if _fits(os.path.relpath(path, base).split(os.sep), wanted)]
    return fitting if fixed else [path.removeprefix("./") for path in fitting]


def _fits(parts, wanted):
    """Whether the parts of a path match the parts of a pattern."""
    if not wanted or not parts:
        return not parts and all(part == "**" for part in wanted)
    if wanted[0] == "**":
        return any(_fits(parts[skipped:], wanted[1:]) for skipped in range(len(parts) + 1))
    return fnmatch.fnmatch(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def predict_files(
    model: ImageClassifier, paths: Sequence[str], batch_size: int, on_unreadable: Callable[[str, DataError], object]
) -> Iterator[tuple[list[str], Predictions]]:
    """Yields ([path, ...], their `Predictions`) batch by batch; what cannot be read goes to `on_unreadable(path, error)`."""
    import torch

    for start in range(0, len(paths), batch_size):
        readable, images = [], []
        for path in paths[start : start + batch_size]:
            try:
                images.append(model.preprocess(path))
                readable.append(path)
            except DataError as error:
                on_unreadable(path, error)
        if images:
            yield readable, model.predict_pixels(torch.cat(images))


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    args = build_predict_parser().parse_args(argv)
    from ..deploy import load_prompted
    from ..utils.images import once, remarks_to

    for flag, value, least in (("--topk", args.topk, 1), ("--batch-size", args.batch_size, 0)):
        if value < least:
            raise ConfigError(f"{flag} {value}: expected {least} or more")
    paths = find_images(args.images)
    model = load_prompted(args.model, device=args.device, weights=args.weights, plugins=args.plugin)
    skipped = {}

    def on_unreadable(path, error):
        skipped[path] = one_line(error)
        say(f"skipped: {skipped[path]}")

    batches = predict_files(model, paths, args.batch_size or model.batch_size, on_unreadable)
    rows = (row for files, predictions in batches for row in zip(files, predictions.top(args.topk), strict=True))
    writer = write_json if args.json else write_csv if args.csv else write_text
    with remarks_to(once(lambda line: say(f"WARNING: {line}"))):
        writer(rows, skipped)
    if len(skipped) == len(paths):
        raise DataError(f"none of {len(paths)} images could be read")
    return EXIT_SKIPPED if skipped else 0


def write_text(rows: Iterable[tuple], skipped: dict) -> None:
    for path, classes in rows:
        place = path.replace("\n", "\\u000a")
        print(f"{place}: " + ", ".join(f"{one_line(name)} {100 * probability:.1f} %" for name, probability in classes), flush=True)


def write_csv(rows: Iterable[tuple], skipped: dict) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "class", "probability"])
    for path, classes in rows:
        for rank, (name, probability) in enumerate(classes, start=1):
            writer.writerow([spreadsheet_cell(path), rank, spreadsheet_cell(name), f"{probability:.6g}"])


def write_json(rows: Iterable[tuple], skipped: dict) -> None:
    predictions = [
        {"path": path, "classes": [{"class": name, "probability": probability} for name, probability in classes]}
        for path, classes in rows
    ]
    unread = [{"path": path, "reason": reason} for path, reason in skipped.items()]
    print(json.dumps({"predictions": predictions, "skipped": unread}, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
