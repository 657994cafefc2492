"""Using what was trained: predicting, bundles, exported graphs. No training engine is built here, and no data set is read."""

from .load import load_prompted
from .model import ImageClassifier, Predictions, PromptedModel

__all__ = ["ImageClassifier", "Predictions", "PromptedModel", "load_prompted"]
