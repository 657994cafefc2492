"""The handwritten digits with stripes over them: a condition that the small CLIP of `dassl_vr.backbones.tiny` never saw."""

import numpy as np
from PIL import Image
from yacs.config import CfgNode

from dassl_vr.data.datasets import DATASET_REGISTRY, ArrayDatum, Datum
from dassl_vr.data.datasets.split import Splits

from .digits import Digits, halves

SIDE, PERIOD, WIDTH, BRIGHTNESS = 64, 12, 6, 160  # in pixels; of 255


@DATASET_REGISTRY.register(name="digits_stripes")
class DigitsStripes(Digits):
    """The images of `digits` at 64 x 64 pixels behind slanting grey stripes; 539/179/539 of them.

    Training images are the half of the training split of `digits` that the small CLIP was not trained on; validation and
    test images are those of `digits`.
    """

    facts = {**Digits.facts, "NATIVE_SIZE": SIDE}

    def load(self, cfg: CfgNode) -> Splits:
        digits = super().load(cfg)
        parts = (halves(digits.train)[1], digits.val, digits.test)
        return Splits(*([striped(item) for item in part] for part in parts))


def striped(item: Datum) -> ArrayDatum:
    """A digit enlarged, with stripes in front; where they begin differs from image to image, and depends on it alone."""
    number = item.impath.rpartition("/")[2]
    image = np.asarray(item.read().convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    down, right = np.indices((SIDE, SIDE))
    stripes = np.where((down + right + int(number)) % PERIOD < WIDTH, BRIGHTNESS, 0).astype(np.uint8)
    return ArrayDatum(np.maximum(image, stripes), f"digits_stripes/{number}", item.label, item.domain, item.classname)
