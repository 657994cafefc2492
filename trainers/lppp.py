"""LPPP: LP++, a linear probe blended with CLIP's text features ("LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", Huang
et al., CVPR 2024).

    logit_c(v) = v . (w_c + alpha_c t_c) + b_c

v is the image's feature of unit length, t_c that of the sentence of class c. w, b and alpha are trained on all training images at
once, with steps of sizes that follow from the features, so that there is no learning rate to choose:

- w starts as the sum of each class's features, every alpha_c as 250 times the mean cosine of an image and its own class;
- w and b step by 4 N / (largest eigenvalue of F^T F) times their gradient, with momentum; F are the N features;
- alpha steps after every STEPS steps of w, by N / (4 max_c sum_i (f_i . t_c)^2) times the sum of all its gradients since the
  beginning. (So does the published code, which never clears them; the paper has the last gradient alone.)

An epoch is one such round: STEPS passes over the features in one batch, then the step of alpha. OPTIM.LR multiplies both sizes.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.evaluation import compute_accuracy
from dassl_vr.methods import FeatureClassifier, FeatureLearning, add_feature_keys
from dassl_vr.prompting import fill_in
from dassl_vr.utils.devices import in_double

CHUNK = 4096  # features in double precision at a time


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer."""
    node = add_feature_keys(cfg, "LPPP", views=False)  # its step sizes are those of fixed features
    # Steps of the classifier per epoch, each on all training images, before the one step of the blend
    node.STEPS = 10


class Stepped(nn.Module):
    """Base of what is trained with a step size of its own: gradients are multiplied by the buffer `step`."""

    def __init__(self):
        super().__init__()
        self.register_buffer("step", torch.ones(()))

    def scale_gradients(self) -> None:
        """From now on."""
        for parameter in self.parameters():
            parameter.register_hook(lambda gradient: gradient * self.step)


class VisualClassifier(Stepped):
    """v . w_c + b_c"""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, K)"""
        return self.linear(features)

    @torch.no_grad()
    def start(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Take the sums of the classes' features, and the step size of (N, D) features of unit length with these labels."""
        weight = self.linear.weight
        weight.copy_(torch.zeros_like(weight).index_add_(0, labels, features))
        products = sum(part.T @ part for part in (chunk.cpu().double() for chunk in features.split(CHUNK)))  # (D, D)
        self.step.fill_(4 * len(features) / torch.linalg.eigvalsh(products)[-1].item())


class TextBlend(Stepped):
    """alpha_c v . t_c

    Args:
        text: (K, D) text features of unit length.
    """

    def __init__(self, text: torch.Tensor):
        super().__init__()
        self.register_buffer("text", text, persistent=False)
        self.alpha = nn.Parameter(torch.zeros(len(text), dtype=text.dtype, device=text.device))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, K)"""
        return self.alpha * (features @ self.text.T)

    @torch.no_grad()
    def start(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Take the start and the step size of (N, D) features of unit length with these labels."""
        cosines = in_double(features @ self.text.T)  # (N, K)
        labels = labels.to(cosines.device)
        own = cosines.gather(1, labels[:, None])[:, 0]
        of_class = torch.zeros_like(cosines[0]).index_add_(0, labels, own)
        count = labels.bincount(minlength=len(self.text))
        self.alpha.fill_(250 * (of_class[count > 0] / count[count > 0]).mean().item())
        self.step.fill_(len(features) / (4 * cosines.square().sum(dim=0).max().item()))


class BlendedHead(nn.Module):
    """The sum of both."""

    def __init__(self, text: torch.Tensor):
        super().__init__()
        self.classifier = VisualClassifier(text.shape[1], len(text))
        self.blend = TextBlend(text)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) of unit length -> (B, K) logits."""
        return self.classifier(features) + self.blend(features)


@TRAINER_REGISTRY.register()
class LPPP(FeatureLearning):
    """LP++: a linear classifier on a frozen CLIP's features, blended with its text features; no learning rate."""

    full_batch = True
    train_step = None  # its gradients add up over steps, and it takes several at a time
    ranges = {"STEPS": Range(1, 10**6)}

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> FeatureClassifier:
        text = backbone.text_features([fill_in(cfg.DATASET.TEMPLATE, name) for name in classnames])
        return FeatureClassifier(backbone, BlendedHead(text))

    @classmethod
    def trained_parts(cls, cfg: CN, network: FeatureClassifier) -> dict[str, tuple[nn.Module, CN]]:
        plain = cfg.OPTIM.clone()  # for alpha: gradient descent
        plain.defrost()
        plain.NAME, plain.MOMENTUM, plain.WEIGHT_DECAY, plain.SGD_NESTEROV = "sgd", 0.0, 0.0, False
        return {"classifier": (network.head.classifier, cfg.OPTIM), "blend": (network.head.blend, plain)}

    def build_model(self) -> None:
        super().build_model()
        for module in (self.model.head.classifier, self.model.head.blend):
            module.scale_gradients()

    def start_from_features(self) -> None:
        features, labels = F.normalize(self.features.version(0), dim=-1), self.training_labels()
        read = features.any(dim=1)  # the others could not be
        for module in (self.model.head.classifier, self.model.head.blend):
            module.start(features[read], labels[read])

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor]:
        features, labels = self.parse_batch_train(batch)
        for _ in range(self.options.STEPS):
            loss, logits = self.train_loss(batch, features, labels)
            self.model_zero_grad("classifier")  # the blend's add up
            self.detect_anomaly(loss)
            loss.backward()  # in float32 from the features on: no need of a loss scaler
            self._optims["classifier"].step()
        self._optims["blend"].step()
        self.update_lr()
        return {"loss": loss.detach(), "acc": compute_accuracy(logits.detach(), labels)[0]}

    def extra_state(self) -> dict[str, torch.Tensor]:
        gradient = self.model.head.blend.alpha.grad
        return super().extra_state() | ({} if gradient is None else {"blend_gradient": gradient.clone()})

    def load_extra_state(self, state: dict[str, torch.Tensor]) -> None:
        super().load_extra_state(state)
        alpha = self.model.head.blend.alpha
        if state:
            gradient = state["blend_gradient"]
            if gradient.shape != alpha.shape or not bool(gradient.isfinite().all()):
                raise ValueError(f"blend_gradient has shape {tuple(gradient.shape)}; expected {tuple(alpha.shape)} finite numbers")
            alpha.grad = gradient.to(alpha)
