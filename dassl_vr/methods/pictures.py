"""What a visual-reprogramming run shows in TensorBoard besides its curves."""

import torch
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from ..engine.charts import attempt
from ..reprogramming.classifier import inner_backbone
from ..reprogramming.pictures import named_edges, prompt_pictures, signed_to_rgb
from ..utils.errors import DataError
from ..utils.text import markdown_cell, one_line

NUM_IMAGES = 8  # in the picture grids
NUM_FEATURES = 500  # in the projector
SNAPSHOTS = 10  # a run, if TRAIN.PICTURE_FREQ is 0


class RunPictures:
    """Writes pictures, the label mapping and features of one trainer to its TensorBoard writer.

    The same test images are shown each time; drawing uses no random numbers and leaves the models in evaluation mode. If it fails,
    a line says so, and no more is drawn.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        cfg = trainer.cfg
        self.every = cfg.TRAIN.PICTURE_FREQ or max(1, trainer.max_epoch // SNAPSHOTS)
        self._batch = None
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
        x = self._images(NUM_IMAGES)  # an image that cannot be read is a matter of the data
        self._works = attempt("the pictures of this run", self._draw, x, epoch)

    @torch.no_grad()
    def _draw(self, x, epoch):
        trainer, cfg, model = self.trainer, self.trainer.cfg, self.trainer.model
        trainer.set_model_mode("eval")
        step = trainer.steps_done() if epoch >= 0 else 0
        shown = prompt_pictures(model.f_in, x, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
        self._grid("prompt/1 input", shown.inputs, step)
        for name, mask in shown.masks:
            self._grid(f"prompt/2 {name.replace(',', '')}", signed_to_rgb(mask, shown.limit), step)
        if shown.pattern is not None:
            self._grid("prompt/3 delta", shown.pattern[None], step)
        self._grid("prompt/4 masked pattern", shown.added, step)
        self._grid("prompt/5 reprogrammed", shown.results, step)
        names = [trainer.lab2cname[label] for label in range(trainer.num_classes)]
        edges = named_edges(model, names) if epoch >= 0 else []  # before training there is no mapping yet
        if edges:
            self.writer.add_text("label mapping", _mapping_table(edges), step)

    def finish(self) -> None:
        """At the end of a run: the projector with features before and after."""
        if self.writer is not None:
            self._works = attempt("the features in TensorBoard's projector", self._project)

    @torch.no_grad()
    def _project(self):
        trainer, cfg, model = self.trainer, self.trainer.cfg, self.trainer.model
        trainer.set_model_mode("eval")
        x, labels = self._images(NUM_FEATURES), self._batch["label"][:NUM_FEATURES].tolist()
        names = [one_line(trainer.lab2cname[label]) for label in labels]
        size = cfg.DATALOADER.TEST.BATCH_SIZE
        pretrained = inner_backbone(model)  # tokens are a prompt too
        for tag, of in (("before", pretrained.features), ("after", lambda part: model.backbone.features(model.f_in(part)))):
            features = torch.cat([of(part) for part in x.split(size)])
            self.writer.add_embedding(features.float().cpu(), metadata=names, tag=tag)

    def _images(self, number):
        """The first `number` finished images of the split to test on, on the device (kept: they are shown again and again)."""
        validates = self.trainer.cfg.TEST.SPLIT == "val" and self.trainer.val_loader is not None
        split = "val" if validates else "test"  # a search for settings leaves the test split alone
        if self._batch is None or len(self._batch["label"]) < min(number, len(getattr(self.trainer.dm.dataset, split))):
            parts = []
            for batch in getattr(self.trainer, f"{split}_loader"):
                parts.append((batch["img"], batch["label"]))
                if sum(len(labels) for _, labels in parts) >= number:
                    break
            if not parts:  # of several processes; where there is one, the loader tells it
                raise DataError(f"the main process can read none of its {split} images; repair them, or use fewer processes")
            images, labels = zip(*parts, strict=True)
            self._batch = {"img": torch.cat(images)[:number], "label": torch.cat(labels)[:number]}
        return self._batch["img"][:number].to(self.trainer.device)

    def _grid(self, tag, images, step):
        self.writer.add_image(tag, make_grid(images, nrow=4), step)


def _mapping_table(edges):
    """Markdown: each target class and the source class that weighs most for it."""
    rows = [f"| {markdown_cell(target)} | {markdown_cell(source)} |" for target, source, _ in edges]
    return "\n".join(["| target class | source class |", "|---|---|", *rows])
