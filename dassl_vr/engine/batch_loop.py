"""The loop over the training batches of an epoch, the only one."""

import datetime
import time
from collections.abc import Callable, Iterable

from tqdm import tqdm

from ..utils import distributed
from ..utils.logger import print_brief
from ..utils.meters import AverageMeter
from ..utils.signals import asked, asked_anywhere
from ..utils.text import in_time
from .charts import WORKINGS, on_curve
from .epoch_pass import EpochPass
from .resume import save_resume_file, stop

COLUMNS = 79  # of a line on the screen


class BatchLoop:
    """The part of a trainer that goes over batches: `forward_backward` and `after_batch` for each, `log_batch` now and then.

    Attributes:
        epoch_record: {name: value} of the current epoch, as it will be in `history`; the owner starts it.
    """

    def begin_progress(self) -> EpochPass:
        """A new `EpochPass`, at its first batch."""
        self.progress = EpochPass()
        return self.progress

    def run_batches(self, batches: Iterable, num_batches: int, endless: bool = False) -> None:
        """Train on the batches that are left of the current epoch.

        Args:
            batches: yields tuples of arguments for `forward_backward`, the first of them from `train_loader_x`, from
                `progress.position` on.
            num_batches: of the whole epoch.
            endless: `batches` may go round the loader several times.
        """
        self.set_model_mode("train")
        self.num_batches = num_batches
        loader, progress = self.train_loader_x, self.progress
        batch_time, data_time = AverageMeter(), AverageMeter()
        end = time.monotonic()
        bar = tqdm(
            batches,
            total=num_batches,
            initial=progress.batches,
            desc=f"epoch {self.epoch + 1}/{self.max_epoch}",
            disable=distributed.no_progress_bar(),
            leave=False,
        )
        write = tqdm.write if not bar.disable else print
        for arguments in bar:
            count = getattr(loader, "real", len(arguments[0]["label"]))
            if not self._agree(count):
                continue  # none of its images can be read
            self.batch_idx = progress.batches
            data_time.update(time.monotonic() - end)
            summary = self.forward_backward(*arguments)
            seconds = time.monotonic() - end
            progress.add(summary, count, seconds, None if endless else getattr(loader, "position", None))
            batch_time.update(seconds)
            frequency = self.cfg.TRAIN.PRINT_FREQ
            if progress.batches % frequency == 0 or progress.batches == num_batches or num_batches < frequency:
                self.log_batch(batch_time, data_time, write)
            self.after_batch()
            end = time.monotonic()
        self.epoch_record.update(progress.record())

    def log_batch(self, batch_time: AverageMeter, data_time: AverageMeter, write: Callable = print) -> None:
        """Print a line about the current batch, in the log in the family's format, and write its numbers to TensorBoard."""
        self.raise_if_anomaly()
        progress, num_batches = self.progress, self.num_batches
        losses, rates = progress.overall(), self.get_current_lrs()
        remaining = num_batches - progress.batches + (self.max_epoch - self.epoch - 1) * num_batches
        left = int(batch_time.avg * remaining)
        place, lr = f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{progress.batches}/{num_batches}]", self.get_current_lr()
        full = (
            f"{place} time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f})"
            f" {losses} lr {lr:.4e} eta {datetime.timedelta(seconds=left)}"
        )
        averages = [f"{name} {meter.avg:.4g}" for name, meter in losses.meters.items()]
        print_brief(_fitted(place, [*averages, f"lr {lr:.1e}"], f"eta {in_time(left)}"), full, write)
        step = self.epoch * num_batches + progress.batches
        step, frequency = self.epoch * num_batches + progress.batches, self.cfg.TRAIN.PRINT_FREQ
        if not on_curve(step, 1 if num_batches < frequency else frequency, self.max_epoch * num_batches):
            return
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, step)
        for name, lr in rates.items():
            self.write_scalar(f"{WORKINGS}/lr/{name}", lr, step)
        images, *_ = distributed.sums(progress.images)
        self.write_scalar(f"{WORKINGS}/images_per_second", images / progress.seconds, step)

    def after_batch(self) -> None:
        """End the run here if it was asked to, or save it if a file within the epoch is due (TRAIN.RESUME_BATCHES)."""
        frequency = self.cfg.TRAIN.RESUME_BATCHES
        if asked() and not distributed.is_parallel():  # several processes agree before the next step
            stop(self, asked())
        if frequency and self.progress.batches % frequency == 0 and self.progress.batches < self.num_batches:
            self.check_before_saving()
            save_resume_file(self, self.output_dir)

    def _agree(self, count):
        """The samples of this step on all processes; ends the run here if any of them has been asked to."""
        total, ends = distributed.sums(count, asked() is not None)
        if ends:
            stop(self, asked_anywhere())
        if total:
            self.step_share.set(count, total)
        return total


def _fitted(begin, parts, end):
    """`begin`, those of `parts` that there is room for, and `end`, as one line."""
    for part in parts:
        if len(f"{begin} {part} {end}") <= COLUMNS:
            begin = f"{begin} {part}"
    return f"{begin} {end}"
