"""A bundle: a directory with what was trained (`prompt.safetensors`) and what it needs (`config.json`)."""

import os
from pathlib import Path

import torch

from ..names import BUNDLE
from ..utils.checkpoint import trained_state
from ..utils.errors import WeightsError
from ..utils.places import naming_file, new_directory
from .description import FILES, describe, write_description
from .model import PromptedModel


def write_bundle(model: PromptedModel, out: str | os.PathLike) -> None:
    """Write the bundle of a `PromptedModel` to the directory `out`, which must not hold anything yet.

    Raises:
        ConfigError: it does.
    """
    from safetensors.torch import save

    tensors = {
        f"{name}.{key}": tensor.detach().cpu().contiguous().clone()  # safetensors takes no tensors that share memory
        for name, module in model.details.modules.items()
        for key, tensor in trained_state(module).items()
    }
    with new_directory(out) as directory:
        file = directory / FILES[BUNDLE]
        with naming_file(file):
            file.write_bytes(save(tensors))
        write_description(describe(model, BUNDLE, [file]), directory)


def read_states(directory: str | os.PathLike) -> dict[str, dict[str, torch.Tensor]]:
    """{registered name: {tensor's name: tensor}} of a bundle. Raises `WeightsError` for a file that holds no tensors."""
    from safetensors.torch import load_file

    file = Path(directory, FILES[BUNDLE])
    try:
        tensors = load_file(file)
    except Exception as error:  # the reader has exceptions of its own
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"{file}: not a file of tensors ({reason}); expected safetensors, export the model again") from error
    states = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        states.setdefault(part, {})[key] = tensor
    return states


def size_of(directory: str | os.PathLike) -> int:
    """Bytes of all files in `directory`."""
    return sum(path.stat().st_size for path in Path(directory).iterdir())
