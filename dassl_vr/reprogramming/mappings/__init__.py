"""Output side of visual reprogramming (f_out): from the logits of the source classes to those of the target classes.

Every mapping turns (B, source) into (B, target). Its state is buffers of fixed shape, so a checkpoint of the module
that holds it carries it. Mappings that are computed from data are driven in three steps::

    mapping.reset()
    for images, labels in loader:
        mapping.observe(backbone.logits(f_in(images)), labels)
    mapping.update()

and `mapping.refresh` says when: "never", "start" (once, before training) or "epoch" (before each epoch). On a mapping
that needs no data the three do nothing. `observe` never waits for the device; `update` does. Those that look at all training
samples at once have `mapping.solve(logits, labels, trained=False)` instead, before the first epoch and after the last ("ends").

A new one is a class in a file of this folder, which is found by itself, or in a plug-in:

    @MAPPING_REGISTRY.register(name="scaled")
    class Scaled(LabelMapping):
        def __init__(self, num_source: int, num_target: int):
            super().__init__(num_source, num_target)
            self.scale = nn.Parameter(torch.ones(num_target))

        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return logits[:, : self.num_target] * self.scale

`TRAINER.SMM.MAPPING scaled` uses it, under any trainer that has the key. `LabelMapping` says what may be added.
"""

from ...utils.modules import modules_in
from .assigned import Flm, Ilm, Rlm
from .base import CLASSES, EMBEDDING, FEATURES, LABELS, MAPPING_REGISTRY, LabelMapping, Words
from .blm import Blm, BlmPlus
from .linear import HeadMapping, LinearMapping
from .text import TextMapping

modules_in(__name__, __path__)  # every file registers what it defines
