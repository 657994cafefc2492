"""What is tested after an epoch: the validation images, which may choose a model, and curves, which choose nothing."""

import contextlib
import time

from ..utils.checkpoint import BEST_MODEL
from ..utils.seeding import get_random_states, set_random_states


def curve_key(split: str) -> str:
    """The entry of an epoch's history that holds its accuracy on `split`, in percent."""
    return f"{split}_accuracy"


class EpochTests:
    """The part of a trainer that tests between epochs. The time that it takes is no training time."""

    def validate_and_keep_best(self) -> None:
        """Test on the splits that are due (TEST.VAL_FREQ) and note their accuracy in the history; keep the best model by validation
        if it is wanted (TEST.FINAL_MODEL)."""
        cfg = self.cfg
        last = self.epoch + 1 == self.max_epoch
        if cfg.TEST.NO_TEST or not (last or (self.epoch + 1) % cfg.TEST.VAL_FREQ == 0):
            return
        began = time.monotonic()
        if cfg.TEST.FINAL_MODEL == "best_val":
            result = self._test_epoch("val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST_MODEL)
        elif cfg.TEST.VAL_CURVE and getattr(self, "val_loader", None) is not None:
            with _draws_unchanged():
                self._test_epoch("val")
        if cfg.TEST.TEST_CURVE:
            if self.epoch == self.start_epoch:
                print("The test set after each epoch is for a curve only: it selects nothing (TEST.TEST_CURVE)")
            with _draws_unchanged():
                self._test_epoch("test")
        self._epoch_start += time.monotonic() - began

    def _test_epoch(self, split):
        self.evaluator.brief = f"  {split}"
        try:
            result = self.test(split=split)
        finally:
            self.evaluator.brief = ""
        for name, value in self.results.get(split, {}).items():
            self.write_scalar(f"{split}/{name}", value, self.steps_done())
        if result is not None:  # a trainer of the family may return none
            self.epoch_record[curve_key(split)] = float(result)
        return result


@contextlib.contextmanager
def _draws_unchanged():
    """Whatever a trainer, or loaders of its own, draw inside: training continues with the numbers that it would have had."""
    states = get_random_states()
    try:
        yield
    finally:
        set_random_states(states)
