"""What the f_outs share that are made of words: names of classes, or sentences about them."""

from .base import LabelMapping, Words


class OfWords(LabelMapping):
    """Is used after `prepare`, or with the state of one that was.

    Raises:
        RuntimeError: it is used before.
    """

    def __init__(self, num_source: int, num_target: int, *more: int):
        super().__init__(num_source, num_target, *more)
        self.prepared = False

    def prepare(self, words: Words) -> None:
        self.prepared = True

    def _load_from_state_dict(self, *arguments, **options):
        super()._load_from_state_dict(*arguments, **options)
        self.prepared = self._is_prepared()

    def _is_prepared(self):
        """Whether the state is one that `prepare` made; waits for the device."""
        raise NotImplementedError

    def _check_prepared(self):
        if not self.prepared:
            raise RuntimeError(f"{type(self).__name__}: call prepare(words) first, or load the state of one that was prepared")
