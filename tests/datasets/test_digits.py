from collections import Counter

import numpy as np
from sklearn.datasets import load_digits


def test_split_images_and_names(load):
    dataset = load("digits")
    assert dataset.classnames == [str(n) for n in range(10)]
    parts = (dataset.train_x, dataset.val, dataset.test)
    for part, share in zip(parts, (0.6, 0.1, 0.3)):
        assert abs(len(part) / 1797 - share) < 0.01
        for label, count in Counter(item.label for item in part).items():
            assert abs(count / (load_digits().target == label).sum() - share) < 0.02
    item = dataset.test[17]
    number = int(item.impath.rpartition("/")[2])
    image = np.asarray(item.read())
    assert image.shape == (8, 8, 3) and item.label == load_digits().target[number]
    assert np.array_equal(image[:, :, 0], np.round(load_digits().images[number] / 16 * 255))


def test_digits_are_not_mirrored(load):
    assert type(load("digits")).facts["FLIP"] is False
