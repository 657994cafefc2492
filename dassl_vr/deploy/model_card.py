"""The card of a bundle on the hub: README.md, made of its description alone."""

import json

from ..utils.text import markdown_cell

CARD_FILE = "README.md"
MOST_CLASSES = 100  # that are listed


def model_card(description: dict, place: object, licence: str = "") -> str:
    """Markdown with the YAML head that the hub reads.

    Args:
        description: as `read_description` gives it; its texts are escaped.
        place: the `HubPlace`, for the example.
        licence: word of the hub such as "mit"; "" = none stated.
    """
    head = {"library_name": "dassl_vr", "pipeline_tag": "image-classification", "tags": ["dassl_vr", "visual-reprogramming"]}
    if licence:
        head["license"] = licence
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())  # JSON is YAML: nothing in it can be markup
    names = description["classnames"]
    listed = ", ".join(markdown_cell(name) for name in names[:MOST_CLASSES])
    more = f" and {len(names) - MOST_CLASSES} more, all in config.json" if len(names) > MOST_CLASSES else ""
    stated = f"The author states: {markdown_cell(licence)}." if licence else "The author has stated none."
    rows = "\n".join(f"| {name} | {markdown_cell(value)} |" for name, value in _rows(description))
    return f"""---
{yaml}
---

# {markdown_cell(str(place).removeprefix("hub:"))}

An image classifier of {len(names)} classes: the pre-trained backbone {markdown_cell(description["backbone"]["name"])} and what
{markdown_cell(description["trainer"])} has trained around or in it. The repository holds what was trained (safetensors) and
config.json; it holds no code, and nothing in it is unpickled. The backbone's weights come from where they are published, and
their SHA-256 is compared.

```python
from dassl_vr import load_prompted

model = load_prompted("{place}")
print(model.predict("photo.jpg").top(3))
```

## Accuracy and protocol

| | |
|---|---|
{rows}

The test images have chosen nothing.

## Classes

{listed}{more}

## Licence

{stated} The licences of the backbone's weights and of the data apply besides.
"""


def _rows(description):
    """Yields (what, value) of what is known."""
    results = {key: value for key, value in description["results"].items() if value is not None}
    if "accuracy" in results:
        split = results.get("evaluated_split", "test")
        number = f" of {results['num_test']:,}" if "num_test" in results else ""
        yield "accuracy", f"{results['accuracy']:.2f} % on the{number} images of the split '{split}'"
    if "macro_f1" in results:
        yield "macro F1", f"{results['macro_f1']:.2f} %"
    if "evaluated_model" in results:
        yield "weights that were tested", results["evaluated_model"]
    if "dataset" in results:
        yield "data set", results["dataset"]
    shots = results.get("shots")
    if "num_train" in results:
        few = f", {shots} per class" if shots is not None and shots >= 1 else ""
        yield "training images", f"{results['num_train']:,}{few}"
    if results.get("subsample_classes", "all") != "all":
        yield "classes trained on", results["subsample_classes"]
    if "epochs" in results:
        yield "epochs", results["epochs"]
    if "seed" in results:
        yield "seed", results["seed"]
    if "split_sha256" in results:
        yield "SHA-256 of the split", results["split_sha256"]
    if "params_trainable" in results:
        yield "trained parameters", f"{results['params_trainable']:,}"
    yield "written by", f"dassl_vr {description.get('dassl_vr', '')}"
