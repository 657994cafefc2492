"""What is said about a class in front of a text tower."""

# Seven templates whose average does better than any of them; published with CLIP (Radford et al. 2021, appendix on prompts)
ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def fill_in(template, classname):
    """`template` about one class, whose name may have underscores for spaces.

    Raises:
        ValueError: there is no `{}` in the template.
    """
    if "{}" not in template:
        raise ValueError(
            f"template '{template}' has no place for the class's name; expected a {{}} in it, as in 'a photo of a {{}}.'"
        )
    return template.replace("{}", classname.replace("_", " "))
