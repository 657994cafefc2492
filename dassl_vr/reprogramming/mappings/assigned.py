"""Each target class reads one source class of its own: Rlm, Flm, Ilm."""

import torch
from yacs.config import CfgNode

from ..assignment import check_classes, greedy_assignment
from .base import MAPPING_REGISTRY
from .chosen import Chosen, CountedChoice


class OneToOne(Chosen):
    """Each target class reads the logit of one source class of its own: `source_index` (target,), -1 = not known yet."""

    def __init__(self, num_source: int, num_target: int):
        check_classes(num_source, num_target)
        super().__init__(num_source, num_target, (num_target,))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_select(1, self.source_index)

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        return [(target, source, 1.0) for target, source in enumerate(self.source_index.tolist())]


@MAPPING_REGISTRY.register(name="rlm")
class Rlm(OneToOne):
    """Random label mapping: each target class reads a source class of its own, drawn once from `seed`.

    Raises:
        ValueError: there are more target than source classes.
    """

    def __init__(self, num_source: int, num_target: int, seed: int = 0):
        super().__init__(num_source, num_target)
        generator = torch.Generator().manual_seed(seed)
        self.source_index.copy_(torch.randperm(num_source, generator=generator)[:num_target])

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "Rlm":
        return cls(num_source, num_target, options.SEED)


@MAPPING_REGISTRY.register(name="flm")
class Flm(CountedChoice, OneToOne):
    """Frequent label mapping: `greedy_assignment` on the counts of `observe`, once before training.

    Used as `Ilm`.

    Raises:
        ValueError: there are more target than source classes.
        RuntimeError: as of `Ilm`.
    """

    def update(self) -> None:
        self.source_index.copy_(greedy_assignment(self._take_counts()))


@MAPPING_REGISTRY.register(name="ilm")
class Ilm(Flm):
    """Iterative label mapping (Chen et al. 2023): the frequent one, anew before every epoch with the current f_in.

    (B, num_source) logits -> (B, num_target). Before each epoch `reset`, `observe` the logits and labels of every batch, `update`.
    A whole training loop, SMM in front of a model of torchvision::

        import torch
        from sklearn.datasets import load_digits
        from torch.nn.functional import cross_entropy, interpolate
        from torchvision.models import resnet18
        from dassl_vr.reprogramming import Ilm, SampleSpecificMask

        digits = load_digits()  # 1,797 images of 8 x 8, values 0 to 16; below (N, 3, 64, 64), roughly normalized
        images = interpolate(torch.tensor(digits.images[:, None]).float() / 4 - 2, 64).expand(-1, 3, -1, -1)
        loader = torch.utils.data.DataLoader(list(zip(images, digits.target)), batch_size=64, shuffle=True)
        classifier = resnet18(weights="IMAGENET1K_V1").eval().requires_grad_(False)  # downloads 45 MB, once
        f_in, f_out = SampleSpecificMask(size=64), Ilm(num_source=1000, num_target=10)
        optimizer = torch.optim.Adam(f_in.parameters(), lr=0.01)
        for epoch in range(8):
            f_in.eval()
            f_out.reset()
            with torch.no_grad():
                for x, y in loader:  # (B, 3, 64, 64), (B,)
                    f_out.observe(classifier(f_in(x)), y)
            f_out.update()  # each digit now reads the ImageNet class that its images fall on
            f_in.train()
            for x, y in loader:
                optimizer.zero_grad()
                cross_entropy(f_out(classifier(f_in(x))), y).backward()
                optimizer.step()
        f_in.eval()
        predicted = f_out(classifier(f_in(images[:8]))).argmax(dim=1)  # (8,)

    Raises:
        ValueError: there are more target than source classes.
        RuntimeError: `forward` before the first `update`, `observe` or `update` before `reset`.
    """

    refresh = "epoch"
