"""Torch's `meta` device in the part of an accelerator: it has shapes and types but no values, so nothing can be read from it.

Inside of `OnMeta` an operation fails that reads a value of the device, or that takes a tensor which was left on the CPU; the
message names the line of ours, or of a test, from which it came. So a run that passes mixes no devices, and waits for the device
only in the places of `MAY_READ`. There the reader gets numbers that are made up.
"""

import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
REPOSITORY = Path(__file__).resolve().parents[2]
aten = torch.ops.aten

# Module and function that may read, or call what reads: (the number that it is given, why it may)
BUILT = "once, while the model is built"
START = "once, before training"
PRINTED = "a print-out"
TESTED = "at the end of a test"
EPOCH = "once an epoch"
MAY_READ = {
    ("dassl_vr.backbones.base", "reads_features"): (1, BUILT),
    ("dassl_vr.reprogramming.assignment", "most_similar_sets"): (0, BUILT),
    ("dassl_vr.reprogramming.mappings.described", "_groups"): (1, BUILT),
    ("dassl_vr.backbones.clip", "text_features"): (1, f"{START}: how long the longest sentence is"),
    ("dassl_vr.trainers.lppp", "start"): (1, START),
    ("dassl_vr.trainers.lppp", "start_from_features"): (1, START),
    ("dassl_vr.trainers.tip_adapter_f", "fill"): (1, START),
    ("dassl_vr.trainers.tip_adapter_f", "start_from_features"): (1, START),
    ("dassl_vr.engine.batch_loop", "log_batch"): (0, PRINTED),
    ("dassl_vr.engine.epoch_pass", "record"): (0, f"{EPOCH}, for its history"),
    ("dassl_vr.engine.models", "check_before_saving"): (1, "before a checkpoint"),
    ("dassl_vr.engine.models", "raise_if_anomaly"): (0, f"{PRINTED}, or before a checkpoint"),
    ("dassl_vr.methods.feature_learning", "_current"): (0, f"{EPOCH}: which images were left out"),
    ("dassl_vr.reprogramming.assignment", "greedy_sets"): (0, f"{EPOCH}: a label mapping is made of counts"),
    ("dassl_vr.evaluation.evaluator", "evaluate"): (0, TESTED),
    ("dassl_vr.evaluation.predictions", "gather"): (0, TESTED),
}
# Likewise where the device has no double precision
WITHOUT_DOUBLE = "statistics that are added up in double precision are so on the CPU"
MAY_READ_WITHOUT_DOUBLE = {
    ("dassl_vr.utils.devices", "in_double"): (1, WITHOUT_DOUBLE),
    ("dassl_vr.reprogramming.mappings.blm", "observe"): (1, WITHOUT_DOUBLE),
}
# Operations that take an index from the CPU, and those that copy from it
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}
COPYING = {aten.copy_, aten._to_copy, aten.copy}


class DeviceFault(AssertionError):
    """What would fail, or wait, on an accelerator."""


class OnMeta(TorchDispatchMode):
    """
    Args:
        float64: False = a device without double precision.

    Attributes:
        operations: how many there were on the device.
    """

    def __init__(self, float64=True):
        super().__init__()
        self.float64, self.operations = float64, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        mine = [tensor for tensor in tensors if tensor.is_meta]
        if not mine:
            return self._checked(func, func(*args, **kwargs))
        # In inference mode what is made of other operations comes whole
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        self.operations += 1
        if _reads(func, args, kwargs):
            answer = _may_read(MAY_READ if self.float64 else MAY_READ | MAY_READ_WITHOUT_DOUBLE)
            if answer is None:
                raise DeviceFault(f"{place()}: {func} reads a value of the device, which has to be waited for")
            return _made_up(func, args, kwargs, answer)
        if func.overloadpacket not in COPYING:
            left = [tensor for tensor in tensors if not tensor.is_meta and not _may_stay(func, tensor)]
            if left:
                shapes = ", ".join(str(tuple(tensor.shape)) for tensor in left)
                raise DeviceFault(f"{place()}: {func} on the device takes a tensor {shapes} that is on the CPU")
        return self._checked(func, func(*args, **kwargs))

    def _checked(self, func, result):
        if not self.float64:
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor) and leaf.is_meta and leaf.dtype == torch.float64:
                    raise DeviceFault(f"{place()}: {func} computes in double precision")
        return result


def _reads(func, args, kwargs):
    """Whether an operation with an argument on the device has to know its values."""
    packet = func.overloadpacket
    if packet in COPYING:
        target = args[0].device if packet is aten.copy_ else kwargs.get("device")
        source = args[1] if packet is aten.copy_ else args[0]
        return source.is_meta and target is not None and target.type == "cpu"
    if packet in INDEXING:
        return any(index is not None and index.is_meta and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags


def _may_stay(func, tensor):
    """Whether torch itself takes a tensor of the CPU there: a number in a tensor, or an index."""
    if func.overloadpacket in INDEXING:
        return not tensor.is_floating_point()
    return tensor.dim() == 0 and torch.Tag.pointwise in func.tags


def _made_up(func, args, kwargs, answer):
    packet = func.overloadpacket
    if packet is aten._local_scalar_dense:
        return torch.tensor(answer).to(args[0].dtype).item()
    if packet is aten._to_copy:
        return torch.full(args[0].shape, answer, dtype=kwargs.get("dtype") or args[0].dtype)
    if packet is aten.copy_:
        return args[0].fill_(answer)
    if packet in (aten.equal, aten.allclose, aten.is_nonzero):
        return bool(answer)
    if packet is aten.nonzero:
        return torch.empty(args[0].numel() * answer, args[0].dim(), dtype=torch.int64, device=META)
    if packet is aten.bincount:
        return torch.empty(kwargs.get("minlength", args[-1]), dtype=torch.int64, device=META)
    if packet is aten.index:
        every = [torch.empty(len(index), dtype=torch.int64, device=META) if index is not None else None for index in args[1]]
        return args[0].new_empty(tuple(len(every[0]) * answer for _ in every) + args[0].shape[args[1][0].dim() :])
    raise DeviceFault(f"{place()}: {func} reads a value of the device; say in `_made_up` what it gets")


def _frames():
    frame = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _may_read(allowed):
    """What the reader gets; None if nothing on the way to here may read."""
    places = ((frame.f_globals.get("__name__"), frame.f_code.co_name) for frame in _frames())
    return next((allowed[key][0] for key in places if key in allowed), None)


def place():
    """File, line and function of ours, or of a test, from which this was called."""
    for frame in _frames():
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and path.is_relative_to(REPOSITORY) and ".venv" not in path.parts:
            return f"{path.relative_to(REPOSITORY)}:{frame.f_lineno} in {frame.f_code.co_name}"
    return "elsewhere"
