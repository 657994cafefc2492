"""Write a trained model to hand on: a bundle (also on the Hugging Face hub), or a graph for ONNX Runtime or torch.export."""

import sys

from ..names import BUNDLE, EXPORT_FORMATS
from ..utils.arguments import OneLineParser
from ..utils.errors import ConfigError
from ..utils.places import check_new_directory
from .errors import one_line_errors
from .predict import add_model_flags, find_images

EPILOG = """formats:
  bundle   what was trained (safetensors) and config.json; the backbone is found again and its checksum compared
  onnx     the whole classifier from uint8 pixels to logits, for ONNX Runtime; needs: pip install 'dassl_vr[onnx]'
  torch    the same as a program of torch.export (model.pt2)

examples:
  %(prog)s output/digits/SMM/lite0/default/seed1 my_bundle
  %(prog)s my_bundle my_onnx --format onnx
  %(prog)s my_bundle hub:USER/NAME --private --license mit
"""


def build_export_parser() -> OneLineParser:
    parser = OneLineParser(description=__doc__, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL_DIR", help="directory of a finished run or of a bundle, or hub:USER/NAME")
    parser.add_argument("out", metavar="OUT", help="directory to write, which must not hold anything yet, or hub:USER/NAME")
    parser.add_argument("--format", choices=EXPORT_FORMATS, default=BUNDLE, help="default: bundle")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="IMAGE|DIR|GLOB",
        help="onnx and torch: compare with the model on these images too (default: on photographs that come with scikit-learn)",
    )
    parser.add_argument("--private", action="store_true", help="hub: make the repository so that only its owner sees it")
    parser.add_argument("--license", default="", metavar="NAME", help="hub: what the card says, such as mit (default: none stated)")
    add_model_flags(parser, device=False)
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = build_export_parser().parse_args(argv)
    from ..deploy import PromptedModel, bundle, load_prompted
    from ..deploy.hub import check_can_upload, hub_place, upload_bundle

    place = hub_place(args.out)
    if place is None:
        if args.private or args.license:
            raise ConfigError(f"--private and --license are for the hub; {args.out} is a directory, expected hub:USER/NAME")
        check_new_directory(args.out)
    elif args.format != BUNDLE:
        raise ConfigError(f"--format {args.format}: only bundles go to the hub; export to a directory and upload that yourself")
    else:
        check_can_upload(place)
    images = find_images(args.images)
    model = load_prompted(args.model, device="cpu", weights=args.weights, precision="fp32", plugins=args.plugin)
    if not isinstance(model, PromptedModel):
        raise ConfigError(f"{args.model}: is an exported graph already; give the run or the bundle it was made from")
    if place is not None:
        print(f"wrote {place}: {upload_bundle(model, place, args.private, args.license)}")
        return
    if args.format == BUNDLE:
        bundle.write_bundle(model, args.out)
    else:
        from ..deploy.exported import write_exported  # here: needs the extra `onnx`

        print(write_exported(model, args.out, args.format, images))
    print(f"wrote {args.out} ({args.format}, {bundle.size_of(args.out):,} bytes)")


if __name__ == "__main__":
    sys.exit(main())
