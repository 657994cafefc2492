"""What the command lines offer to choose from. Only the standard library is imported, so that `--help` comes at once."""

from pathlib import Path

from . import configs  # a folder beside the package in a checkout, one inside of it in a wheel

SHIPPED_CONFIGS = Path(configs.__file__).parent
TRAINERS = tuple(sorted((folder.name for folder in (SHIPPED_CONFIGS / "trainers").iterdir() if folder.is_dir()), key=str.lower))
LISTS = ("trainers", "datasets", "backbones", "recipes", "mappings", "inputs")

# Protocols of evaluation
FULL, FEW_SHOT, BASE_TO_NEW, CROSS_DATASET = "full", "few-shot", "base-to-new", "cross-dataset"
EXTERNAL_TEST = "external-test"  # other images of the same classes, all of them
CLIP_16SHOT = "clip-16shot"
PROTOCOLS = {
    FULL: "train and test on all classes, all training images",
    FEW_SHOT: "train on a few images per class, test on all test images",
    BASE_TO_NEW: "train on the first half of the classes; test on it and, from class names alone, on the other half",
    CROSS_DATASET: "train on DATASET; test on it and, from class names alone, on each of --targets",
    CLIP_16SHOT: "16 images per class, three seeds, each recipe's epochs; beside the published numbers",
}

TABLE_FORMATS = ("plain", "github", "latex", "csv")
REPORT_FORMATS = (*TABLE_FORMATS, "html")  # a report alone is a page: nothing but it goes to the standard output

# Forms in which a trained model is handed on
BUNDLE, ONNX, TORCH = "bundle", "onnx", "torch"
EXPORT_FORMATS = (BUNDLE, ONNX, TORCH)

SMALL_MODELS = ("vit", "clip")  # of `backbones.tiny`

TSNE_SAMPLES = 5000  # training images, as in the SMM paper
