"""The linear discriminant against slow, obvious versions."""

import numpy as np
import pytest
import torch
from sklearn.covariance import OAS
from torch.nn import functional as F

from dassl_vr.reprogramming import MAPPING_REGISTRY
from dassl_vr.reprogramming.mappings import Words
from dassl_vr.reprogramming.mappings.discriminant import CONFIDENCE, FOLDS, discriminant, fit_discriminant

DiscriminantHead = MAPPING_REGISTRY.get("lda")
TextDiscriminantHead = MAPPING_REGISTRY.get("lda_text")


def samples(per_class=(30, 50, 40), size=8, apart=1.5, seed=0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(per_class)])
    means, mixing = torch.randn(len(per_class), size, generator=random), torch.randn(size, size, generator=random)
    features = 5 + apart * means[labels] + torch.randn(len(labels), size, generator=random) @ mixing
    order = torch.randperm(len(labels), generator=random)
    return features[order], labels[order]


def discriminant_slowly(features, labels, num_classes):
    """Of each class the linear part of minus half the squared Mahalanobis distance to its mean."""
    features, labels = features.numpy(), labels.numpy()
    means = np.stack([features[labels == label].mean(axis=0) for label in range(num_classes)])
    covariance = OAS(assume_centered=True).fit(features - means[labels]).covariance_
    rows = [np.linalg.solve(covariance, mean) for mean in means]
    return torch.tensor(np.stack(rows)), torch.tensor([-0.5 * row @ mean for row, mean in zip(rows, means, strict=True)])


@pytest.mark.parametrize("size", [8, 119, 121, 300])
def test_it_is_the_discriminant_with_shrunk_covariance(size):
    features, labels = samples(size=size)
    weight, bias = discriminant(features.double(), labels, 3, torch.ones(len(labels)).double())
    expected_weight, expected_bias = discriminant_slowly(features.double(), labels, 3)
    torch.testing.assert_close(weight, expected_weight)
    torch.testing.assert_close(bias, expected_bias)


def cross_validation(features, labels):
    """(logits of discriminants that have not seen them, features, labels), in double precision; the mean of all features is 0."""
    held_out, answers, seen = [], [], [0, 0, 0]
    folds = []
    for label in labels.tolist():
        folds.append(seen[label] % FOLDS)
        seen[label] += 1
    folds, centred, inputs = torch.tensor(folds), features.double() - features.double().mean(dim=0), []
    for fold in range(FOLDS):
        weight, bias = discriminant_slowly(centred[folds != fold], labels[folds != fold], 3)
        held_out.append(centred[folds == fold] @ weight.T + bias)
        answers.append(labels[folds == fold])
        inputs.append(features[folds == fold].double())
    return torch.cat(held_out), torch.cat(inputs), torch.cat(answers)


def smoothed(labels):
    targets = torch.full((len(labels), 3), 1 / (len(labels) + 3)).double()
    targets[range(len(labels)), labels] = (len(labels) + 1) / (len(labels) + 3)
    return targets


def test_its_temperature_is_the_best_of_cross_validation():
    features, labels = samples()
    held_out, _, answers = cross_validation(features, labels)
    centred = features.double() - features.double().mean(dim=0)
    log_shares = (torch.bincount(labels) / len(labels)).double().log()
    temperatures = torch.logspace(-3, 1, 64, dtype=torch.float64)
    best = min(temperatures, key=lambda t: F.cross_entropy(t * held_out + log_shares, smoothed(answers)).item())
    assert temperatures[0] < best < temperatures[-1]
    weight, bias = discriminant_slowly(centred, labels, 3)
    fitted_weight, fitted_bias = fit_discriminant(features, labels, 3)
    torch.testing.assert_close(fitted_weight, best * weight)
    expected = best * (centred @ weight.T + bias) + log_shares
    torch.testing.assert_close(features.double() @ fitted_weight.T + fitted_bias, expected)


@pytest.mark.parametrize("worth", [0.0, 0.3, 3.0])
def test_known_logits_are_added_as_cross_validation_finds_best(worth):
    features, labels = samples()
    random = torch.Generator().manual_seed(1)
    known = worth * fit_discriminant(features, labels, 3)[0] + torch.randn(3, 8, generator=random)
    held_out, inputs, answers = cross_validation(features, labels)
    log_shares = (torch.bincount(labels) / len(labels)).double().log()
    factors = torch.logspace(-3, 1, 64, dtype=torch.float64)
    losses = torch.stack([
        torch.stack([F.cross_entropy(t * held_out + a * inputs @ known.T + log_shares, smoothed(answers)) for t in factors])
        for a in factors
    ])  # fmt: skip
    share, temperature = (factors[index] for index in divmod(losses.argmin().item(), len(factors)))
    weight, bias = discriminant_slowly(features.double() - features.double().mean(dim=0), labels, 3)
    fitted_weight, fitted_bias = fit_discriminant(features, labels, 3, known)
    torch.testing.assert_close(fitted_weight, temperature * weight + share * known)
    logits = temperature * ((features.double() - features.double().mean(dim=0)) @ weight.T + bias)
    expected = logits + share * features.double() @ known.T + log_shares
    torch.testing.assert_close(features.double() @ fitted_weight.T + fitted_bias, expected)


