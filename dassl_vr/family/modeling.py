"""Backbones, heads and small networks under the names of the Dassl family, for trainers that train a network of their own.

Trainers of this toolbox take a `FrozenBackbone` from `dassl_vr.backbones`; here backbones are trainable feature extractors.
"""

import torch
from torch import nn

from ..backbones import BACKBONE_REGISTRY, Backbone
from ..backbones import build_backbone as build_any_backbone
from ..utils.errors import ConfigError
from ..utils.registry import Registry, unknown_name_message

HEAD_REGISTRY = Registry("head")
NETWORK_REGISTRY = Registry("network")

_ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


def build_backbone(name: str, verbose: bool = True, pretrained: bool = True, **kwargs) -> nn.Module:
    """A trainable backbone: `forward` gives (B, `out_features`).

    Args:
        name: in `BACKBONE_REGISTRY`, or any that `dassl_vr.backbones` knows.
        kwargs: go to a registered backbone's builder.
    """
    if name in BACKBONE_REGISTRY:
        if verbose:
            print(f"Backbone: {name}")
        return BACKBONE_REGISTRY.get(name)(pretrained=pretrained, **kwargs)
    return build_any_backbone(name, pretrained=pretrained, frozen=False, fold=False, verbose=verbose, **kwargs)


def build_head(name: str, verbose: bool = True, **kwargs) -> nn.Module:
    """The head called `name`: a module with `out_features`, between features and classifier."""
    return _build(HEAD_REGISTRY, name, verbose, kwargs)


def build_network(name: str, verbose: bool = True, **kwargs) -> nn.Module:
    """The network called `name`, whatever a plug-in registered it for."""
    return _build(NETWORK_REGISTRY, name, verbose, kwargs)


def _build(registry, name, verbose, arguments):
    builder = registry.get(name)
    if verbose:
        print(f"{registry.kind.capitalize()}: {name}")
    return builder(**arguments)


class MLP(nn.Module):
    """Fully connected layers, each followed by batch norm (optional), an activation and dropout (optional).

    Args:
        in_features: input numbers per sample.
        hidden_layers: the width of each layer; one number for a single layer.
        activation: "relu" or "leaky_relu".
    """

    def __init__(self, in_features=2048, hidden_layers=(), activation="relu", bn=True, dropout=0.0):
        super().__init__()
        widths = [hidden_layers] if isinstance(hidden_layers, int) else list(hidden_layers)
        if not widths:
            raise ConfigError("MODEL.HEAD.HIDDEN_LAYERS is empty; give the width of each layer, such as (512,)")
        if activation not in _ACTIVATIONS:
            raise ConfigError(f"MODEL.HEAD.ACTIVATION: {unknown_name_message('activation', activation, _ACTIVATIONS)}")
        layers = []
        for width_in, width_out in zip([in_features, *widths], widths):
            layers.append(nn.Linear(width_in, width_out))
            if bn:
                layers.append(nn.BatchNorm1d(width_out))
            layers.append(_ACTIVATIONS[activation](inplace=True))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.mlp = nn.Sequential(*layers)
        self.out_features = widths[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_features) -> (B, out_features)"""
        return self.mlp(x)


@HEAD_REGISTRY.register()
def mlp(**kwargs) -> MLP:
    return MLP(**kwargs)


class SimpleNet(nn.Module):
    """A backbone, a head if `model_cfg.HEAD` describes one, and a linear classifier: what a trainer without a model trains.

    Args:
        model_cfg: a node with the keys of `cfg.MODEL`.
        num_classes: 0 = no classifier: `forward` gives features of `fdim` numbers.
        kwargs: go to the backbone's builder and the head's.
    """

    def __init__(self, cfg, model_cfg, num_classes, **kwargs):
        super().__init__()
        backbone, head = model_cfg.BACKBONE, model_cfg.HEAD
        self.backbone = build_backbone(backbone.NAME, verbose=cfg.VERBOSE, pretrained=backbone.PRETRAINED, **kwargs)
        self.fdim = self.backbone.out_features
        self.head = None
        if head.NAME and head.HIDDEN_LAYERS:
            self.head = build_head(
                head.NAME,
                verbose=cfg.VERBOSE,
                in_features=self.fdim,
                hidden_layers=head.HIDDEN_LAYERS,
                activation=head.ACTIVATION,
                bn=head.BN,
                dropout=head.DROPOUT,
                **kwargs,
            )
            self.fdim = self.head.out_features
        self.classifier = nn.Linear(self.fdim, num_classes) if num_classes > 0 else None

    def forward(self, x: torch.Tensor, return_feature: bool = False) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> (B, num_classes), or (that, (B, fdim)) if `return_feature`; features only without a classifier."""
        features = self.backbone(x)
        if self.head is not None:
            features = self.head(features)
        if self.classifier is None:
            return features
        logits = self.classifier(features)
        return (logits, features) if return_feature else logits


__all__ = [
    "BACKBONE_REGISTRY",
    "HEAD_REGISTRY",
    "NETWORK_REGISTRY",
    "Backbone",
    "SimpleNet",
    "build_backbone",
    "build_head",
    "build_network",
]
