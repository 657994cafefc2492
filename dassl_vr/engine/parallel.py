"""One model trained by several processes, each on its part of every batch.

A process computes the mean loss over its own samples; a `StepShare` says what that counts in the mean over the whole batch.
What batch norms say of the batch is summed over the processes with these shares while the passes run, the gradients of the trained
parameters at the end of each backward pass, many in one message. So each process ends up with the gradient of the whole batch,
however a trainer goes about its losses, scalers and optimizers, and all take the same step.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from ..utils import distributed
from ..utils.checkpoint import trained_state
from ..utils.devices import in_double
from ..utils.distributed import StepShare

MESSAGE = 1 << 23  # values at least of which a further message of gradients begins


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, where each differentiates a mean loss of its own."""

    @staticmethod
    def forward(ctx, x, share):
        ctx.share = share.value
        return distributed.sum_(x.clone())

    @staticmethod
    def backward(ctx, gradient):
        return _in_own_terms(gradient, ctx.share), None


def _in_own_terms(gradient, share):
    """The gradient of the whole batch's mean loss, as if it were of this process's own loss: times its share it is that again."""
    total = _sum_of_shares(gradient, share)
    return total / share if share else torch.zeros_like(total)


def _sum_of_shares(gradient, share):
    """The gradient of the whole batch's mean loss, from that of this process's part."""
    return distributed.sum_((gradient * share).contiguous())


class _Synchronized:
    """Put in front of a batch-norm class: in training, mean and variance are those of the batches of all processes together.

    As torch's SyncBatchNorm, which works on GPUs only.
    """

    def forward(self, x):
        if not (self.training or self.running_mean is None):
            return super().forward(x)
        self._check_input_dim(x)
        dims = [dim for dim in range(x.dim()) if dim != 1]
        variance, mean = torch.var_mean(x.float(), dims, correction=0)  # (C,), (C,)
        count = x.numel() // x.shape[1]
        number, mean, variance = self.of_whole_batch(count, in_double(mean), in_double(variance))
        own = count * (self.step_share.value > 0)
        if own <= 1 and number <= 1 and self.running_mean is not None:  # of all processes, which then do the same
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        self._track(mean.detach(), variance.detach(), number.detach())
        shape = [1, -1] + [1] * (x.dim() - 2)
        scale, mean = (part.float().to(x.device).view(shape) for part in (torch.rsqrt(variance + self.eps), mean))
        y = (x - mean) * scale
        return y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y

    def of_whole_batch(
        self, count: int, mean: torch.Tensor, variance: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(values per channel (1,), their mean (C,), their variance (C,)) of the batch of all processes, from those of the part of
        this one. Summed in double precision, so that the difference of squares costs no digits; of the type that `mean` has."""
        wide, own = in_double(mean), count * (self.step_share.value > 0)  # a stand-in for an empty part does not count
        sums = torch.cat([wide.new_tensor([own]), own * wide, own * (in_double(variance) + wide**2)])
        number, sums = torch.split(_SumOverProcesses.apply(sums, self.step_share), [1, 2 * len(mean)])
        wide, square = (sums / number).chunk(2)
        return number.to(mean), wide.to(mean), (square - wide**2).to(mean)

    def gradient_of_whole_batch(self, gradient: torch.Tensor) -> torch.Tensor:
        """The sum over all processes of a gradient of each one's own loss, in terms of this process's own loss."""
        return _in_own_terms(gradient, self.step_share.value)

    @torch.no_grad()
    def _track(self, mean, variance, number):
        """Move the running statistics as torch's batch norm does."""
        if self.running_mean is None:
            return
        self.num_batches_tracked += 1
        pace = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), pace)
        self.running_var.lerp_((variance * number / (number - 1)).to(self.running_var), pace)


class _GradientSums:
    """Sums the gradients of parameters over the processes, at the end of each backward pass and before anybody sees them.

    Args:
        share: of this process in the current step.
    """

    def __init__(self, share):
        self.share = share
        self._own = []  # (parameter, its gradient before this pass, what this process adds) since the last sum

    def watch(self, parameter):
        """Sum the gradients of `parameter` from now on."""
        node = torch.autograd.graph.get_gradient_edge(parameter).node  # it adds to `parameter.grad`

        def hook(gradient):
            if not _is_added(node):
                return _sum_of_shares(gradient, self.share.value)
            before = None if parameter.grad is None else parameter.grad.clone()
            self._own.append((parameter, before, gradient))
            torch.autograd.Variable._execution_engine.queue_callback(self._sum)  # as DistributedDataParallel does
            return None

        parameter.register_hook(hook)

    @torch.no_grad()
    def _sum(self):
        own, self._own = self._own, []
        while own:  # a callback of each parameter: the first has done it for all
            message, kind = [], (own[-1][2].dtype, own[-1][2].device)
            while own and (own[-1][2].dtype, own[-1][2].device) == kind and sum(g.numel() for *_, g in message) < MESSAGE:
                message.append(own.pop())
            sizes = [gradient.numel() for _, _, gradient in message]
            flat = torch.cat([gradient.flatten() for _, _, gradient in message])
            parts = _sum_of_shares(flat, self.share.value).split(sizes)
            for (parameter, before, gradient), part in zip(message, parts, strict=True):
                total = part.view(gradient.shape)
                parameter.grad.copy_(total if before is None else before + total)


def _is_added(node):
    """Whether the running backward pass, one over the whole graph, adds a gradient to its parameter by `node`."""
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # in `torch.autograd.grad` or `backward(inputs=...)`: there may be no later moment
        return False


def synchronize_batch_norms(module: nn.Module, share: StepShare) -> None:
    """Make every batch norm in `module` see the whole batch in training. Its state dict stays what it was.

    The modules change their class in place, because they are parts of several modules at a time.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and not isinstance(part, (_Synchronized, nn.SyncBatchNorm)):
            part.__class__ = type(f"Synchronized{type(part).__name__}", (_Synchronized, type(part)), {})
        if isinstance(part, _Synchronized):
            part.step_share = share


def train_together(models: Iterable[nn.Module], share: StepShare) -> None:
    """Make the processes of this run train these modules as one.

    Args:
        models: modules that are the same on every process (the main process's are taken in any case).
        share: of this process in the current step; read while the backward pass runs.
    """
    seen, gradients = set(), _GradientSums(share)
    for model in models:
        synchronize_batch_norms(model, share)
        for tensor in trained_state(model).values():
            distributed.broadcast_(tensor)
        for p in model.parameters():
            if p.requires_grad and id(p) not in seen:
                seen.add(id(p))
                gradients.watch(p)
