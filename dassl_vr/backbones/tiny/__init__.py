"""Two small models with real weights, for tests and trials without a network: a ViT classifier and a CLIP.

`train.py` made the weights beside it and says from what; the adapter `tiny` serves them as `tiny_vit` and `tiny_clip`.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_clip import CLIP
    from open_clip.tokenizer import SimpleTokenizer
    from timm.models.vision_transformer import VisionTransformer

FOLDER = Path(__file__).parent
WEIGHTS = {kind: FOLDER / f"tiny_{kind}.safetensors" for kind in ("vit", "clip")}
SIZE = 64  # side in pixels that both were trained at
PATCH = 16
MERGES = FOLDER / "merges.txt.gz"
# Normalization: the ViT's is timm's for vision transformers, the CLIP's is what open_clip takes for any CLIP
MEAN = {"vit": (0.5, 0.5, 0.5), "clip": (0.48145466, 0.4578275, 0.40821073)}
STD = {"vit": (0.5, 0.5, 0.5), "clip": (0.26862954, 0.26130258, 0.27577711)}

# Colours in RGB that the grey images were trained in: a light object on dark ground
OBJECT_COLOURS = {"white": (1.0, 1.0, 1.0), "yellow": (1.0, 0.9, 0.2), "cyan": (0.3, 0.95, 1.0), "pink": (1.0, 0.5, 0.75)}
GROUND_COLOURS = {"black": (0.0, 0.0, 0.0), "blue": (0.0, 0.05, 0.4), "green": (0.0, 0.3, 0.05), "red": (0.4, 0.0, 0.05)}


def vit_classes() -> list[str]:
    """Names of the ViT's 40 source classes in the order of its logits: each class of Fashion-MNIST in each object colour."""
    from dassl_vr.datasets.fashion_mnist import CLASSNAMES

    return [f"{colour} {name}" for name in CLASSNAMES for colour in OBJECT_COLOURS]


def create_tiny_vit(size: int = SIZE) -> "VisionTransformer":
    """timm's `VisionTransformer` with 0.9 M random weights, for images of `size` pixels (a multiple of 16)."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=size, patch_size=PATCH, embed_dim=128, depth=4, num_heads=4, num_classes=40)


def tiny_clip_config() -> dict:
    """The `embed_dim`, `vision_cfg` and `text_cfg` of open_clip's for the small CLIP."""
    return json.loads((FOLDER / "tiny_clip.json").read_text(encoding="utf-8"))


def create_tiny_clip(size: int = SIZE) -> "CLIP":
    """open_clip's `CLIP` with 1.1 M random weights, for images of `size` pixels (a multiple of 16)."""
    import open_clip

    config = tiny_clip_config()
    config["vision_cfg"]["image_size"] = size
    return open_clip.CLIP(**config)


def tiny_clip_tokenizer() -> "SimpleTokenizer":
    """open_clip's `SimpleTokenizer` on a part of CLIP's vocabulary, see `vocabulary.py`."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(MERGES))
