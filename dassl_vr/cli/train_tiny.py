"""Make the files of `dassl_vr.backbones.tiny`: the weights of a small model, or the vocabulary of the small CLIP."""

import sys
from pathlib import Path

from ..names import SMALL_MODELS
from ..utils.arguments import OneLineParser, positive
from ..utils.errors import ConfigError
from .errors import one_line_errors

VOCABULARY = "vocabulary"


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__)
    parser.add_argument(
        "kind", choices=(*SMALL_MODELS, VOCABULARY), metavar="KIND", help=f"one of {', '.join(SMALL_MODELS)}, {VOCABULARY}"
    )
    parser.add_argument(
        "--root", default="", metavar="DIR", help="directory that holds fashion-mnist/ (see datasets/fashion_mnist.py)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: the one in the package)")
    parser.add_argument("--iterations", type=positive, metavar="N", help="default: as for the shipped weights")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    args = parser.parse_args(argv)
    if args.kind == VOCABULARY:
        from ..backbones.tiny.vocabulary import write_vocabulary

        return print(write_vocabulary(args.out))
    if not args.root:
        raise ConfigError(f"{args.kind} is trained on Fashion-MNIST; expected --root DIR, the directory that holds fashion-mnist/")
    import torch

    from ..backbones.tiny import WEIGHTS
    from ..backbones.tiny.training import TASKS, optimize, save

    torch.set_num_threads(1)  # sums are added up in the same order on any machine
    torch.manual_seed(args.seed)
    rng = torch.Generator().manual_seed(args.seed)
    task = TASKS[args.kind](args.root)
    optimize(task, args.iterations or task.iterations, rng)
    path = args.out or WEIGHTS[args.kind]
    save(task.model.eval(), path)
    print(f"wrote {path}, {path.stat().st_size:,} bytes")
    with torch.inference_mode():
        for name, accuracy in task.accuracies(torch.Generator().manual_seed(1)).items():
            print(f"{name}: {accuracy:.1f} %")


if __name__ == "__main__":
    sys.exit(main())
