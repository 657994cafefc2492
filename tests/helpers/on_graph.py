"""A stand-in for an accelerator's graphs, on the CPU: operations are recorded and repeated one by one, without Python between them.

As on a device, a replay runs the same operations with the same numbers on the same memory. So it differs from a step that runs anew
wherever the step depends on Python: a number that changes from step to step, a tensor that is put in the place of another one, a
choice. And as on a device, what reads a value cannot be recorded.
"""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten


def reads(func, args):
    """Whether an operation has to know values to say what, or how much, comes out of it."""
    if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_, aten._unsafe_index):
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags


def tensors_of(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Recording(TorchDispatchMode):
    """Runs operations and notes them."""

    def __init__(self):
        super().__init__()
        self.operations = []  # (function, arguments, results that are memory of their own)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if reads(func, args):
            raise RuntimeError(f"{func} reads a value, which a recording cannot")
        # The same memory under its present shape, which an operation in place may change
        given = tree_map(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs))
        result = func(*args, **kwargs)
        if torch.Tag.inplace_view in func.tags:
            return result
        memory = {tensor.untyped_storage().data_ptr() for tensor in tensors_of(given)}
        made = [tensor.detach() if tensor.untyped_storage().data_ptr() not in memory else None for tensor in tensors_of(result)]
        self.operations.append((func, *given, made))
        return result

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, made in self.operations:
            for old, new in zip(made, tensors_of(func(*args, **kwargs)), strict=True):
                if old is not None:
                    old.copy_(new)


class RecorderOnCpu:
    """In the place of `devices.Recorder`."""

    def __init__(self, device):
        self.recordings = 0
        self.replays = 0

    @contextlib.contextmanager
    def aside(self):
        yield

    def record(self, function):
        with Recording() as recording:
            result = function()
        self.recordings += 1
        done = [True]  # recording was the first run

        def replay():
            self.replays += 1
            if done:
                done.pop()
            else:
                recording.replay()

        return result, replay
