"""A linear layer on the features that begins and ends with a linear discriminant."""

import functools
import math

import torch
from torch.nn import functional as F

from ...utils.devices import in_double
from .base import EMBEDDING, MAPPING_REGISTRY, FromData, Words
from .linear import HeadMapping

FOLDS = 5
FACTORS = 64  # that are tried, from 10^-3 to 10
ROUNDS = 4  # in which two factors are chosen in turns
CONFIDENCE = 0.3  # of the layer that training starts from: a factor of its logits


@MAPPING_REGISTRY.register(name="lda")
class DiscriminantHead(FromData, HeadMapping):
    """A trained fully connected layer on the backbone's features that begins and ends with a linear discriminant.

    Training starts from the discriminant of the features of the images without a prompt, about where a linear probe ends, but less
    sure of itself, which leaves the prompt more to learn. At the end, the weights are the mean of the trained ones and of the
    discriminant of the features of the prompted images: a layer that was trained together with a prompt fits the training images
    too closely where there are few of them. See `fit_discriminant`; docs/recipe.md has what both are worth.
    """

    computed_by = "solve(features, labels, trained=False) with those of all training samples"

    def __init__(self, num_source: int, num_target: int):
        super().__init__(num_source, num_target)
        # The discriminant after the last epoch, of the same shapes as the trained layer, and its share of the weights until then
        self.register_buffer("last_weight", torch.zeros_like(self.linear.weight))
        self.register_buffer("last_bias", torch.zeros_like(self.linear.bias))
        self.register_buffer("last_share", torch.zeros(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def solve(self, features: torch.Tensor, labels: torch.Tensor, trained: bool) -> None:
        weight, bias = self._fit(features, labels)
        if trained:
            self.last_weight.copy_(weight)
            self.last_bias.copy_(bias)
            self.last_share.fill_(0.5)
        else:
            self.linear.weight.copy_(CONFIDENCE * weight)
            self.linear.bias.copy_(CONFIDENCE * bias)
            self.last_share.zero_()  # of a finished run that MODEL.INIT_WEIGHTS names
            self.started.fill_(True)
        self.computed = True

    def _fit(self, features, labels):
        return fit_discriminant(features, labels, self.num_target)

    def _is_computed(self):
        return bool(self.started)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self._check_computed()
        weight = torch.lerp(self.linear.weight, self.last_weight, self.last_share)
        return F.linear(features, weight, torch.lerp(self.linear.bias, self.last_bias, self.last_share))


@MAPPING_REGISTRY.register(name="lda_text")
class TextDiscriminantHead(DiscriminantHead):
    """`lda` on a CLIP: the layer begins and ends with a discriminant and the text features of the class names, added up.

    How much of each is chosen together, by the same cross-validation as the temperature of `lda`. Image features count with a
    length of sqrt(D), at which Adam's steps are those of a layer on ordinary features. Of an f_in with several views, the names
    are compared with the mean of the views' features.

    Raises:
        RuntimeError: it is solved before `prepare`.
    """

    reads = EMBEDDING

    def __init__(self, num_source: int, num_target: int):
        super().__init__(num_source, num_target)
        # Needed by `solve` alone
        self.register_buffer("text", torch.zeros(num_target, num_source), persistent=False)
        self.prepared = False

    def prepare(self, words: Words) -> None:
        of_view = words.encode(words.prompts)  # (K, D)
        views = self.num_source // of_view.shape[1]
        self.text.copy_(of_view.repeat(1, views) / views)
        self.prepared = True

    def _fit(self, features, labels):
        if not self.prepared:
            raise RuntimeError(f"{type(self).__name__}: call prepare(words) first")
        scale = features.norm(dim=1).mean() / math.sqrt(self.num_source)  # of what `forward` makes of them
        return fit_discriminant(self._of_one_length(features), labels, self.num_target, scale * self.text)

    def _of_one_length(self, features):
        return math.sqrt(self.num_source) * F.normalize(features, dim=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(self._of_one_length(features))


def fit_discriminant(
    features: torch.Tensor, labels: torch.Tensor, num_classes: int, known: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A linear discriminant with a temperature: (weight (K, D), bias (K,)) of calibrated logits.

    The discriminant alone is far too sure of itself. The temperature is that with the lowest cross entropy in five-fold
    cross-validation. Its targets are (N + 1) / (N + K) for the class of an image, in place of 1 (Platt 1999, for K classes): else
    it would have no bound where no held-out image is misclassified.

    Args:
        features: (N, D) of the training images.
        labels: (N,), below `num_classes`.
        known: (K, D) weights of other logits that are added, times a factor of their own, chosen together with the temperature.
    """
    features = in_double(features)
    labels = labels.to(features.device)
    centre = features.mean(dim=0)
    centred = features - centre
    fold = _ranks_within_classes(labels, num_classes) % FOLDS
    held_out = features.new_zeros(len(features), num_classes)
    for number in range(FOLDS):
        kept = (fold != number).to(features.dtype)
        weight, bias = discriminant(centred, labels, num_classes, kept)
        held_out = torch.where((fold == number)[:, None], F.linear(centred, weight, bias), held_out)
    counts = F.one_hot(labels, num_classes).sum(dim=0)
    learned = (counts[labels] > 1).to(features.dtype)  # an only image of its class leaves none to learn the class from
    log_shares = (counts / len(labels)).clamp(min=1e-12).log()
    smoothing = num_classes / (len(labels) + num_classes)
    each = functools.partial(F.cross_entropy, target=labels, reduction="none", label_smoothing=smoothing)

    def best_factor(logits, others):
        factors = torch.logspace(-3, 1, FACTORS, dtype=features.dtype, device=features.device)
        losses = torch.stack([(learned * each(factor * logits + others)).sum() for factor in factors.unbind()])
        return torch.where(learned.any(), factors.take(losses.argmin()), 1.0)

    temperature = best_factor(held_out, log_shares)
    weight, bias = discriminant(centred, labels, num_classes, torch.ones_like(learned))
    if known is None:
        weight, bias = temperature * weight, temperature * bias + log_shares
        return weight, bias - weight @ centre
    known = known.to(features)
    of_known = features @ known.T
    for _ in range(ROUNDS):  # the loss is convex in both
        share = best_factor(of_known, temperature * held_out + log_shares)
        temperature = best_factor(held_out, share * of_known + log_shares)
    weight, bias = temperature * weight, temperature * bias + log_shares
    return weight + share * known, bias - weight @ centre


def discriminant(
    features: torch.Tensor, labels: torch.Tensor, num_classes: int, kept: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight (K, D), bias (K,)) of a linear discriminant of equal class probabilities, of the samples that `kept` (N,) has 1 for.

    The covariance within classes is shrunk towards a multiple of the identity by the oracle approximating shrinkage (Chen et al.,
    "Shrinkage Algorithms for MMSE Covariance Estimation", 2010), which has no setting. Where no class has two samples, the
    covariance of all samples stands in for it.

    Args:
        features: (N, D), in double precision.
    """
    number, size = kept.sum(), features.shape[1]
    members = F.one_hot(labels, num_classes).to(features.dtype) * kept[:, None]  # (N, K)
    counts = members.sum(dim=0)
    means = (members.T @ features) / counts.clamp(min=1)[:, None]
    deviations = (features - means[labels]) * kept[:, None]
    deviations = torch.where((counts > 1).any(), deviations, features * kept[:, None])
    few = len(features) < size
    # Of the smaller side: both products have the same trace and the same sum of squares
    product = deviations @ deviations.T if few else deviations.T @ deviations
    scale = product.diagonal().sum() / (number * size)
    squares = product.square().sum() / (number * size) ** 2
    share = (squares + scale**2) / ((number + 1) * (squares - scale**2 / size)).clamp(min=1e-300)
    # Where the features of each class are all equal, the identity gives the nearest mean
    share = torch.where(scale > 0, share.clamp(max=1), 1.0)
    identity_part, covariance_part = share * torch.where(scale > 0, scale, 1.0), (1 - share) / number
    shrunk = covariance_part * product
    shrunk.diagonal().add_(identity_part)
    if few:  # Woodbury's identity
        inner = torch.linalg.solve(shrunk, deviations @ means.T)  # (N, K)
        weight = (means - covariance_part * inner.T @ deviations) / identity_part
    else:
        weight = torch.linalg.solve(shrunk, means.T).T
    return weight, -0.5 * (weight * means).sum(dim=1)


def _ranks_within_classes(labels, num_classes):
    """(N,) the number of each sample among those of its class, in their order."""
    members = F.one_hot(labels, num_classes)
    return (members.cumsum(dim=0) * members).sum(dim=1) - 1
