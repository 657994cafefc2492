"""What reads sentences about the classes (CLIP): AttrVR's, DVP's and RVP's ways to make class logits of the sentences' logits."""

import torch
from torch import nn
from yacs.config import CfgNode

from ...utils.devices import in_double
from .base import EMBEDDING, MAPPING_REGISTRY, Words
from .counted import Counted
from .of_words import OfWords


class Described(OfWords):
    """Base: a CLIP's image features (B, D), of the length of its scale, times the features of sentences about the classes.

    Of an f_in with several views, each sentence is compared with the features of one view: the sentences are grouped, one group a
    view. The sentences' features and groups are part of the state, so that the sentences themselves are needed for training only.

    Args:
        num_source: views * D.
        num_target: C.
        sentences: in a bank, per class.
        banks: kinds of sentences: descriptive and distinctive ones, in the published order.
        views: of an image.
        views_by: how sentences are grouped. Options: clusters (k-means of their features), files (one bank a view).

    Attributes:
        default_banks: how many of the banks that come with a data set are read.
    """

    reads = EMBEDDING
    default_banks = 2

    def __init__(
        self,
        num_source: int,
        num_target: int,
        sentences: int = 20,
        banks: int = 1,
        views: int = 1,
        views_by: str = "clusters",
    ):
        if min(sentences, banks) < 1:
            raise ValueError(f"{sentences} sentences in {banks} banks: expected at least one each; change SENTENCES")
        number = num_target * banks * sentences
        if views_by not in ("clusters", "files"):
            raise ValueError(f"VIEWS_BY is '{views_by}', expected clusters or files")
        if views > 1 and views_by == "files" and banks != views:
            raise ValueError(f"VIEWS_BY files with {banks} files for {views} views; expected one file a view in DESCRIPTIONS")
        if views > number:
            raise ValueError(f"{views} views for {number} sentences; expected as many sentences or more")
        super().__init__(num_source, num_target)
        self.sentences, self.banks, self.views, self.views_by = sentences, banks, views, views_by
        self.register_buffer("text", torch.zeros(number, num_source // views))
        if views > 1:
            self.register_buffer("view_of", torch.zeros(number, dtype=torch.int64))

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        # attrvr, rvp, dvp: files with sentences about the classes, {class: [sentences]} in JSON, descriptive ones and, if there is
        # a second, distinctive ones; () = those that come with the data set, or that `prepare --descriptions` fetches (of which dvp
        # reads the descriptive ones alone)
        node.DESCRIPTIONS = ()
        # attrvr, rvp, dvp: sentences that are drawn per class from each file
        node.SENTENCES = 20
        # attrvr, rvp, dvp, with a METHOD that makes several views of an image: how sentences are grouped, a group for each view.
        # Options: clusters (k-means of their features), files (a file of DESCRIPTIONS for each view)
        node.VIEWS_BY = "clusters"
        # attrvr, dvp: how many of a class's best sentences count
        node.NEAREST = 3

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "Described":
        """Further arguments that `more_from` gives are passed on."""
        banks = len(options.DESCRIPTIONS) or cls.default_banks
        more = cls.more_from(options)
        return cls(num_source, num_target, options.SENTENCES, banks, views=options.VIEWS, views_by=options.VIEWS_BY, **more)

    @staticmethod
    def more_from(options: CfgNode) -> dict[str, object]:
        """Arguments of a subclass's own; none by default."""
        return {}

    def prepare(self, words: Words) -> None:
        banks = words.descriptions()[: self.banks]
        if [len(sentences) for bank in banks for sentences in bank] != [self.sentences] * (self.banks * self.num_target):
            raise ValueError(f"expected {self.banks} banks with {self.sentences} sentences for each of {self.num_target} classes")
        super().prepare(words)
        # class by class, in a class bank by bank
        texts = [sentence for of_class in zip(*banks) for sentences in of_class for sentence in sentences]
        self.text.copy_(words.encode(texts))
        if self.views > 1:
            self.view_of.copy_(self._groups())

    def _groups(self):
        """(sentences,) the view that each sentence is for."""
        if self.views_by == "files":
            numbers = torch.arange(len(self.text), device=self.text.device)
            return numbers // self.sentences % self.banks
        from sklearn.cluster import KMeans  # here: slow to import

        clusters = KMeans(self.views, random_state=0).fit(self.text.cpu().numpy())  # as published
        return torch.from_numpy(clusters.labels_)

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of target classes and of sentences."""
        return self.num_target, len(self.text)

    def _is_prepared(self):
        return bool(self.text.any())

    def weights(self) -> torch.Tensor:
        """(sentences, views * D): the features of each sentence in the place of its view, zeros in the others."""
        self._check_prepared()
        if self.views == 1:
            return self.text
        mine = self.view_of[:, None] == torch.arange(self.views, device=self.text.device)
        return (mine[:, :, None] * self.text[:, None]).flatten(1)

    def of_sentences(self, x: torch.Tensor) -> torch.Tensor:
        """(B, views * D) -> (B, C * banks * sentences) logits of the sentences: `x @ weights().T` without multiplying zeros."""
        self._check_prepared()
        if self.views == 1:
            return x @ self.text.T
        of_views = x.unflatten(1, (self.views, -1)) @ self.text.T  # (B, views, sentences)
        return of_views.gather(1, self.view_of.expand(x.shape[0], 1, -1))[:, 0]


@MAPPING_REGISTRY.register(name="attrvr")
class AttrVr(Described):
    """The mean of the k best of a class's sentences, descriptive and distinctive ones apart, then balanced (AttrVR, Cai et al.,
    ICLR 2025).

    Args:
        nearest: k.
        balance: weight of the first bank where there are two, the lambda of the paper.
    """

    def __init__(
        self,
        num_source: int,
        num_target: int,
        sentences: int = 20,
        banks: int = 1,
        nearest: int = 3,
        balance: float = 0.5,
        **views: object,
    ):
        super().__init__(num_source, num_target, sentences, banks, **views)
        if not 1 <= nearest <= sentences:
            raise ValueError(f"NEAREST is {nearest}, expected 1 to {sentences}, the number of SENTENCES")
        if not 0 <= balance <= 1 or banks > 2:
            raise ValueError(f"BALANCE is {balance} between {banks} files; expected 0 to 1, and one or two files")
        self.nearest, self.balance = nearest, balance

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        Described.add_keys(node)
        # attrvr: weight of the descriptive sentences against the distinctive ones
        node.BALANCE = 0.5

    @staticmethod
    def more_from(options: CfgNode) -> dict[str, object]:
        return {"nearest": options.NEAREST, "balance": options.BALANCE}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.of_sentences(x).unflatten(1, (self.num_target, self.banks, self.sentences))
        means = logits.topk(self.nearest, dim=-1).values.mean(dim=-1)  # (B, C, banks)
        if self.banks == 1:
            return means[..., 0]
        return self.balance * means[..., 0] + (1 - self.balance) * means[..., 1]


class SentenceShares(Counted):
    """How often each sentence of a class is among the k nearest to a training image of the class: DVP's reweighting matrix, whose
    entries between a class and sentences about another are zeros.

    Args:
        num_sentences: M, per class.
        num_target: C.
        nearest: k.
    """

    def __init__(self, num_sentences: int, num_target: int, nearest: int):
        super().__init__(num_sentences, num_target)
        self.nearest = nearest
        self.register_buffer("shares", torch.zeros(num_sentences, num_target))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:  # (B, C, M) -> (B, C)
        self._check_computed()
        return (logits * self.shares.T).sum(dim=-1)

    def sources(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:  # (B, C, M) -> (B, k)
        return logits[torch.arange(len(labels), device=labels.device), labels].topk(self.nearest, dim=-1).indices

    def update(self) -> None:
        counts = in_double(self._take_counts())
        sums = counts.sum(dim=0)  # a class without images has equal shares
        self.shares.copy_(torch.where(sums > 0, counts / sums.clamp(min=1), 1 / len(counts)))

    def _is_computed(self):
        return bool(self.shares.any())


@MAPPING_REGISTRY.register(name="dvp")
class Reweighted(Described):
    """A class's sentences weighed by how often each is among the k nearest to a training image of the class (DVP, Cai et al.,
    ICML 2025).

    Args:
        nearest: k.
    """

    refresh = "epoch"
    default_banks = 1

    def __init__(self, num_source: int, num_target: int, sentences: int = 20, banks: int = 1, nearest: int = 3, **views: object):
        super().__init__(num_source, num_target, sentences, banks, **views)
        if not 1 <= nearest <= banks * sentences:
            raise ValueError(f"NEAREST is {nearest}, expected 1 to {banks * sentences}, the number of sentences per class")
        self.matrix = SentenceShares(banks * sentences, num_target, nearest)

    @staticmethod
    def more_from(options: CfgNode) -> dict[str, object]:
        return {"nearest": options.NEAREST}

    def of_classes(self, x: torch.Tensor) -> torch.Tensor:
        """(B, views * D) -> (B, C, banks * sentences) logits of the sentences."""
        return self.of_sentences(x).unflatten(1, (self.num_target, -1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.matrix(self.of_classes(x))

    def reset(self) -> None:
        self.matrix.reset()

    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.matrix.observe(self.of_classes(logits), labels)

    def forget(self) -> None:
        self.matrix.forget()

    def update(self) -> None:
        self.matrix.update()

    @property
    def observed(self) -> dict[str, torch.Tensor]:
        return self.matrix.observed

    def load_observed(self, state: dict[str, torch.Tensor]) -> None:
        self.matrix.load_observed(state)


@MAPPING_REGISTRY.register(name="rvp")
class Reparameterized(Described):
    """z = f (I + E), f a class's sentences weighed by softmax(P); P and E are trained (RVP, Li et al. 2026).

    In evaluation it is one linear layer, `head`, on the image features.
    """

    def __init__(self, num_source: int, num_target: int, sentences: int = 20, banks: int = 1, **views: object):
        super().__init__(num_source, num_target, sentences, banks, **views)
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
        """(views * D, C) weights that image features are multiplied with."""
        text = self.weights().unflatten(0, self.P.shape)  # (C, M, views * D)
        classes = torch.einsum("cm,cmd->dc", self.P.softmax(dim=1), text)
        return classes + classes @ self.E

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x @ self.head()
        logits = self.of_sentences(x).unflatten(1, self.P.shape)  # (B, C, M)
        classes = (logits * self.P.softmax(dim=1)).sum(dim=-1)
        return classes + classes @ self.E
