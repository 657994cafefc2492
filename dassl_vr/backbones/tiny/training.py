"""How the small models were trained: `python -m dassl_vr.cli.train_tiny vit|clip --root /usr/share/datasets` does it again.

Both learn from real grey images, enlarged to 64 pixels, moved and turned a little and painted in one of 4 x 4 colours: a light
object on dark ground.

`vit`: the 60,000 training images of Fashion-MNIST (Xiao et al. 2017, MIT licence). Source classes: 10 kinds of clothes x 4 object
    colours; cross entropy. 1,600 iterations of 128 images, 4.5 minutes on one thread.
    Fashion-MNIST test images, 40 classes: 79.4 %.
`clip`: the same images, and in each batch a quarter of digits: 540 of them, every other image of the training split of
    `datasets/digits.py` (`halves`; scikit-learn's copy of the optical digits of Alpaydin and Kaynak 1998, UCI). Captions name the
    class, and often its colours; a contrastive loss with all captions that are true of an image, and cross entropy over the 20
    class captions. 1,000 iterations of 128 images with a caption each, 4 to 5 minutes on one thread.
    Fashion-MNIST test images, zero-shot among their 10 classes: 79.3 %.
    digits test images, zero-shot among their 10 classes: 95.2 %.

The test images are painted likewise, not moved; the command prints these accuracies of the rounded weights at its end, and nothing
was chosen by them. Debian's package `dataset-fashion-mnist` holds the clothes, the digits come with scikit-learn. One thread and
one seed give the same weights again, on the same kind of machine with the same versions of the libraries.
"""

import math
import os
from collections.abc import Sequence

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ...utils.files import atomic_write
from ..adapters.open_clip_models import OpenClipAdapter
from . import MEAN, STD, create_tiny_clip, create_tiny_vit, tiny_clip_tokenizer
from .captions import CLASSES, FIRST_DIGIT, caption, class_templates, templates
from .images import OBJECT_COLOURS, Painted, digits, fashion_mnist, paint

BATCH, RATE, WEIGHT_DECAY, WARMUP = 128, 1e-3, 0.05, 0.05


def normalize(images: torch.Tensor, kind: str) -> torch.Tensor:
    """(N, 3, 64, 64) images from 0 to 1 as the model `kind` takes them."""
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN[kind], STD[kind]))
    return (images - mean) / std


class ViTTask:
    """Which garment, in which colour: cross entropy over the 40 source classes."""

    iterations = 1600

    def __init__(self, root):
        self.train, self.test = fashion_mnist(root)
        self.model = create_tiny_vit()

    @staticmethod
    def targets(painted: Painted) -> torch.Tensor:
        return painted.labels * len(OBJECT_COLOURS) + painted.object_colours

    def loss(self, rng: torch.Generator) -> torch.Tensor:
        painted = paint(self.train.draw(BATCH, rng), rng, jitter=True)
        return F.cross_entropy(self.model(normalize(painted.images, "vit")), self.targets(painted))

    def accuracies(self, rng: torch.Generator) -> dict[str, float]:
        painted = paint(self.test, rng)
        logits = torch.cat([self.model(normalize(images, "vit")) for images in painted.images.split(500)])
        return {"Fashion-MNIST test images, 40 classes": percent(logits, self.targets(painted))}


class CLIPTask:
    """Which captions are true of an image (and which images of a caption), and which of the 20 class captions is."""

    iterations = 1000
    digits_share = 0.25

    def __init__(self, root):
        self.clothes, self.clothes_test = fashion_mnist(root)
        self.digits, self.digits_test = digits(FIRST_DIGIT)
        self.model = create_tiny_clip()
        self.tokenizer = tiny_clip_tokenizer()

    def loss(self, rng: torch.Generator) -> torch.Tensor:
        parts = [self.digits.draw(int(BATCH * self.digits_share), rng)]
        parts.append(self.clothes.draw(BATCH - len(parts[0].labels), rng))
        # one by one, as the two kinds of images differ in size
        painted = Painted(*map(torch.cat, zip(*(paint(part, rng, jitter=True) for part in parts))))
        texts, true = self.captions(painted, rng)
        class_texts = [caption(choose(class_templates(label), rng), label) for label in range(len(CLASSES))]
        images = F.normalize(self.model.encode_image(normalize(painted.images, "clip")), dim=1)
        features = self.text_features(texts + class_texts)
        logits = self.model.logit_scale.exp().clamp(max=100) * images @ features.T  # (images, captions and classes)
        contrast, classes = logits[:, : len(texts)], logits[:, len(texts) :]
        to_text = F.cross_entropy(contrast, true / true.sum(1, keepdim=True))
        to_image = F.cross_entropy(contrast.T, true.T / true.T.sum(1, keepdim=True))
        return (to_text + to_image) / 2 + F.cross_entropy(classes, painted.labels)

    @staticmethod
    def captions(painted: Painted, rng: torch.Generator) -> tuple[list[str], torch.Tensor]:
        """A caption for each of N images, and (N, N) float: is the column's caption true of the row's image?"""
        texts, true = [], []
        for label, *colours in zip(*(numbers.tolist() for numbers in painted[1:])):
            template = choose(templates(label), rng)
            texts.append(caption(template, label, *colours))
            named = painted.labels == label
            for kind, of_images, colour in zip(("object", "ground"), painted[2:], colours):
                if f"{{{kind}}}" in template:
                    named &= of_images == colour
            true.append(named)
        return texts, torch.stack(true, 1).float()

    def text_features(self, texts: list[str]) -> torch.Tensor:
        """(N, 64) of length 1."""
        return F.normalize(OpenClipAdapter().encode_text(self.model, self.tokenizer(texts)), dim=1)

    def accuracies(self, rng: torch.Generator) -> dict[str, float]:
        features = self.text_features([caption("a photo of a {}.", label) for label in range(len(CLASSES))])
        found = {}
        for name, test, classes in (
            ("Fashion-MNIST test images", self.clothes_test, slice(0, FIRST_DIGIT)),
            ("digits test images", self.digits_test, slice(FIRST_DIGIT, None)),
        ):
            painted = paint(test, rng)
            images = torch.cat([self.model.encode_image(normalize(x, "clip")) for x in painted.images.split(500)])
            targets = painted.labels - classes.start
            found[f"{name}, zero-shot among their 10 classes"] = percent(images @ features[classes].T, targets)
        return found


def choose(options: Sequence[str], rng: torch.Generator) -> str:
    """One of them at random."""
    return options[int(torch.randint(len(options), (), generator=rng))]


def percent(logits: torch.Tensor, targets: torch.Tensor) -> float:
    return 100 * (logits.argmax(1) == targets).float().mean().item()


TASKS = {"vit": ViTTask, "clip": CLIPTask}


def optimize(task: ViTTask | CLIPTask, iterations: int, rng: torch.Generator) -> None:
    """AdamW on `task.loss`, the rate warmed up and then lowered along a cosine; biases, norms and the like do not decay."""
    parameters = list(task.model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=WEIGHT_DECAY)
    warmup = max(WARMUP * iterations, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / iterations)))
    )
    task.model.train()
    for _ in (bar := tqdm(range(iterations), mininterval=10)):
        loss = task.loss(rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Write the weights at half precision and give the model the rounded ones."""
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(path, "wb") as file:
        file.write(safetensors.torch.save(state))
    model.load_state_dict(state)
