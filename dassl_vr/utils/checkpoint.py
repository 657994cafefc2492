"""Checkpoint files in the family's form, written atomically and read without unpickling code.

`torch.save` writes zip files with a CRC-32 of every record, which `torch.load` does not look at; `read_torch_file` does. So every
such file has its checksum, those of the original family included, with no entry of ours in it (0.3 s for 500 MB). What it holds
is then checked for its kind, before any of it is used.
"""

import os
import pickle
import warnings
import zipfile
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from . import kinds
from .errors import WeightsError
from .files import atomic_write
from .training_state import is_dense, is_finite, optimizer_problem, schedule_problem

BEST_MODEL = "model-best.pth.tar"
NAMED = kinds.dict_of(kinds.ANYTHING)
CHECKPOINT = kinds.record(
    {"state_dict": NAMED, "epoch": kinds.COUNT},
    {"val_result": kinds.optional(kinds.NUMBER), "optimizer": kinds.optional(NAMED), "scheduler": kinds.optional(NAMED)},
)


def save_atomically(state: dict, path: str | os.PathLike) -> None:
    """`torch.save` so that `path` is the old file or the whole new one, never half of one."""
    with atomic_write(path, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # of torch's, for whatever went wrong in `file.write`
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The part of a module's state dict that training changes: parameters with a gradient, and buffers."""
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {key: value for key, value in module.state_dict().items() if key not in frozen}


def check_trained_state(module: nn.Module, state: dict, source: str | os.PathLike) -> None:
    """Raises `WeightsError` unless `state` has all that is trained of `module`: finite tensors of its shapes and kinds.

    Args:
        state: a dictionary.
        source: where it comes from, for messages.
    """
    expected, known = trained_state(module), module.state_dict()
    problems = [f"'{key}' is missing" for key in expected if key not in state]
    problems += [f"{key!a} is unknown to the model" for key in state if key not in known]
    problems += filter(None, (_misfit(key, value, known[key]) for key, value in state.items() if key in known))
    if problems:
        raise WeightsError(
            f"{source} does not fit this model: {'; '.join(problems[:3])}"
            + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
            + "; use the configuration it was trained with"
        )


def _misfit(key, value, own):
    if not is_dense(value):
        return f"'{key}' is {_described(value)} where the model has a tensor"
    if value.shape != own.shape:
        return f"'{key}' has shape {tuple(value.shape)} where the model has {tuple(own.shape)}"
    if _number_kind(value) != _number_kind(own):
        return f"'{key}' is of {value.dtype} where the model has {own.dtype}"
    if not is_finite(value.to(own.dtype)) and is_finite(own):
        return f"'{key}' holds NaN or infinity"
    return ""


def _number_kind(tensor):
    return tensor.is_complex(), tensor.is_floating_point(), tensor.dtype == torch.bool


def _described(value):
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    return f"a tensor on {value.device}" if value.is_meta else f"a {'quantized' if value.is_quantized else value.layout} tensor"


def load_trained_state(module: nn.Module, state: dict, source: str | os.PathLike) -> None:
    """Load what `trained_state` gave, in place. Raises `WeightsError` before that as `check_trained_state` does."""
    check_trained_state(module, state, source)
    try:
        module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # values that a module refuses
        raise WeightsError(f"{source} does not fit this model: {' '.join(str(error).split())[:200]}") from error


def read_torch_file(path: str | os.PathLike, what: str) -> Any:
    """What `torch.save` wrote to `path`, on the CPU: tensors and plain values only, and no changed byte.

    Args:
        what: what it should be, for messages.

    Raises:
        WeightsError: no such file, a damaged one, or one that holds Python objects.
    """
    if not os.path.isfile(path):
        raise WeightsError(f"{what} {path}: no such file")
    try:
        _check_records(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files of other pickles, which are refused below or load anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise WeightsError(f"{what} {path}: holds more than tensors and plain values; it is not loaded") from error
        raise WeightsError(f"{what} {path}: damaged or not a checkpoint") from error
    except Exception as error:  # in a file of any bytes nearly anything can go wrong
        reason = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise WeightsError(f"{what} {path}: damaged or not a checkpoint ({reason})") from error


def _check_records(path):
    if not zipfile.is_zipfile(path):
        return  # written before torch 1.6: without checksums
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise zipfile.BadZipFile("it is compressed, as torch writes none")
        if changed := archive.testzip():
            raise zipfile.BadZipFile(f"the checksum of its record {changed!a} differs")


def load_checkpoint(fpath: str | os.PathLike, kind: kinds.Kind = NAMED) -> dict:
    """The dictionary in a checkpoint file, on the CPU; tensors and plain values only.

    Args:
        kind: what it has to be, see `kinds`.

    Raises:
        WeightsError: no such file, a damaged one, one that holds Python objects, or one of another kind.
    """
    content = read_torch_file(fpath, "checkpoint")
    if problem := kind(content, ""):
        raise WeightsError(f"checkpoint {fpath}: not such a checkpoint, {problem}; choose another file, or train again")
    return content


def save_checkpoint(
    state: dict, save_dir: str | os.PathLike, is_best: bool = False, remove_module_from_keys: bool = True, model_name: str = ""
) -> None:
    """Write `state` to `save_dir/model.pth.tar-<epoch>` (or `model_name`) and note it in `save_dir/checkpoint`.

    Args:
        state: `state_dict, epoch, optimizer, scheduler, val_result`.
        is_best: also write `model-best.pth.tar`.
        remove_module_from_keys: strip the `module.` that parallel wrappers put before names.
    """
    if remove_module_from_keys:
        state = {**state, "state_dict": {k.removeprefix("module."): v for k, v in state["state_dict"].items()}}
    fpath = os.path.join(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    save_atomically(state, fpath)
    if model_name != BEST_MODEL:
        with atomic_write(os.path.join(save_dir, "checkpoint")) as file:
            file.write(f"{os.path.basename(fpath)}\n")
    if is_best:
        save_atomically(state, os.path.join(save_dir, BEST_MODEL))
    print(f"Checkpoint saved to {fpath}")


def newest_checkpoint(directory: str | os.PathLike) -> str | None:
    """The file that `directory/checkpoint` names, or None.

    Raises:
        WeightsError: that note is not the name of a file beside it.
    """
    note = os.path.join(directory, "checkpoint")
    if not os.path.isfile(note):
        return None
    with open(note, "rb") as file:
        line = file.readline(4096)
    name = line.decode(errors="replace").strip()
    if not name.isprintable() or not name or "\ufffd" in name or name in (".", "..") or os.path.basename(name) != name:
        raise WeightsError(
            f"{note}: names no checkpoint file in {directory} ({name[:40]!a}); write the name of one there into it, or remove it"
        )
    return os.path.join(directory, name)


def find_checkpoint(folder: str | os.PathLike, epoch: int | None = None) -> str:
    """The file of one registered model in its `folder`: that of `epoch`; with None the best by validation, else the newest.

    Raises:
        WeightsError: there is none.
    """
    best = os.path.join(folder, BEST_MODEL)
    if epoch is not None:
        path = os.path.join(folder, f"model.pth.tar-{epoch}")
    else:
        path = best if os.path.isfile(best) else newest_checkpoint(folder)
    if path is None or not os.path.isfile(path):
        found = sorted(f for f in os.listdir(folder) if "pth" in f) if os.path.isdir(folder) else []
        raise WeightsError(
            f"no checkpoint {path or f'in {folder}'}; expected the directory of a run with the same trainer"
            f" (found there: {', '.join(found) or 'none'})"
        )
    return path


def resume_from_checkpoint(
    fdir: str | os.PathLike, model: nn.Module, optimizer: Optimizer | None = None, scheduler: LRScheduler | None = None
) -> int:
    """Load the newest checkpoint of `fdir` into a model, its optimizer and its schedule; returns the epoch to continue with.

    Raises:
        WeightsError: there is none, or it does not fit. Nothing is loaded then.
    """
    fpath = newest_checkpoint(fdir)
    if fpath is None:
        raise WeightsError(f"no checkpoint in {fdir}: expected a file 'checkpoint' that names the newest one")
    checkpoint = load_checkpoint(fpath, CHECKPOINT)
    states = {"optimizer": (optimizer, optimizer_problem), "scheduler": (scheduler, schedule_problem)}
    states = {name: entry for name, entry in states.items() if entry[0] is not None and checkpoint.get(name) is not None}
    for name, (holder, find_problem) in states.items():
        if problem := find_problem(holder, checkpoint[name], name):
            raise WeightsError(f"checkpoint {fpath}: {problem}; use the configuration it was trained with")
    load_trained_state(model, checkpoint["state_dict"], fpath)
    for name, (holder, _) in states.items():
        holder.load_state_dict(checkpoint[name])
    print(f"Loaded {fpath} (epoch {checkpoint['epoch']})")
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str | os.PathLike) -> None:
    """Load the tensors of a checkpoint that fit `model` by name and shape; the others are named in a line.

    Raises:
        WeightsError: the file cannot be read, nothing in it fits, or a tensor that fits by name and shape is of another kind.
    """
    checkpoint = load_checkpoint(weight_path)
    state = checkpoint.get("state_dict", checkpoint)
    if problem := NAMED(state, "state_dict"):
        raise WeightsError(f"checkpoint {weight_path}: not such a checkpoint, {problem}; choose another file")
    state = {key.removeprefix("module."): v for key, v in state.items() if isinstance(v, torch.Tensor)}
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    if not fitting:
        raise WeightsError(f"no tensor in {weight_path} fits the model by name and shape")
    if problem := next(filter(None, (_misfit(key, value, own[key]) for key, value in fitting.items())), ""):
        raise WeightsError(f"checkpoint {weight_path}: {problem}; choose another file")
    model.load_state_dict(fitting, strict=False)
    print(f"Loaded {len(fitting)} tensors from {weight_path}")
    left_out = sorted(set(state) - set(fitting))
    if left_out:
        print(f"Not loaded, unknown or of another shape: {', '.join(left_out)}")
