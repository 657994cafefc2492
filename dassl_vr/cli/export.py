"""Write a trained model as a directory to hand on: a bundle, or a whole graph for ONNX Runtime or torch.export."""

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
"""


def build_export_parser() -> OneLineParser:
    parser = OneLineParser(description=__doc__, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL_DIR", help="directory of a finished run or of a bundle")
    parser.add_argument("out", metavar="OUT", help="directory to write, which must not hold anything yet")
    parser.add_argument("--format", choices=EXPORT_FORMATS, default=BUNDLE, help="default: bundle")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="IMAGE|DIR|GLOB",
        help="onnx and torch: compare with the model on these images too (default: on photographs that come with scikit-learn)",
    )
    add_model_flags(parser, device=False)
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = build_export_parser().parse_args(argv)
    from ..deploy import PromptedModel, bundle, load_prompted

    check_new_directory(args.out)
    images = find_images(args.images)
    model = load_prompted(args.model, device="cpu", weights=args.weights, precision="fp32", plugins=args.plugin)
    if not isinstance(model, PromptedModel):
        raise ConfigError(f"{args.model}: is an exported graph already; give the run or the bundle it was made from")
    if args.format == BUNDLE:
        bundle.write_bundle(model, args.out)
    else:
        from ..deploy.exported import write_exported  # here: needs the extra `onnx`

        print(write_exported(model, args.out, args.format, images))
    print(f"wrote {args.out} ({args.format}, {bundle.size_of(args.out):,} bytes)")
