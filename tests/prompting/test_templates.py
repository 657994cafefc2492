"""Sentences about the classes."""

import pytest

from dassl_vr.prompting import class_prompts, template_set


@pytest.mark.parametrize("name", ["ensemble", "imagenet", ""])
def test_a_set_of_many_leaves_a_class_the_sentence_of_its_data_set(name):
    assert class_prompts(name, "a photo of the digit {}.", ["0", "big_dog"]) == [
        "a photo of the digit 0.",
        "a photo of the digit big dog.",
    ]


def test_a_set_of_one_sentence_comes_before_it():
    (template,) = template_set("ar", "a photo of the digit {}.")
    assert class_prompts("ar", "a photo of the digit {}.", ["cat"]) == [template.format("cat")] != ["a photo of the digit cat."]
