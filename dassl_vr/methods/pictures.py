"""What a visual-reprogramming run shows in TensorBoard besides its curves: its prompt on some images, and its label mapping."""

import contextlib
import math

import torch
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from ..data.samplers import class_balanced_order
from ..engine.charts import PROMPT, attempt
from ..reprogramming.pictures import is_plain_grey, named_edges, prompt_pictures, signed_to_rgb
from ..utils.errors import DataError
from ..utils.images import UnreadableImageError, remarks_to
from ..utils.text import markdown_cell

SHOWN = 10  # images in a grid
PER_ROW = 5
PIXELS = 32_000  # of a grid, which is made smaller above it: a run's TensorBoard files are to stay below 3 MB
SNAPSHOTS = 4  # a run, besides the one before training, if TRAIN.PICTURE_FREQ is 0


class RunPictures:
    """Writes pictures and the label mapping of one trainer to its TensorBoard writer; what the method does not have is left out.

    The same images of the split to test on are shown each time, in the order of their classes: a class-balanced sample with a fixed
    seed. Drawing uses no random numbers of the run and leaves the models in evaluation mode. If it fails, a line says so, and no
    more is drawn.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.every = trainer.cfg.TRAIN.PICTURE_FREQ or math.ceil(trainer.max_epoch / SNAPSHOTS)
        self._images = None
        self._table = ""  # as it was written last
        self._works = True

    @property
    def writer(self) -> SummaryWriter | None:
        return self.trainer._writer if self._works else None

    def after(self, epoch: int) -> None:
        """Draw the state after `epoch` (-1 = before training), if it is one of those to be shown."""
        if epoch < 0 and getattr(self.trainer, "progress", None) is not None:
            return  # within the first epoch: the state before training is gone
        if self.writer is None or not (epoch < 0 or (epoch + 1) % self.every == 0 or epoch + 1 == self.trainer.max_epoch):
            return
        self._works = attempt("the pictures of this run", self._draw, epoch)

    @torch.no_grad()
    def _draw(self, epoch):
        trainer, model = self.trainer, self.trainer.model
        trainer.set_model_mode("eval")
        step = trainer.steps_done() if epoch >= 0 else 0
        if not model.f_in.changes_nothing:
            self._draw_prompt(step)
        names = [trainer.lab2cname[label] for label in range(trainer.num_classes)]
        edges = named_edges(model, names) if epoch >= 0 else []  # before training there is no mapping yet
        table = _mapping_table(edges) if edges else ""
        if table != self._table:  # some never change
            self.writer.add_text("label mapping", table, step)
            self._table = table

    def _draw_prompt(self, step):
        cfg, first = self.trainer.cfg, self._images is None
        if first:
            self._images = self._read_images()
        shown = prompt_pictures(self.trainer.model.f_in, self._images, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
        if first:  # they stay the same
            self._grid("1 input", shown.inputs, step)
        for name, mask in shown.masks:
            if mask.min() == mask.max():
                continue  # nothing is masked
            mask = mask[:1] if _is_same(mask) else mask
            self._grid(f"2 {name.replace(',', '')}", signed_to_rgb(mask, shown.limit), step)
        if shown.pattern is not None and not is_plain_grey(shown.pattern):
            self._grid("3 pattern", shown.pattern[None], step)
        if is_plain_grey(shown.added):
            return  # nothing is added yet
        if shown.pattern is None or not _is_same(shown.added):
            self._grid(f"4 {self.trainer.model.f_in.adds}", shown.added, step)
        self._grid("5 result", shown.results, step)

    def _read_images(self):
        """(N, 3, S, S) finished images of the split to test on, on the device."""
        trainer = self.trainer
        validates = trainer.cfg.TEST.SPLIT == "val" and trainer.val_loader is not None
        split = "val" if validates else "test"  # a search for settings leaves the test split alone
        items, dataset, found = getattr(trainer.dm.dataset, split), getattr(trainer, f"{split}_loader").dataset, []
        with remarks_to(lambda remark: None):  # the loaders make them
            for position in class_balanced_order(items):
                if len(found) == SHOWN:
                    break
                with contextlib.suppress(UnreadableImageError):
                    found.append((items[position].label, dataset[position]["img"]))
        if not found:
            raise DataError(f"none of the {split} images can be read")
        found.sort(key=lambda entry: entry[0])
        return torch.stack([image for _, image in found]).to(trainer.device)

    def _grid(self, name, images, step):
        number, _, height, width = images.shape
        scale = math.sqrt(PIXELS / (number * height * width))
        if scale < 1:
            images = F.interpolate(images, (max(1, int(height * scale)), max(1, int(width * scale))), mode="area")
        self.writer.add_image(f"{PROMPT}/{name}", make_grid(images, nrow=PER_ROW), step)


def _is_same(pictures):
    """Whether all images have the same picture."""
    return torch.equal(pictures, pictures[:1].expand_as(pictures))


def _mapping_table(edges):
    """Markdown: each target class and the source class that weighs most for it."""
    rows = [f"| {markdown_cell(target)} | {markdown_cell(source)} |" for target, source, _ in edges]
    return "\n".join(["| target class | source class |", "|---|---|", *rows])
