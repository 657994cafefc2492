"""Measures of a model's output against the truth."""

from .accuracy import compute_accuracy
from .evaluator import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator

__all__ = ["EVALUATOR_REGISTRY", "Classification", "EvaluatorBase", "build_evaluator", "compute_accuracy"]
