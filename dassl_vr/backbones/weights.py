"""Reading and loading weight files without running anything that is in them."""

import contextlib
import hashlib
import os
import pickle
import re
import shlex
import socket
import urllib.request
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

import torch
from torch import nn

from ..home import expand_home
from ..utils.errors import WeightsError

REMEDY = "name a local file with MODEL.BACKBONE.WEIGHTS, or try things out on random weights with MODEL.BACKBONE.PRETRAINED False"
HUBS_FILE = "the hub's file"  # for messages
_TIMEOUT = 10  # seconds


# Entries of a training checkpoint that hold the model, most usual first
_ENTRIES = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "module", "weights", "params")
# What torch puts into names of wrapped modules, anywhere in them
_WRAPPED = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_AVERAGES = "n_averaged"  # the counter of torch's `AveragedModel`


class WeightsFile:
    """A file with the weights of a model; as text it names itself for messages.

    Args:
        path: `.safetensors`, or a file of `torch.save` (`.pth`, `.pt`, `.bin`, `.tar`).
        entry: which of several models in it: a training checkpoint's entry (dotted if it is inside another), or what its tensors'
            names begin with; "" = `state_dict`, `model` or what else is usual.

    Attributes:
        note: a sentence about what else could have been taken, once it is read.
    """

    def __init__(self, path, entry=""):
        self.path, self.entry = path, entry
        self.note = self._taken = ""

    def __str__(self):
        return f"weights file '{self.path}'{self._taken}"

    def read(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """The file's tensors by name, for `model`: without what wrappers, trainers and parallel training put in front of the names.

        Raises:
            WeightsError: it is missing, unreadable, holds something other than tensors with values, or would run code; or several
                models, and `entry` does not say which.
        """
        entries = _entries(_load(self.path))
        if not entries:
            raise WeightsError(f"{self} holds no state_dict; expected tensors by name, or an entry 'state_dict' of them")
        names = set(model.state_dict())
        name, inside = self._choose(entries)
        if name:
            self._taken = f" (entry '{name}')"
        state = self._without_prefix(_unwrapped(entries[name], names, self), names, inside)
        others = [other for other in entries if other != name and _alike(_unwrapped(entries[other], names, self), state)]
        if others and not self.entry:
            self.note = f"{self} is used; it also holds {', '.join(others)}, which MODEL.BACKBONE.WEIGHTS_ENTRY would take"
        for key, tensor in state.items():
            if problem := _unusual(tensor):
                raise WeightsError(f"{self}: tensor '{key}' {problem}; save the plain state_dict of the model")
        return state

    def _choose(self, entries):
        """(name of the entry to take, what the names of its tensors have to begin with)."""
        if self.entry in entries:
            return self.entry, ""
        by_depth = sorted(entries, key=lambda name: name.count("."))
        usual = [name for key in _ENTRIES for name in by_depth if key in (name.partition(".")[0], name.rpartition(".")[2])]
        default = next(iter(usual), next(iter(entries)))
        if self.entry and any(key.startswith(f"{self.entry}.") for key in entries[default]):
            return default, f"{self.entry}."
        if self.entry and default:
            raise WeightsError(f"{self} has no entry '{self.entry}' (MODEL.BACKBONE.WEIGHTS_ENTRY); it has {', '.join(entries)}")
        if not usual and len(entries) > 1:
            raise WeightsError(f"{self} holds several models; choose with MODEL.BACKBONE.WEIGHTS_ENTRY one of {', '.join(entries)}")
        return default, ""

    def _without_prefix(self, state, names, prefix):
        """The part of `state` that has most of `names` behind one and the same beginning, if they are not there without one."""
        if not prefix:
            found = Counter()
            for name in state:
                parts = name.split(".")
                found.update(".".join([*parts[:i], ""]) for i in range(len(parts)) if ".".join(parts[i:]) in names)
            best = max(found.values(), default=0)
            prefixes = [beginning for beginning, number in found.items() if number == best]
            if 2 * best < len(names) or found[""] == best:
                return state
            if len(prefixes) > 1:
                shown = ", ".join(beginning.removesuffix(".") for beginning in prefixes)
                raise WeightsError(f"{self} holds several models; choose with MODEL.BACKBONE.WEIGHTS_ENTRY one of {shown}")
            prefix = prefixes[0]
        self._taken += f" (names behind '{prefix}')"
        return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _load(path):
    """What is in a file of tensors. Raises `WeightsError`."""
    path = os.fspath(expand_home(path))
    if not os.path.isfile(path):
        raise WeightsError(f"MODEL.BACKBONE.WEIGHTS: there is no file '{path}'; expected a .pth or .safetensors file")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        if zipfile.is_zipfile(path) and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
            raise WeightsError(_torchscript(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that are refused next
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights file '{path}' was refused: it is damaged or holds Python objects besides tensors, which could "
            "run code; save the plain state_dict of the model, best as .safetensors"
        ) from error
    except Exception as error:  # safetensors and zip readers each have their own exceptions
        raise WeightsError(f"weights file '{path}' cannot be read ({first_line(error)}); expected .pth or .safetensors") from error


def _torchscript(path):
    """What to do with a program in place of its tensors, such as OpenAI's files of CLIP."""
    tensors = f"{os.path.splitext(path)[0]}_weights.pth"
    code = f"import torch; torch.save(dict(torch.jit.load({path!r}, map_location='cpu').state_dict()), {tensors!r})"
    return (
        f"weights file '{path}' is a TorchScript program, which is not run; if you trust it, take its tensors out with"
        f" `{shlex.join(['python', '-c', code])}` and name '{tensors}'"
    )


def _entries(content, name=""):
    """{dotted name: {tensor's name: tensor}} of the dictionaries in `content` that hold tensors by name and nothing else."""
    if not isinstance(content, dict) or not content or name.count(".") > 2:
        return {}
    if all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()):
        return {name: content}
    found = {}
    for key, value in content.items():
        found |= _entries(value, f"{name}.{key}".removeprefix("."))
    return found


def _unwrapped(state, names, source):
    """`state` without torch's own wrappers in the names, and without what all begin with if more of `names` come out so."""
    unwrapped = {_WRAPPED.sub("", name): tensor for name, tensor in state.items() if name != _AVERAGES}
    if len(unwrapped) < len(state) - (_AVERAGES in state):
        raise WeightsError(f"{source} holds the same tensor with and without '_orig_mod.' in its name; keep one of the two")
    first, dot, _ = next(iter(unwrapped), "").partition(".")
    if not dot or not all(name.startswith(first + dot) for name in unwrapped):
        return unwrapped
    shorter = {name.removeprefix(first + dot): tensor for name, tensor in unwrapped.items()}
    better = first == "module" or len(shorter.keys() & names) > len(unwrapped.keys() & names)
    return _unwrapped(shorter, names, source) if better else unwrapped


def _alike(one, other):
    """Whether most of the tensors of `other` are in `one` too."""
    return 2 * len(one.keys() & other.keys()) > len(other)


def _unusual(tensor):
    """What is wrong with a tensor that has no plain numbers in it."""
    if tensor.is_meta:
        return "has no values ('meta')"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "is sparse or nested"
    return "is quantized" if tensor.is_quantized else "has complex numbers" if tensor.is_complex() else ""


def load_state(model: nn.Module, state: dict[str, torch.Tensor], model_name: str, source: WeightsFile | str) -> None:
    """Copy `state` into `model`: exactly its tensors, with finite numbers of their kind, or a `WeightsError` that names the first
    misfit."""
    own = model.state_dict()
    # Files written before BatchNorm counted its batches lack the counter, which evaluation does not use
    state = {**{name: own[name] for name in own if name.endswith("num_batches_tracked")}, **state}
    problems = (problem for name, tensor in own.items() if (problem := _misfit(name, state.get(name), tensor)))
    problem = next(problems, None) or next((f"'{name}' has no place in it" for name in state if name not in own), None)
    if problem:
        raise WeightsError(
            f"{source} does not fit '{model_name}': tensor {problem}; take this model's file or change MODEL.BACKBONE.NAME"
        )
    for name, tensor in own.items():
        problem = _bad_values(name, state[name].to(tensor.dtype))
        if problem and not _bad_values(name, tensor):  # some models have infinite constants
            raise WeightsError(f"{source} is damaged: tensor '{name}' has {problem}; take another file")
    model.load_state_dict(state)


def _misfit(name, tensor, own):
    """What is wrong with `tensor` in the place of `own`, in a few words."""
    if tensor is None:
        return f"'{name}' is missing"
    if tensor.shape != own.shape:
        return f"'{name}' is {tuple(tensor.shape)}, expected {tuple(own.shape)}"
    if tensor.is_floating_point() != own.is_floating_point() or (tensor.dtype == torch.bool) != (own.dtype == torch.bool):
        return f"'{name}' is {tensor.dtype}, expected {own.dtype}".replace("torch.", "")
    return ""


def _bad_values(name, tensor):
    if not bool(torch.isfinite(tensor).all()):
        return "values that are NaN, infinite or too large for its type"
    return "negative variances" if name.endswith("running_var") and bool((tensor < 0).any()) else ""


def weights_sha256(model: nn.Module, leave_out: Collection[str] = ()) -> str:
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


def require_same_weights(trained: str | None, found: str | None, source: str | os.PathLike, flag: str) -> None:
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


def no_fit(model_name: str, source: WeightsFile | str, error: Exception) -> WeightsError:
    """`WeightsError` for a file on which the library's own conversion tripped, because it is another model's."""
    return WeightsError(
        f"{source} does not fit '{model_name}' ({type(error).__name__}: {first_line(error)}); take this "
        "model's file or change MODEL.BACKBONE.NAME"
    )


def rename_by_order(state: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor] | None:
    """`state` under the names of `model`, tensor by tensor in order; None when a number or a shape differs."""
    own = model.state_dict()
    if len(own) != len(state) or any(a.shape != b.shape for a, b in zip(own.values(), state.values())):
        return None
    return dict(zip(own, state.values()))


def first_line(error: BaseException) -> str:
    """The error in a few words, for a message of one line."""
    text = str(error).strip().splitlines()
    return re.sub(r"\s+", " ", text[0])[:160] if text else type(error).__name__


def host_answers(url: str) -> bool:
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
def download(model_name: str, url: str, put_at: str | os.PathLike) -> Iterator[None]:
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
