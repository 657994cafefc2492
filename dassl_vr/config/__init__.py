"""yacs configuration with the keys, defaults and merge order of the Dassl family."""

from .defaults import add_defaults, clean_cfg, get_cfg_default
from .merge import merge_list, merge_mapping, read_yaml, to_yaml
from .validate import changed, validate_cfg

__all__ = [
    "add_defaults",
    "changed",
    "clean_cfg",
    "get_cfg_default",
    "merge_list",
    "merge_mapping",
    "read_yaml",
    "to_yaml",
    "validate_cfg",
]
