"""Runs: one as a library call, what those of a table are, what is left to do of them, and who does it."""

from .settings import build_cfg, settle
from .testing import evaluate
from .training import run

__all__ = ["build_cfg", "evaluate", "run", "settle"]