def test_of_image_features_and_names_it_starts_with_both():
    features, labels = samples()
    features = 50 * F.normalize(features)  # as CLIP's, of the length of its scale
    names = F.normalize(torch.stack([features[labels == label].mean(dim=0) for label in range(3)]) - features.mean(dim=0))
    head = TextDiscriminantHead(8, 3)
    with pytest.raises(RuntimeError, match=r"call prepare\(words\) first"):
        head.solve(features, labels, trained=False)
    head.prepare(Words(["a", "b", "c"], [], lambda prompts: names[[ord(prompt[-1]) - ord("a") for prompt in prompts]], list, "abc"))
    head.solve(features, labels, trained=False)
    ordinary = features * (8**0.5 / 50)
    weight, bias = (part.float() for part in fit_discriminant(ordinary, labels, 3, 50 / 8**0.5 * names))
    torch.testing.assert_close(head(features), CONFIDENCE * F.linear(ordinary, weight, bias), atol=1e-4, rtol=1e-4)
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}
    other = TextDiscriminantHead(8, 3)
    other.load_state_dict(head.state_dict())  # needs no names
    assert torch.equal(other(features), head(features))


def test_of_several_views_the_names_are_compared_with_their_mean():
    names, features = F.normalize(torch.randn(3, 4), dim=1), torch.randn(5, 8)
    head = TextDiscriminantHead(8, 3)
    head.prepare(Words(["a", "b", "c"], [], lambda prompts: names, list, "abc"))
    torch.testing.assert_close(features @ head.text.T, (features[:, :4] + features[:, 4:]) / 2 @ names.T)


def test_classes_that_are_easily_told_apart_leave_it_as_sure_as_so_many_samples_can_make_it():
    features, labels = samples(apart=50)
    weight, bias = fit_discriminant(features, labels, 3)
    sureness = (features.double() @ weight.T + bias).softmax(dim=1).amax(dim=1)
    assert sureness.min() > 0.9 and sureness.mean() < 1 - 1e-4


@pytest.mark.parametrize("per_class", [(1, 1, 1), (2, 1, 1), (2, 2, 2), (0, 3, 4)])
def test_few_samples_are_told_apart(per_class):
    features, labels = samples(per_class, apart=20)
    weight, bias = fit_discriminant(features, labels, 3)
    assert torch.equal((features.double() @ weight.T + bias).argmax(dim=1), labels)


def test_equal_samples_of_a_class_are_told_apart():
    features, labels = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    weight, bias = fit_discriminant(features, labels, 3)
    assert torch.equal((features.double() @ weight.T + bias).argmax(dim=1), labels)


def test_it_starts_as_the_discriminant_and_ends_in_the_middle():
    (plain, labels), (prompted, _) = samples(), samples(apart=3)
    head = DiscriminantHead(8, 3)
    with pytest.raises(RuntimeError, match=r"call solve\(features, labels, trained=False\)"):
        head(plain)
    head.solve(plain, labels, trained=False)
    start = [CONFIDENCE * part.float() for part in fit_discriminant(plain, labels, 3)]
    torch.testing.assert_close(head(plain), F.linear(plain, *start))
    with torch.no_grad():  # a step of training
        head.linear.weight.add_(0.1)
    for _ in range(2):  # an interrupted run does it again
        head.solve(prompted, labels, trained=True)
    end = [part.float() for part in fit_discriminant(prompted, labels, 3)]
    expected = (F.linear(plain, start[0] + 0.1, start[1]) + F.linear(plain, *end)) / 2
    torch.testing.assert_close(head(plain), expected, atol=1e-4, rtol=1e-4)
    again = DiscriminantHead(8, 3)
    again.load_state_dict(head.state_dict())
    again.solve(plain, labels, trained=False)  # a run that starts from the weights of a finished one
    torch.testing.assert_close(again(plain), F.linear(plain, *start))
    other = DiscriminantHead(8, 3)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(plain), head(plain))
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}
