"""Reading and loading weight files without running anything that is in them."""

import contextlib
import hashlib
import pickle
import re
import socket
import urllib.request
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import torch

from ..utils.errors import WeightsError

REMEDY = "name a local file with MODEL.BACKBONE.WEIGHTS, or try things out on random weights with MODEL.BACKBONE.PRETRAINED False"
_TIMEOUT = 10  # seconds


def read_weights(path):
    """The tensors in a `.safetensors` file, or in a file of `torch.save` (`.pth`, `.pt`, `.bin`, `.tar`), by name.

    A training checkpoint's `state_dict` or `model` entry is taken, and a leading `module.` (DataParallel) is cut off.
    Raises `WeightsError` for a file that is missing, unreadable, holds something other than tensors, or would run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"MODEL.BACKBONE.WEIGHTS: there is no file '{path}'; expected a .pth or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a TorchScript archive, which is refused below
                state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights file '{path}' was refused: it is damaged or holds Python objects besides tensors, which could "
            "run code; save the plain state_dict of the model, best as .safetensors"
        ) from error
    except Exception as error:  # safetensors and zip readers each have their own exceptions
        raise WeightsError(f"weights file '{path}' cannot be read ({first_line(error)}); expected .pth or .safetensors") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"weights file '{path}' holds no state_dict; expected tensors by name, or an entry 'state_dict' of them")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def load_state(model, state, model_name, source):
    """Copy `state` into `model`: exactly its tensors, or a `WeightsError` that names the first misfit."""
    own = model.state_dict()
    # Files written before BatchNorm counted its batches lack the counter, which evaluation does not use
    state = {**{name: own[name] for name in own if name.endswith("num_batches_tracked")}, **state}
    problem = None
    for name, tensor in own.items():
        if name not in state:
            problem = f"tensor '{name}' is missing"
        elif state[name].shape != tensor.shape:
            problem = f"tensor '{name}' is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        if problem:
            break
    else:
        extra = next((name for name in state if name not in own), None)
        problem = f"tensor '{extra}' has no place in it" if extra else None
    if problem:
        raise WeightsError(f"{source} does not fit '{model_name}': {problem}; take this model's file or change MODEL.BACKBONE.NAME")
    model.load_state_dict(state)


def weights_sha256(model, leave_out=()):
    """SHA-256 over a model's tensors: name, type, shape and bytes of each, in the order of their names.

    Args:
        leave_out: tensors with one of these in their names do not count. Counters of batches never do: evaluation has no use for
            them and old files lack them.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if any(part in name for part in (*leave_out, "num_batches_tracked")):
            continue
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())  # as bytes: numpy knows no bfloat16
    return digest.hexdigest()


def require_same_weights(trained, found, source, flag):
    """Raises `WeightsError` if a model was trained on a backbone with other weights than those found; None = not known.

    Args:
        trained, found: `weights_sha256` of both.
        source: of the model, for the message.
        flag: what names a file with weights.
    """
    if None not in (trained, found) and trained != found:
        raise WeightsError(
            f"{source}: trained on a backbone whose weights have the SHA-256 {trained[:12]}..., but those found here have"
            f" {found[:12]}...; name a file with the right ones with {flag}"
        )


def no_fit(model_name, path, error):
    """`WeightsError` for a file on which the library's own conversion tripped, because it is another model's."""
    return WeightsError(
        f"weights file '{path}' does not fit '{model_name}' ({type(error).__name__}: {first_line(error)}); take this "
        "model's file or change MODEL.BACKBONE.NAME"
    )


def rename_by_order(state, model):
    """`state` under the names of `model`, tensor by tensor in order; None when a number or a shape differs."""
    own = model.state_dict()
    if len(own) != len(state) or any(a.shape != b.shape for a, b in zip(own.values(), state.values())):
        return None
    return dict(zip(own, state.values()))


def first_line(error):
    """The error in a few words, for a message of one line."""
    text = str(error).strip().splitlines()
    return re.sub(r"\s+", " ", text[0])[:160] if text else type(error).__name__


def host_answers(url):
    """Can the host of `url` be reached? Behind a proxy this is unknown, hence yes. Takes seconds at most."""
    address = urlsplit(url)
    if urllib.request.getproxies().get(address.scheme):
        return True
    try:
        port = address.port or {"http": 80}.get(address.scheme, 443)
        socket.create_connection((address.hostname, port), timeout=_TIMEOUT).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def download(model_name, url, put_at):
    """Around a download: any failure becomes a `WeightsError` that says what to fetch, from where and to where."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)  # of a silent connection, not of the whole download
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # each library and each of its transports has exceptions of its own
        raise WeightsError(
            f"the weights of '{model_name}' could not be downloaded ({first_line(error)}); fetch them from {url} and "
            f"put them at {put_at}, or {REMEDY}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
