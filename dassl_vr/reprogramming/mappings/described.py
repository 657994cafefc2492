"""What reads sentences about the classes (CLIP): AttrVR's, DVP's and RVP's ways to make class logits of the sentences' logits."""

import torch
from torch import nn
from yacs.config import CfgNode

from .base import EMBEDDING, MAPPING_REGISTRY, Words
from .blm import Blm
from .of_words import OfWords


class Described(OfWords):
    """Base: a CLIP's image features (B, D), of the length of its scale, times the features of sentences about the classes.

    The sentences' features are part of the state, so that the sentences themselves are needed for training only.

    Args:
        num_source: D.
        num_target: C.
        sentences: in a bank, per class.
        banks: kinds of sentences: descriptive and distinctive ones, in the published order.
    """

    reads = EMBEDDING

    def __init__(self, num_source: int, num_target: int, sentences: int = 20, banks: int = 1):
        if min(sentences, banks) < 1:
            raise ValueError(f"{sentences} sentences in {banks} banks: expected at least one each; change SENTENCES")
        super().__init__(num_source, num_target)
        self.sentences, self.banks = sentences, banks
        self.register_buffer("text", torch.zeros(num_target * banks * sentences, num_source))

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        # attrvr, rvp, dvp: files with sentences about the classes, {class: [sentences]} in JSON, descriptive ones and, if there is
        # a second, distinctive ones; () = those that come with the data set, or that `prepare --descriptions` fetches
        node.DESCRIPTIONS = ()
        # attrvr, rvp, dvp: sentences that are drawn per class from each file
        node.SENTENCES = 20

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "Described":
        return cls(num_source, num_target, options.SENTENCES, len(options.DESCRIPTIONS) or 2)

    def prepare(self, words: Words) -> None:
        banks = words.descriptions()
        if [len(sentences) for bank in banks for sentences in bank] != [self.sentences] * (self.banks * self.num_target):
            raise ValueError(f"expected {self.banks} banks with {self.sentences} sentences for each of {self.num_target} classes")
        super().prepare(words)
        # class by class, in a class bank by bank
        texts = [sentence for of_class in zip(*banks) for sentences in of_class for sentence in sentences]
        self.text.copy_(words.encode(texts))

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of target classes and of sentences."""
        return self.num_target, len(self.text)

    def _is_prepared(self):
        return bool(self.text.any())

    def of_sentences(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, C * banks * sentences) logits of the sentences."""
        self._check_prepared()
        return x @ self.text.T


@MAPPING_REGISTRY.register(name="attrvr")
class AttrVr(Described):
    """The mean of the k best of a class's sentences, descriptive and distinctive ones apart, then balanced (AttrVR, Cai et al.,
    ICLR 2025).

    Args:
        nearest: k.
        balance: weight of the first bank where there are two, the lambda of the paper.
    """

    def __init__(
        self, num_source: int, num_target: int, sentences: int = 20, banks: int = 1, nearest: int = 3, balance: float = 0.5
    ):
        super().__init__(num_source, num_target, sentences, banks)
        if not 1 <= nearest <= sentences:
            raise ValueError(f"NEAREST is {nearest}, expected 1 to {sentences}, the number of SENTENCES")
        if not 0 <= balance <= 1 or banks > 2:
            raise ValueError(f"BALANCE is {balance} between {banks} files; expected 0 to 1, and one or two files")
        self.nearest, self.balance = nearest, balance

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        Described.add_keys(node)
        # attrvr: how many of a class's best sentences count
        node.NEAREST = 3
        # attrvr: weight of the descriptive sentences against the distinctive ones
        node.BALANCE = 0.5

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "AttrVr":
        banks = len(options.DESCRIPTIONS) or 2
        return cls(num_source, num_target, options.SENTENCES, banks, options.NEAREST, options.BALANCE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.of_sentences(x).unflatten(1, (self.num_target, self.banks, self.sentences))
        means = logits.topk(self.nearest, dim=-1).values.mean(dim=-1)  # (B, C, banks)
        if self.banks == 1:
            return means[..., 0]
        return self.balance * means[..., 0] + (1 - self.balance) * means[..., 1]


@MAPPING_REGISTRY.register(name="dvp")
class Reweighted(Described):
    """Logits of all sentences times a matrix of probabilities, counted on the training images: Blm on sentences (DVP, Cai et al.
    2025)."""

    refresh = "epoch"

    def __init__(self, num_source: int, num_target: int, sentences: int = 20, banks: int = 1):
        super().__init__(num_source, num_target, sentences, banks)
        self.blm = Blm(num_target * banks * sentences, num_target)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blm(self.of_sentences(x))

    def reset(self) -> None:
        self.blm.reset()

    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.blm.observe(self.of_sentences(logits), labels)

    def forget(self) -> None:
        self.blm.forget()

    def update(self) -> None:
        self.blm.update()

    @property
    def observed(self) -> dict[str, torch.Tensor]:
        return self.blm.observed

    def load_observed(self, state: dict[str, torch.Tensor]) -> None:
        self.blm.load_observed(state)


@MAPPING_REGISTRY.register(name="rvp")
class Reparameterized(Described):
    """z = f (I + E), f a class's sentences weighed by softmax(P); P and E are trained (RVP, Li et al. 2026).

    In evaluation it is one linear layer, `head`, on the image features.
    """

    def __init__(self, num_source: int, num_target: int, sentences: int = 20, banks: int = 1):
        super().__init__(num_source, num_target, sentences, banks)
        self.P = nn.Parameter(torch.zeros(num_target, banks * sentences))
        self.E = nn.Parameter(torch.zeros(num_target, num_target))

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        Described.add_keys(node)
        # rvp: learning rate of its matrices; the prompt's is OPTIM.LR
        node.MATRIX_LR = 0.001

    def optim(self, options: CfgNode) -> dict[str, object]:
        return {"LR": options.MATRIX_LR}

    def head(self) -> torch.Tensor:
        """(D, C) weights that image features are multiplied with."""
        self._check_prepared()
        text = self.text.unflatten(0, self.P.shape)  # (C, M, D)
        classes = torch.einsum("cm,cmd->dc", self.P.softmax(dim=1), text)
        return classes + classes @ self.E

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x @ self.head()
        logits = self.of_sentences(x).unflatten(1, self.P.shape)  # (B, C, M)
        classes = (logits * self.P.softmax(dim=1)).sum(dim=-1)
        return classes + classes @ self.E
