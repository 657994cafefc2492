"""Running averages. Values may be tensors: they stay on their device until an average is read."""

from collections import defaultdict

import torch


class AverageMeter:
    """The latest value (`val`), the weighted sum, the count and the average (`avg`) of what it was given."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self._val = self._sum = 0.0
        self.count = self.latest_n = 0

    def put(self, total: float, count: float, val: float = 0.0) -> None:
        """Set sum and count, and the latest value."""
        self._sum, self.count, self._val = total, count, val

    def update(self, val: float | torch.Tensor, n: float = 1) -> None:
        """Take in `val`, the mean over `n` items; a tensor causes no synchronisation with its device."""
        if isinstance(val, torch.Tensor):
            val = val.detach().double() if val.device.type == "cpu" else val.detach().float()
        self._val = val
        self._sum = self._sum + val * n
        self.count += n
        self.latest_n = n

    @property
    def val(self) -> float:
        return float(self._val)

    @property
    def sum(self) -> float:
        return float(self._sum)

    @property
    def avg(self) -> float:
        return self.sum / self.count if self.count else 0.0


class MetricMeter:
    """One `AverageMeter` per name; `str()` gives `name value (average)` for each.

    >>> meter = MetricMeter()
    >>> meter.update({"loss": 2.0}); meter.update({"loss": 1.0})
    >>> str(meter)
    'loss 1.0000 (1.5000)'
    """

    def __init__(self, delimiter=" "):
        self.meters = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: dict[str, float | torch.Tensor] | None, n: float = 1) -> None:
        """Take in {name: value}; None is an empty one.

        Raises:
            TypeError: the argument is no dictionary.
        """
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError(f"expected a dictionary of metrics, got a {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value, n)

    def __str__(self):
        return self.delimiter.join(f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items())
