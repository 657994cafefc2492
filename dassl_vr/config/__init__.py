"""yacs configuration with the keys, defaults and merge order of the Dassl family."""

from .defaults import add_defaults, clean_cfg, get_cfg_default
from .merge import merge_list, merge_mapping, read_yaml, to_yaml
from .paths import expand_paths, is_path, make_absolute
from .validate import changed, validate_cfg

__all__ = [
    "add_defaults",
    "changed",
    "clean_cfg",
    "expand_paths",
    "get_cfg_default",
    "is_path",
    "make_absolute",
    "merge_list",
    "merge_mapping",
    "read_yaml",
    "to_yaml",
    "validate_cfg",
]
