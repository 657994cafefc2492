"""Checkpoint files in the family's form, written atomically and read without unpickling code."""

import os
import pickle

import torch

from .errors import WeightsError
from .files import atomic_write

BEST_MODEL = "model-best.pth.tar"


def save_atomically(state, path):
    """`torch.save` such that `path` is the old file or the whole new one, never half of one."""
    with atomic_write(path, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # of torch's, for whatever went wrong in `file.write`
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def trained_state(module):
    """The part of a module's state dict that training changes: parameters with a gradient, and buffers."""
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {key: value for key, value in module.state_dict().items() if key not in frozen}


def load_trained_state(module, state, source):
    """Load what `trained_state` gave, in place.

    Args:
        source: where `state` comes from, for messages.

    Raises:
        WeightsError: a trained tensor is missing, unknown, or of another shape.
    """
    expected, known = trained_state(module), module.state_dict()
    problems = [f"'{key}' is missing" for key in expected if key not in state]
    problems += [f"'{key}' is unknown to the model" for key in state if key not in known]
    problems += [
        f"'{key}' has shape {tuple(value.shape)} where the model has {tuple(known[key].shape)}"
        for key, value in state.items()
        if key in known and value.shape != known[key].shape
    ]
    if problems:
        raise WeightsError(
            f"{source} does not fit this model: {'; '.join(problems[:3])}"
            + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
            + "; use the configuration it was trained with"
        )
    module.load_state_dict(state, strict=False)


def load_checkpoint(fpath, needs=()):
    """The dictionary in a checkpoint file, on the CPU; tensors and plain values only.

    Args:
        needs: keys that it must have.

    Raises:
        WeightsError: no such file, a damaged one, or one that holds Python objects.
    """
    if not os.path.isfile(fpath):
        raise WeightsError(f"checkpoint {fpath}: no such file")
    try:
        content = torch.load(fpath, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise WeightsError(f"checkpoint {fpath}: holds more than tensors and plain values; it is not loaded") from error
        raise WeightsError(f"checkpoint {fpath}: damaged or not a checkpoint") from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"checkpoint {fpath}: damaged or not a checkpoint ({type(error).__name__})") from error
    missing = [key for key in needs if not isinstance(content, dict) or key not in content]
    if missing or not isinstance(content, dict):
        raise WeightsError(f"checkpoint {fpath}: not such a checkpoint, it lacks {', '.join(missing) or 'names'}")
    return content


def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
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


def newest_checkpoint(directory):
    """The file that `directory/checkpoint` names, or None."""
    note = os.path.join(directory, "checkpoint")
    if not os.path.isfile(note):
        return None
    with open(note, encoding="utf-8") as file:
        return os.path.join(directory, os.path.basename(file.readline().strip()))


def find_checkpoint(folder, epoch=None):
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


def resume_from_checkpoint(fdir, model, optimizer=None, scheduler=None):
    """Load the newest checkpoint of `fdir` into a model, its optimizer and its schedule; returns the epoch to go on with.

    Raises:
        WeightsError: there is none, or it does not fit.
    """
    fpath = newest_checkpoint(fdir)
    if fpath is None:
        raise WeightsError(f"no checkpoint in {fdir}: expected a file 'checkpoint' that names the newest one")
    checkpoint = load_checkpoint(fpath, needs=("state_dict", "epoch"))
    load_trained_state(model, checkpoint["state_dict"], fpath)
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        scheduler.load_state_dict(checkpoint["scheduler"])
    print(f"Loaded {fpath} (epoch {checkpoint['epoch']})")
    return checkpoint["epoch"]


def load_pretrained_weights(model, weight_path):
    """Load the tensors of a checkpoint that fit `model` by name and shape; the others are named in a line.

    Raises:
        WeightsError: the file cannot be read, or nothing in it fits.
    """
    checkpoint = load_checkpoint(weight_path)
    state = checkpoint.get("state_dict", checkpoint)
    state = {key.removeprefix("module."): v for key, v in state.items() if isinstance(v, torch.Tensor)}
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    if not fitting:
        raise WeightsError(f"no tensor in {weight_path} fits the model by name and shape")
    model.load_state_dict(fitting, strict=False)
    print(f"Loaded {len(fitting)} tensors from {weight_path}")
    left_out = sorted(set(state) - set(fitting))
    if left_out:
        print(f"Not loaded, unknown or of another shape: {', '.join(left_out)}")
