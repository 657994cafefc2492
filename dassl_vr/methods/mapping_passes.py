"""When a label mapping is computed, and from what."""

import torch
from tqdm import tqdm

from ..engine.resume import stoppable
from ..utils.distributed import broadcast_, is_main, is_parallel, no_progress_bar, sum_
from .image_features import of_training_images
from .prompt_learning import PromptLearning
from .words import words_of


class MappingPasses(PromptLearning):
    """A method with a label mapping `model.f_out`, which is computed when its `refresh` says.

    Asks for `dm.train_loader_all` and `dm.train_loader_plain` besides what `PromptLearning` asks.
    """

    def build_model(self) -> None:
        super().build_model()
        self.model.f_out.prepare(words_of(self))
        self._seen = None  # source logits of the batch in training, for MAPPING_PASS reuse
        self._reuses = self.options.MAPPING_PASS == "reuse" and self.model.f_out.refresh == "epoch"
        if self._reuses:
            self.model.f_out.register_forward_pre_hook(self._keep_source_logits)

    def _keep_source_logits(self, mapping, arguments):
        self._seen = arguments[0].detach()

    def before_epoch(self) -> None:
        mapping = self.model.f_out
        if self._reuses:
            if mapping.observed:
                self._update_mapping()
            else:  # before the first epoch, or in a run that began with exact passes
                self.refresh_mapping()
            mapping.reset()
        elif mapping.refresh == "epoch" or (mapping.refresh == "start" and self.epoch == 0):
            self.refresh_mapping()
        elif mapping.refresh == "ends" and self.epoch == 0:
            self.solve_mapping(trained=False)

    @torch.no_grad()
    def solve_mapping(self, trained: bool) -> None:
        """Compute the label mapping from all training images at once, without augmentation and with the current prompt."""
        self.set_model_mode("eval")
        mapping, backbone, f_in = self.model.f_out, self.model.backbone, self.model.f_in
        plain = self.dm.train_loader_plain
        logits = of_training_images(self, plain, lambda images: backbone.logits(f_in(images)), "label mapping")
        labels = self.training_labels()
        if self.cfg.DATASET.ON_BAD_IMAGE == "skip":
            read = logits.any(dim=1)  # the others could not be
            logits, labels = logits[read], labels[read]
        mapping.solve(logits, labels, trained)
        for part in mapping.state_dict().values():
            if part.is_floating_point():  # processors of different kinds may round differently
                broadcast_(part)

    @torch.inference_mode()
    def refresh_mapping(self) -> None:
        """Recompute the label mapping over all training samples with the current prompt, in evaluation mode."""
        self.set_model_mode("eval")
        mapping, backbone, f_in = self.model.f_out, self.model.backbone, self.model.f_in
        plain = mapping.refresh == "start" and self.options.MAPPING_ON == "plain"
        mapping.reset()
        bar = tqdm(self.dm.train_loader_all, desc="label mapping", disable=no_progress_bar(), leave=False)
        for batch in stoppable(self, bar, undo=mapping.forget):
            images, labels = self.parse_batch_test(batch)
            mapping.observe(backbone.logits(f_in.copies(images) if plain else f_in(images)), labels)
        self._update_mapping()

    def _update_mapping(self):
        """Compute the mapping from what all processes have observed."""
        mapping = self.model.f_out
        if is_parallel():
            mapping.load_observed({name: sum_(counts) for name, counts in mapping.observed.items()})
        mapping.update()

    def after_epoch(self) -> None:
        if self.model.f_out.refresh == "ends" and self.epoch + 1 == self.max_epoch:
            self.solve_mapping(trained=True)
        super().after_epoch()

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor]:
        summary = super().forward_backward(batch)
        seen = summary.pop("seen", None)
        if seen is not None and self.step_share.value > 0:  # not a stand-in for the empty part of a process
            self.model.f_out.observe(seen, self.parse_batch_train(batch)[1])
        return summary

    def train_step(self, batch: dict) -> dict[str, torch.Tensor]:
        summary = super().train_step(batch)
        return {**summary, "seen": self._seen} if self._reuses else summary

    def extra_state(self) -> dict[str, torch.Tensor]:
        # With `reuse`, what the next epoch's mapping is made of, of all processes
        observed = {name: sum_(counts.clone()) for name, counts in self.model.f_out.observed.items()}
        return {**super().extra_state(), **observed}

    def load_extra_state(self, state: dict[str, torch.Tensor]) -> None:
        super().load_extra_state(state)
        if self._reuses:  # the main process takes what all have seen
            self.model.f_out.load_observed({k: v if is_main() else torch.zeros_like(v) for k, v in state.items()})
