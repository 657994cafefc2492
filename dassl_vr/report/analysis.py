"""What can only be asked of the trained models themselves: they are rebuilt from their run directories."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from ..config import get_cfg_default, merge_mapping, read_yaml, validate_cfg
from ..engine import build_trainer, resolve_cfg
from ..engine.run_directory import CONFIG_FILE
from ..methods import VisualReprogramming
from ..reprogramming import Flm
from ..reprogramming.classifier import inner_backbone, source_on
from ..utils.errors import ConfigError
from ..utils.seeding import set_random_seed


def load_run(directory):
    """The trainer of the visual-reprogramming run in `directory`, with its data and its trained model, in evaluation mode.

    Its batches carry the unprompted image, resized to the model's side and normalized, as `img0`. Call `load_plugins` first.

    Raises:
        ConfigError: the run's configuration is missing, or its trainer has no prompt on the input.
        DataError, WeightsError: data or checkpoint are missing.
    """
    cfg = get_cfg_default()
    path = Path(directory) / CONFIG_FILE
    merge_mapping(cfg, read_yaml(path), path)
    cfg.OUTPUT_DIR, cfg.RESUME, cfg.VERBOSE = str(directory), "", False
    cfg.DATALOADER.RETURN_IMG0 = True
    validate_cfg(cfg)
    resolve_cfg(cfg)
    cfg.freeze()
    set_random_seed(cfg.SEED)
    with contextlib.redirect_stdout(io.StringIO()):  # standard output is for tables
        trainer = build_trainer(cfg)
        if not isinstance(trainer, VisualReprogramming):
            raise ConfigError(
                f"{directory}: {cfg.TRAINER.NAME} is no visual-reprogramming trainer, there is no prompted image to show"
            )
        trainer.load_model(str(directory))
    trainer.set_model_mode("eval")
    return trainer


@dataclass
class LossChange:
    """(samples,) loss with the prompt minus loss without, in the order of the training images."""

    change: torch.Tensor

    @property
    def rises(self):
        """For how many samples the prompt made it worse."""
        return int((self.change > 0).sum())


@torch.no_grad()
def loss_change(trainer, baseline=None):
    """How the cross entropy of each single training sample differs from that of the unprompted model.

    Both models are in evaluation mode and see each training image once, without augmentation:

    - prompted: the trained f_out(backbone(f_in(x))), x as in testing (for Pad: small, on a black canvas);
    - unprompted: Flm(backbone(x0)), x0 the image resized to the model's side and normalized, whatever the method. Its label
      mapping is the frequent one computed on these same unprompted training images: the best that greedy assignment gives
      without touching the input.

    Args:
        baseline: the result of `unprompted_losses` for the same data and backbone, to compute it once for many runs.
    """
    baseline = unprompted_losses(trainer) if baseline is None else baseline
    losses = [
        _cross_entropy(trainer.model(images), labels) for images, _, labels in _batches(trainer, trainer.dm.train_loader_plain)
    ]
    return LossChange(torch.cat(losses) - baseline)


@torch.no_grad()
def unprompted_losses(trainer):
    """(samples,) cross entropy of the training samples under the unprompted model, see `loss_change`."""
    backbone, loader = trainer.model.backbone, trainer.dm.train_loader_plain
    mapping = Flm(len(backbone.source_classes), trainer.num_classes).to(trainer.device)
    mapping.reset()
    for _, plain, labels in _batches(trainer, loader):
        mapping.observe(backbone.logits(plain), labels)
    mapping.update()
    return torch.cat([_cross_entropy(mapping(backbone.logits(plain)), labels) for _, plain, labels in _batches(trainer, loader)])


def _cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none").cpu()


def _batches(trainer, loader):
    """(images as the prompt gets them, unprompted images, labels), on the device."""
    for batch in loader:
        yield tuple(batch[key].to(trainer.device) for key in ("img", "img0", "label"))


@dataclass
class Samples:
    """Some test images: `images` as the prompt gets them, `plain` unprompted, both (N, 3, S, S), and `labels` (N,)."""

    images: torch.Tensor
    plain: torch.Tensor
    labels: torch.Tensor


def random_indices(total, number):
    """`number` different numbers below `total`, or all; always the same ones, in random order."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:number]


def sample_batches(trainer, number, training=False):
    """Batches (`Samples`) of `number` test images, or of training images without augmentation, or of all if there are fewer; always
    the same ones."""
    dm = trainer.dm
    loader, items = (dm.train_loader_plain, dm.dataset.train_x) if training else (trainer.test_loader, dm.dataset.test)
    total = len(items)
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[random_indices(total, number)] = True
    left = min(number, total)
    for batch in loader:
        take = chosen[batch["index"].cpu()].to(batch["label"].device)
        if take.any():
            yield Samples(*(batch[key][take].to(trainer.device) for key in ("img", "img0", "label")))
        left -= int(take.sum())
        if not left:
            return


@torch.no_grad()
def features_before_and_after(trainer, number):
    """(N, D) outputs of the pre-trained model, before the label mapping, for `number` training images without the prompt, for the
    same with it, and the labels (N,)."""
    before, after, labels = [], [], []
    prompted = trainer.model.backbone
    unprompted = source_on(prompted, inner_backbone(trainer.model))
    for part in sample_batches(trainer, number, training=True):
        before.append(unprompted.logits(part.plain).float().cpu())
        after.append(prompted.logits(trainer.model.f_in(part.images)).float().cpu())
        labels.append(part.labels.cpu())
    return torch.cat(before), torch.cat(after), torch.cat(labels)


def tsne(features):
    """(N, D) -> (N, 2) with t-SNE on the first 50 principal components, the same at every call."""
    from sklearn.decomposition import PCA  # here: slow to import
    from sklearn.manifold import TSNE

    features = features.double().numpy()
    components = min(50, *features.shape)
    if components < features.shape[1]:
        features = PCA(components, random_state=0).fit_transform(features)
    perplexity = min(30.0, max(1.0, (len(features) - 1) / 3))
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)


class BaselineCache:
    """`unprompted_losses`, computed once for all runs that share images, backbone and side."""

    def __init__(self):
        self._losses = {}

    def get(self, trainer):
        cfg = trainer.cfg
        key = (
            trainer.dm.split_sha256,
            cfg.MODEL.BACKBONE.NAME,
            cfg.MODEL.BACKBONE.WEIGHTS,
            tuple(cfg.INPUT.SIZE),
            trainer.precision,
        )
        if key not in self._losses:
            self._losses[key] = unprompted_losses(trainer)
        return self._losses[key]
