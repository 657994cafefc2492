"""How far an epoch's pass over the training batches has come, and its numbers."""

from ..utils import distributed
from ..utils.meters import MetricMeter


class EpochPass:
    """The pass of a `SimpleTrainer` over one epoch's batches.

    Attributes:
        batches: how many are done.
        position: where the loader continues; beyond `batches` if some had no image that can be read.
        losses: a `MetricMeter` of what `forward_backward` returned, of this process's samples.
    """

    def __init__(self):
        self.batches = self.position = self.images = 0
        self.seconds = 0.0
        self.losses = MetricMeter()

    def state_dict(self) -> dict:
        """What an interrupted pass continues from, of all processes together."""
        images, *_ = distributed.sums(self.images)
        sums = {name: (meter.sum, meter.count) for name, meter in self.overall().meters.items()}
        return {
            "batches": self.batches,
            "position": self.position,
            "images": int(images),
            "seconds": self.seconds,
            "sums": sums,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take what `state_dict` gave; the sums go to the main process, with whose numbers the others' are added up."""
        self.batches, self.position, self.seconds = state["batches"], state["position"], state["seconds"]
        if distributed.is_main():
            self.images = state["images"]
            for name, (total, count) in state["sums"].items():
                self.losses.meters[name].put(total, count)

    def overall(self) -> MetricMeter:
        """A `MetricMeter` over the samples of all processes."""
        if not distributed.is_parallel():
            return self.losses
        # A process without a sample in all its steps so far may have none of the meters that others have
        names = dict.fromkeys(name for names in distributed.gather_values(list(self.losses.meters)) for name in names)
        result = MetricMeter()
        for name in names:
            meter = self.losses.meters[name]
            latest, weight, total, count = distributed.sums(meter.val * meter.latest_n, meter.latest_n, meter.sum, meter.count)
            result.meters[name].put(total, int(count), latest / weight if weight else 0.0)
        return result

    def add(self, summary: dict | None, count: int, seconds: float, position: int | None = None) -> None:
        """One more batch.

        Args:
            summary: what `forward_backward` returned, of `count` samples of this process.
            position: where the loader continues; None = after as many batches as are done.
        """
        self.losses.update(summary, count)
        self.images += count
        self.batches += 1
        self.position = self.batches if position is None else position
        self.seconds += seconds

    def record(self) -> dict:
        """The numbers of the epoch, for its history."""
        images, *_ = distributed.sums(self.images)
        averages = {name: meter.avg for name, meter in self.overall().meters.items()}
        return {**averages, "images_per_second": images / self.seconds if self.seconds else 0.0}
