"""What families of methods share. A trainer in `trainers/` or in a plug-in is a subclass of one of these."""

from .feature_learning import FeatureClassifier, FeatureLearning, add_feature_keys
from .prompt_learning import PromptLearning
from .text_prompt_learning import TextPromptLearning
from .visual_reprogramming import VisualReprogramming, add_reprogramming_keys

__all__ = [
    "FeatureClassifier",
    "FeatureLearning",
    "PromptLearning",
    "TextPromptLearning",
    "VisualReprogramming",
    "add_feature_keys",
    "add_reprogramming_keys",
]
