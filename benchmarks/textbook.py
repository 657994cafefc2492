"""Sample-specific masks in a plain loop, as the field writes it: what `throughput.py` compares with.

Images are decoded by PIL in the loader's workers in every epoch, the backbone is the library's module as it comes, the label
mapping takes a pass of its own, each step asks for its loss and accuracy, and every layer of the mask generator is a module.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder


def conv_block(width_in, width_out, pool):
    layers = [nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out), nn.ReLU()]
    return layers + ([nn.MaxPool2d(2)] if pool else [])


class Prompt(nn.Module):
    """x + upsampled mask(x) * pattern, with the five-layer mask generator and patches of 8 pixels."""

    def __init__(self, size):
        super().__init__()
        layers = conv_block(3, 8, True) + conv_block(8, 16, True) + conv_block(16, 32, True) + conv_block(32, 64, False)
        self.generator = nn.Sequential(*layers, nn.Conv2d(64, 3, 3, padding=1))
        self.pattern = nn.Parameter(torch.zeros(3, size, size))

    def forward(self, x):
        mask = self.generator(x)
        return x + mask.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3) * self.pattern


def frequent_mapping(predicted, labels, num_source, num_target):
    """The most frequent pair of source and target class, then the next among what is left, and so on."""
    counts = np.zeros((num_source, num_target))
    for source, target in zip(predicted.numpy(), labels.numpy(), strict=True):
        counts[source, target] += 1
    mapping = np.zeros(num_target, dtype=int)
    for _ in range(num_target):
        source, target = np.unravel_index(counts.argmax(), counts.shape)
        mapping[target] = source
        counts[source] = -1
        counts[:, target] = -1
    return torch.from_numpy(mapping)


class Textbook:
    """One run.

    Args:
        directory: with `train/<class>/*` and `test/<class>/*`.
        logits: the frozen network, (B, 3, S, S) -> (B, source).
        mean, std: the normalization that it wants.
        precision: "fp32", or what the loop is autocast to.
    """

    def __init__(self, directory, logits, size, mean, std, batch_size, workers, device, precision="fp32", flip=False):
        self.logits, self.device = logits, torch.device(device)
        margin = round(32 * min(size, 224) / 224)
        normalize = [transforms.ToTensor(), transforms.Normalize(mean, std)]
        augment = [transforms.Resize((size + margin, size + margin)), transforms.RandomCrop(size)]
        augment += [transforms.RandomHorizontalFlip()] if flip else []
        train = ImageFolder(f"{directory}/train", transforms.Compose(augment + normalize))
        test = ImageFolder(f"{directory}/test", transforms.Compose([transforms.Resize((size, size)), *normalize]))
        # Workers that stay: what starting them takes does not depend on the number of images. With new ones in each pass, the
        # process copies each page of memory that it had before and writes to, for seconds on a virtual machine
        options = {"num_workers": workers, "persistent_workers": workers > 0}
        options |= {"batch_size": batch_size, "pin_memory": self.device.type != "cpu"}
        self.train_loader = DataLoader(train, shuffle=True, **options)
        self.test_loader = DataLoader(test, shuffle=False, **options)
        self.num_target = len(train.classes)
        self.prompt = Prompt(size).to(self.device)
        self.optimizers = [
            torch.optim.Adam([self.prompt.pattern], lr=0.01),
            torch.optim.Adam(self.prompt.generator.parameters(), lr=0.01),
        ]
        self.mapping = None
        half = precision != "fp32"
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.autocast = torch.autocast(self.device.type, dtype=dtype, enabled=half)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")

    def map_labels(self):
        self.prompt.eval()
        predicted, labels = [], []
        for x, y in self.train_loader:
            with torch.no_grad(), self.autocast:
                logits = self.logits(self.prompt(x.to(self.device)))
            predicted.append(logits.argmax(dim=1).cpu())
            labels.append(y)
        self.mapping = frequent_mapping(torch.cat(predicted), torch.cat(labels), logits.shape[1], self.num_target)

    def train(self):
        """Returns the training accuracy in percent."""
        self.prompt.train()
        hits = count = total_loss = 0
        for x, y in self.train_loader:
            x, y = x.to(self.device), y.to(self.device)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            with self.autocast:
                logits = self.logits(self.prompt(x))[:, self.mapping]
                loss = F.cross_entropy(logits, y)
            self.scaler.scale(loss).backward()
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
            self.scaler.update()
            total_loss += loss.item() * len(y)
            hits += (logits.argmax(dim=1) == y).sum().item()
            count += len(y)
        return 100 * hits / count

    def test(self):
        """Returns the test accuracy in percent."""
        self.prompt.eval()
        hits = count = 0
        for x, y in self.test_loader:
            with torch.no_grad(), self.autocast:
                logits = self.logits(self.prompt(x.to(self.device)))[:, self.mapping]
            hits += (logits.argmax(dim=1).cpu() == y).sum().item()
            count += len(y)
        return 100 * hits / count

    def epoch(self):
        """Mapping, training, test; returns the test accuracy in percent."""
        self.map_labels()
        self.train()
        return self.test()
