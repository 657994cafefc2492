"""Train the small models of `dassl_vr.backbones.tiny`."""

import argparse
import sys
from pathlib import Path

import torch

from ..backbones.tiny import WEIGHTS
from ..backbones.tiny.training import TASKS, optimize, save
from ..utils.arguments import OneLineParser
from .errors import one_line_errors


def iterations(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of iterations; give a whole number above 0")
    return int(text)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("kind", choices=TASKS)
    parser.add_argument("--root", required=True, help="directory that holds fashion-mnist/ (see datasets/fashion_mnist.py)")
    parser.add_argument("--out", type=Path, help="file to write, .safetensors (default: the one in the package)")
    parser.add_argument("--iterations", type=iterations, help="default: as for the shipped weights")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
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
