"""One epoch's pass over the training batches: its numbers, and how far it has come."""

import datetime
import time

from tqdm import tqdm

from ..utils import distributed
from ..utils.meters import AverageMeter, MetricMeter
from ..utils.signals import asked, asked_anywhere
from .resume import save_resume_file, stop


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

    def state_dict(self):
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

    def load_state_dict(self, state):
        """Take what `state_dict` gave; the sums go to the main process, with whose numbers the others' are added up."""
        self.batches, self.position, self.seconds = state["batches"], state["position"], state["seconds"]
        if distributed.is_main():
            self.images = state["images"]
            for name, (total, count) in state["sums"].items():
                self.losses.meters[name].put(total, count)

    def overall(self):
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

    def run(self, trainer, batches, num_batches, loader, endless=False):
        """Train on the batches that are left.

        Args:
            batches: yields tuples of arguments for `forward_backward`, from `self.position` on.
            num_batches: of the whole epoch.
            loader: where the first argument comes from.
            endless: `batches` may go round `loader` several times.
        """
        batch_time, data_time = AverageMeter(), AverageMeter()
        end = time.monotonic()
        bar = tqdm(
            batches,
            total=num_batches,
            initial=self.batches,
            desc=f"epoch {trainer.epoch + 1}/{trainer.max_epoch}",
            disable=distributed.no_progress_bar(),
            leave=False,
        )
        for arguments in bar:
            count = getattr(loader, "real", len(arguments[0]["label"]))
            if not self._agree(trainer, count):
                continue  # none of its images can be read
            trainer.batch_idx = self.batches
            data_time.update(time.monotonic() - end)
            summary = trainer.forward_backward(*arguments)
            self.losses.update(summary, count)
            self.images += count
            self.batches += 1
            self.position = self.batches if endless else getattr(loader, "position", self.batches)
            batch_time.update(time.monotonic() - end)
            self.seconds += time.monotonic() - end
            frequency = trainer.cfg.TRAIN.PRINT_FREQ
            if self.batches % frequency == 0 or self.batches == num_batches or num_batches < frequency:
                self._show(trainer, num_batches, batch_time, data_time, tqdm.write if not bar.disable else print)
            self._save_or_stop(trainer, num_batches)
            end = time.monotonic()

    def record(self):
        """The numbers of the epoch, for its history."""
        images, *_ = distributed.sums(self.images)
        averages = {name: meter.avg for name, meter in self.overall().meters.items()}
        return {**averages, "images_per_second": images / self.seconds if self.seconds else 0.0}

    def _agree(self, trainer, count):
        """The samples of this step on all processes; ends the run here if any of them has been asked to."""
        total, ends = distributed.sums(count, asked() is not None)
        if ends:
            stop(trainer, asked_anywhere())
        if total:
            distributed.set_share(count, total)
        return total

    def _save_or_stop(self, trainer, num_batches):
        frequency = trainer.cfg.TRAIN.RESUME_BATCHES
        if asked() and not distributed.is_parallel():  # several processes agree before the next step
            stop(trainer, asked())
        if frequency and self.batches % frequency == 0 and self.batches < num_batches:
            trainer.check_before_saving()
            save_resume_file(trainer, trainer.output_dir)

    def _show(self, trainer, num_batches, batch_time, data_time, write):
        trainer.raise_if_anomaly()
        losses, rates = self.overall(), trainer.get_current_lrs()
        remaining = num_batches - self.batches + (trainer.max_epoch - trainer.epoch - 1) * num_batches
        eta = datetime.timedelta(seconds=int(batch_time.avg * remaining))
        write(
            f"epoch [{trainer.epoch + 1}/{trainer.max_epoch}] batch [{self.batches}/{num_batches}]"
            f" time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f})"
            f" {losses} lr {trainer.get_current_lr():.4e} eta {eta}"
        )
        step = trainer.epoch * num_batches + self.batches
        for name, meter in losses.meters.items():
            trainer.write_scalar(f"train/{name}", meter.avg, step)
        for name, lr in rates.items():
            trainer.write_scalar(f"train/lr/{name}", lr, step)
        images, *_ = distributed.sums(self.images)
        trainer.write_scalar("train/images_per_second", images / self.seconds, step)
