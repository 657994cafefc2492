"""Benchmarks are scripts: they are imported from their folder, for one test each."""

import importlib
import sys

import pytest


@pytest.fixture
def benchmark(repository, monkeypatch):
    """benchmark(name): the module of that name in benchmarks/."""
    folder = repository / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)
