"""Show what a trained model does to images, as PNG files and one HTML page."""

import os
import sys

from ..names import TSNE_SAMPLES
from ..utils.arguments import OneLineParser
from ..utils.errors import ConfigError, DataError
from ..utils.text import one_line, say
from .errors import one_line_errors
from .predict import EXIT_SKIPPED, add_model_flags, find_images

FEATURES = f"random training images for t-SNE, 0 = none (default: {TSNE_SAMPLES})"
EPILOG = """examples:
  %(prog)s output/digits/SMM/lite0/default/seed1 --out look
  %(prog)s my_bundle --images photos/ --out look

An image of --images that cannot be read is named on standard error and left out; the exit code is then 1.
Without --images, test images of the run's data set are shown, which must be available (for a bundle, name its place with --root).
"""


def build_visualize_parser() -> OneLineParser:
    parser = OneLineParser(description=__doc__, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL_DIR", help="directory of a finished run or of a bundle; or hub:USER/NAME")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory for the page, new or of an earlier call")
    parser.add_argument("--images", nargs="+", default=[], metavar="IMAGE|DIR|GLOB", help="show these")
    parser.add_argument("--number", type=int, default=6, metavar="N", help="images of the data set to show (default: 6)")
    parser.add_argument("--features", type=int, default=TSNE_SAMPLES, metavar="N", help=FEATURES)
    parser.add_argument("--root", default="", metavar="DIR", help="where the data sets are, if not where they were in training")
    add_model_flags(parser)
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    args = build_visualize_parser().parse_args(argv)
    from ..deploy import PromptedModel, load_prompted
    from ..report.look import look_at
    from ..report.look_page import earlier_files, write_look
    from ..report.samples import spread
    from ..utils.images import once, remarks_to

    for flag, value, least in (("--number", args.number, 1), ("--features", args.features, 0)):
        if value < least:
            raise ConfigError(f"{flag} {value}: expected {least} or more")
    earlier_files(args.out)  # what is not ours there ends the command before the work
    paths = find_images(args.images)
    model = load_prompted(args.model, device=args.device, weights=args.weights, plugins=args.plugin)
    if not isinstance(model, PromptedModel):
        raise ConfigError(f"{args.model}: an exported graph cannot be visualized; give the run or the bundle it was made from")
    dataset, problem = _data_set(model, args.root)
    if not paths and dataset is None:
        raise DataError(f"{problem} (or name images with --images)")
    with remarks_to(once(lambda line: say(f"WARNING: {line}"))):
        if paths:
            images, names, labels = *_readable(paths, model.grey_bits), None
        else:
            images, labels = spread(dataset.test, args.number)
            names = [f"test image {number}" for number in range(1, len(images) + 1)]
        if not images:
            raise DataError(f"none of {len(paths) or len(dataset.test)} images could be read")
        items = dataset.train_x if dataset is not None else ()
        tested = _tested(args.model, dataset)
        for path in write_look(look_at(model, images, names, labels), args.out, items, args.features, tested):
            print(f"wrote {path}")
    return EXIT_SKIPPED if paths and len(images) < len(paths) else 0


def _readable(paths, grey_bits):
    """(PIL images, their paths) of those that can be read; the others are named on standard error."""
    from ..utils.images import UnreadableImageError, read_image

    images, names = [], []
    for path in paths:
        try:
            images.append(read_image(path, grey_bits))
            names.append(str(path))
        except UnreadableImageError as error:
            say(one_line(f"skipped: {error}"))
    return images, names


def _tested(directory, dataset):
    """What the test of a run said, or why that is not known."""
    from ..engine.results import RESULTS_FILE
    from ..report.tested import tested_of

    if not os.path.isfile(os.path.join(directory, RESULTS_FILE)):
        return "a bundle does not keep it; name the directory of the run."
    try:
        return tested_of(directory, dataset)
    except DataError as error:
        return str(error)


def _data_set(model, root):
    """(the data set that the model was trained on, "") or (None, why there is none)."""
    from ..report.samples import data_of

    try:
        return data_of(model, root).dataset, ""
    except (ConfigError, DataError) as error:
        return None, str(error)


if __name__ == "__main__":
    sys.exit(main())
