"""Tip-Adapter-F: its formula, its first keys, and the search on validation images, against slow obvious forms."""

import pytest
import torch
from dassl_vr.trainers.tip_adapter_f import KeyCache, grid
from torch.nn import functional as F

from dassl_vr.cli.train import main

TIP = {"trainer": "TipAdapterF", "backbone": "tiny_clip"}


@pytest.fixture
def cache():
    """Three classes of which two have keys, four at most."""
    generator = torch.Generator().manual_seed(0)
    text, features = (F.normalize(torch.randn(n, 8, generator=generator), dim=-1) for n in (3, 6))
    head, labels = KeyCache(text, 100.0, 4, alpha=2.0, beta=1.5), torch.tensor([2, 0, 2, 2, 2, 2])
    head.fill(features, labels)
    return head, features, labels


def slow_logits(head, v, entries, alpha, beta):
    """One image and one key at a time; `entries` are (key, label)."""
    logits = [100.0 * sum(a * b for a, b in zip(v.tolist(), text.tolist())) for text in head.text]
    for key, label in entries:
        logits[label] += alpha * float(torch.exp(-beta * (1 - v @ key)))
    return logits


def test_logits_are_those_of_the_formula(cache):
    head, features, labels = cache
    entries = [(features[i], int(labels[i])) for i in (1, 0, 2, 3, 4)]  # the fifth of class 2 has no place
    generator = torch.Generator().manual_seed(1)
    images = F.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    expected = [slow_logits(head, v, entries, 2.0, 1.5) for v in images]
    assert torch.allclose(head(images), torch.tensor(expected), atol=1e-4)
    assert head.filled.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_an_empty_place_never_moves(cache):
    head, features, labels = cache
    F.cross_entropy(head(features), labels).backward()
    assert (head.keys.grad.abs().sum(dim=1) > 0).tolist() == head.filled.bool().tolist()


def test_the_grid_counts_what_each_pair_gets_right(cache):
    head, features, labels = cache
    alphas, betas = grid(30.0, 4), grid(5.0, 3)
    assert alphas == pytest.approx([0.1, 7.575, 15.05, 22.525]) and betas == pytest.approx([0.1, 1.7333333, 3.3666667])
    found = head.correct_on_grid(features, labels, alphas, betas)
    entries = [(key, place // 4) for place, key in enumerate(head.keys) if head.filled[place]]
    for row, beta in enumerate(betas):
        for column, alpha in enumerate(alphas):
            logits = torch.tensor([slow_logits(head, v, entries, alpha, beta) for v in features])
            assert int(found[row, column]) == int((logits.argmax(dim=1) == labels).sum())
    assert len(found.unique()) > 1


def test_a_key_starts_as_the_mean_of_its_images_versions(tmp_path, tiny_command, trainer_of):
    settings = ("INPUT.TRANSFORMS", "['random_resized_crop', 'normalize']", "TRAINER.TIPADAPTERF.KEY_VIEWS", "3")
    trainer = trainer_of(tiny_command(tmp_path, *settings, **TIP))
    trainer.before_train()
    trainer.close_writer()
    loader, sums = trainer.dm.train_loader_all, 0
    for version in (-3, -2, -1):
        loader.set_epoch(version)
        with torch.no_grad():
            sums = sums + torch.cat([trainer.model.backbone.features(batch["img"]) for batch in loader])
    keys, labels = F.normalize(sums, dim=-1), [item.label for item in trainer.dm.dataset.train_x]
    order = sorted(range(30), key=lambda index: labels[index])
    assert torch.allclose(trainer.model.head.keys, keys[order], atol=1e-5) and trainer.model.head.filled.all()


def test_factors_are_chosen_on_validation_images(tmp_path, tiny_command, trainer_of, monkeypatch):
    """After the last epoch, the first pair of the best; they are saved, and no other split is looked at for it."""
    search = ("TRAINER.TIPADAPTERF.SEARCH", "val", "TRAINER.TIPADAPTERF.SEARCH_STEPS", "(3, 4)")
    command = tiny_command(tmp_path / "run", *search, "TEST.TRAIN_GAP", "False", "TEST.VAL_CURVE", "False", **TIP)
    counts, sizes, original = [], [], KeyCache.correct_on_grid

    def watched(head, *arguments):
        sizes.append(len(arguments[0]))
        counts.append(original(head, *arguments))
        return counts[-1]

    monkeypatch.setattr(KeyCache, "correct_on_grid", watched)
    assert main(command) == 0
    state = torch.load(tmp_path / "run/cache/model.pth.tar-3", weights_only=True)["state_dict"]
    total, best = sum(counts), None
    for row, beta in enumerate(grid(7.0, 4)):
        for column, alpha in enumerate(grid(3.0, 3)):
            if best is None or total[row, column] > best[0]:
                best = int(total[row, column]), alpha, beta
    assert sum(sizes) == 30, "one pass over the validation images, as many as there are shots"
    assert (state["alpha"], state["beta"]) == pytest.approx(best[1:]) and best[1:] != (1.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["TRAINER.TIPADAPTERF.SEARCH", "test"], "TRAINER.TIPADAPTERF.SEARCH is 'test'; it takes one of none, val"),
        (["TRAINER.TIPADAPTERF.SEARCH", "val", "TEST.FINAL_MODEL", "best_val"], "it takes TEST.FINAL_MODEL last_step"),
        (["DATASET.NUM_SHOTS", "100000"], "DATASET.NUM_SHOTS is 100000"),
    ],
)
def test_settings_that_cannot_be_end_in_one_line(tmp_path, tiny_command, capsys, settings, words):
    assert main(tiny_command(tmp_path / "run", *settings, **TIP)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "run/results.json").exists()
