"""Small helpers under the family's names."""

from collections.abc import Collection

from .errors import ConfigError
from .registry import unknown_name_message


def check_availability(requested: str, available: Collection[str]) -> None:
    """Raise `ConfigError`, naming the nearest, if `requested` is not one of `available`."""
    if requested not in available:
        raise ConfigError(unknown_name_message("name", requested, available))


def tolist_if_not(x: object) -> list:
    """`x` itself if it is a list, else a list with `x` in it."""
    return x if isinstance(x, list) else [x]
