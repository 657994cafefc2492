"""How the small CLIP's vocabulary was made: `python -m dassl_vr.cli.train_tiny vocabulary` does it again.

It is a part of CLIP's own (OpenAI, MIT licence, as open_clip ships it): its first merges, which spell any text in short pieces,
and those that join the words below, so that these become the same pieces as with the whole. Other words fall into more pieces.
The token embedding of the trained weights has one row for each piece, so a new word needs a new training.
"""

import gzip
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from ...utils.files import atomic_write
from . import GROUND_COLOURS, MERGES, OBJECT_COLOURS
from .captions import CLASSES, templates

FIRST = 1000  # merges that are kept whatever they spell
# Words that prompts for such images are made of, besides those of the captions
WORDS = (
    "zero one two three four five six seven eight nine digits numbers handwriting written drawing sketch painting rendering",
    "bad good clean dirty blurry cropped low resolution high quality close up small large tiny big bright dark light black",
    "grey gray plain striped stripes with lines over upside down inverted edges of in at from my this that these it is there",
    "many some clothes garment fashion item shoe product x",
)


def needed(merges: Iterable[str], words: Iterable[str]) -> set[int]:
    """Positions of the merges that byte pair encoding uses on `words`."""
    rank, used = {tuple(merge.split()): position for position, merge in enumerate(merges)}, set()
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pairs = [rank.get(pair, len(rank)) for pair in itertools.pairwise(pieces)]
            if min(pairs) == len(rank):
                break
            used.add(min(pairs))
            at = pairs.index(min(pairs))
            pieces[at : at + 2] = ["".join(pieces[at : at + 2])]
    return used


def write_vocabulary(path: Path | None = None) -> str:
    """Write it to `path`, None = the file of the package; returns a line on what was written."""
    from open_clip.tokenizer import default_bpe

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]  # as the tokenizer cuts them
    texts = [*CLASSES, *OBJECT_COLOURS, *GROUND_COLOURS, *WORDS, *(t for label in range(len(CLASSES)) for t in templates(label))]
    words = {word for text in texts for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower())}
    kept = sorted({*range(FIRST), *needed(merges, sorted(words))})
    text = "\n".join(["#version: 0.2", *(merges[position] for position in kept)])
    path = path or MERGES
    with atomic_write(path, "wb") as file:
        file.write(gzip.compress(text.encode("utf-8"), mtime=0))
    return f"wrote {path}: {len(kept)} merges, {2 * 256 + len(kept) + 2} tokens"
