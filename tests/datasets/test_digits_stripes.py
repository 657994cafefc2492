import numpy as np
from dassl_vr.datasets.digits import halves


def number(item):
    return item.impath.rpartition("/")[2]


def test_training_images_are_the_half_that_the_small_clip_never_saw(load):
    digits, striped = load("digits"), load("digits_stripes")
    seen, unseen = ({number(item) for item in half} for half in halves(digits.train_x))
    assert {number(item) for item in striped.train_x} == unseen
    assert not seen & unseen and len(seen) + len(unseen) == len(digits.train_x)
    for part in ("val", "test"):
        assert [number(item) for item in getattr(striped, part)] == [number(item) for item in getattr(digits, part)]
    assert striped.classnames == digits.classnames


def test_stripes_lie_over_the_digit_and_differ_from_image_to_image(load):
    digits, striped = load("digits"), load("digits_stripes")
    starts = set()
    for plain, item in zip(digits.test[:20], striped.test):
        image, digit = (np.asarray(i.read().convert("L").resize((64, 64), 2)).astype(int) for i in (item, plain))
        assert image.shape == (64, 64) and item.label == plain.label
        covered = image > digit
        assert 0.25 < covered.mean() < 0.5 and np.array_equal(image[~covered], digit[~covered])
        assert len(np.unique(image[covered])) == 1
        starts.add(int(covered[0].argmax()))
    assert len(starts) > 3
    again = load("digits_stripes")
    assert all(np.array_equal(a.read(), b.read()) for a, b in zip(striped.train_x[:20], again.train_x))
