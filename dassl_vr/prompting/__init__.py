"""Prompts of tokens, for text towers and vision transformers, and low-rank updates, as plain `torch.nn` modules.

They enter a backbone through hooks on its public modules, as embeddings or in place of weights; no backbone knows of them. Nothing
here knows the engine or its configuration; wrong arguments raise `ValueError`.
"""

from .adapted import AdaptedBackbone, learned_inside
from .lora import PROJECTIONS, TARGETS, LowRankUpdates, replaced_modules, replaced_weights
from .multimodal import AveragedTokens, IndependentClassifier, LowRankClassifier, MultimodalClassifier
from .templates import ENSEMBLE, SINGLE, TEMPLATE_SETS, class_prompts, fill_in, template_set, varied_templates
from .text import ConditionalClassifier, ContextPrompts, FixedClassifier, Sentences, TextPromptedClassifier
from .tokens import VisualTokens, inserted_tokens, replaced_tokens

__all__ = [
    "ENSEMBLE",
    "PROJECTIONS",
    "SINGLE",
    "TARGETS",
    "TEMPLATE_SETS",
    "AdaptedBackbone",
    "AveragedTokens",
    "ConditionalClassifier",
    "ContextPrompts",
    "FixedClassifier",
    "IndependentClassifier",
    "LowRankClassifier",
    "LowRankUpdates",
    "MultimodalClassifier",
    "Sentences",
    "TextPromptedClassifier",
    "VisualTokens",
    "class_prompts",
    "fill_in",
    "inserted_tokens",
    "learned_inside",
    "replaced_modules",
    "replaced_tokens",
    "replaced_weights",
    "template_set",
    "varied_templates",
]
