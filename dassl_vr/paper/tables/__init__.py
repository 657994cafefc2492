"""One file per table of the paper; every file registers what it defines."""

from ...utils.modules import modules_in


def load_tables() -> None:
    """Import every table, so that the registry knows it."""
    modules_in(__name__, __path__)
