"""What is said about a class in front of a text tower."""

from collections.abc import Sequence

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


# Sets of one published template, which a text head takes as well
SINGLE = {"vp": "This is a photo of a {}", "ar": "This is a photo of {}."}
# How the sets of templates are called in TRAINER.<NAME>.TEMPLATES
TEMPLATE_SETS = ("ensemble", "imagenet", *SINGLE)


def template_set(name: str, of_data_set: str) -> tuple[str, ...]:
    """The templates of a set, (T,) strings.

    - `ensemble`: the data set's own and seven general ones;
    - `imagenet`: the 81 of label mapping on CLIP (ILM-VP, Chen et al. 2023, `tools/clip/templates.py`; BLM, Cai et al. 2024,
      `data/const.py`): a default, and the eighty that CLIP's authors published for ImageNet;
    - `vp`: the one of VP (Bahng et al. 2022, `main_clip.py`), without a full stop;
    - `ar`: the one of AR and of VP beside it (AttrVR, Cai et al. 2025, `datasets/__init__.py`).

    Args:
        of_data_set: the data set's template.
    """
    if name in SINGLE:
        return (SINGLE[name],)
    if name == "imagenet":
        return ("This is a photo of a {}.", *_for_imagenet())
    return (of_data_set, *ENSEMBLE)


def varied_templates() -> tuple[str, ...]:
    """The sixty of PromptSRC (Khattak et al., ICCV 2023, `trainers/imagenet_templates.py`): the plainest of the eighty that CLIP's
    authors published for ImageNet, then the first 59 of the others."""
    plain = "a photo of a {}."
    return (plain, *[template for template in _for_imagenet() if template != plain][:59])


def _for_imagenet():
    from open_clip import OPENAI_IMAGENET_TEMPLATES  # here: slow to import

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


def class_prompts(name: str, template: str, classnames: Sequence[str]) -> list[str]:
    """One sentence for each class, for methods that compare images with the classes themselves.

    Args:
        name: of a set (`TRAINER.<NAME>.TEMPLATES`), whose sentence is taken if it has one only.
        template: the data set's, for any other set.
    """
    chosen = template_set(name, template)[0] if name in SINGLE else template
    return [fill_in(chosen, classname) for classname in classnames]


def fill_in(template: str, classname: str) -> str:
    """`template` about one class, whose name may have underscores for spaces.

    Raises:
        ValueError: there is no `{}` in the template.
    """
    if "{}" not in template:
        raise ValueError(
            f"template '{template}' has no place for the class's name; expected a {{}} in it, as in 'a photo of a {{}}.'"
        )
    return template.replace("{}", classname.replace("_", " "))
