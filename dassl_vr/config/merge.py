"""Merging YAML files and KEY VALUE pairs into a configuration; all problems of a source are reported at once."""

import ast
import copy
import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import yaml
from yacs.config import CfgNode as CN

from ..utils.errors import ConfigError
from ..utils.registry import nearest
from ..utils.text import shorten
from .ranges import is_finite

LARGEST_FILE = 10**6  # bytes
MOST_ENTRIES = 10**5  # values of a file
LONGEST_VALUE = 10**4  # characters of a value on the command line that is read as a literal


def read_yaml(path: str | os.PathLike) -> dict:
    """The mapping in a YAML file, read without running anything.

    Raises:
        ConfigError: the file is no `.yaml`/`.yml`, does not exist, or holds something else than a mapping.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"config file {path}: only .yaml and .yml files are read")
    try:
        if not path.is_file():
            raise ConfigError(f"config file {path}: {'not a regular file' if path.exists() else 'no such file'}")
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"config file {path}: more than {LARGEST_FILE:,} bytes; no configuration is that long")
        content = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path}: not valid YAML ({' '.join(str(error).split())})") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # `2024-99-99`, `!!bool x`, [[[[...
        raise ConfigError(f"config file {path}: not valid YAML ({type(error).__name__}: {shorten(error)})") from error
    if _is_huge(content):
        raise ConfigError(f"config file {path}: its aliases make more than {MOST_ENTRIES:,} values; write out what is meant")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path}: expected KEY: value lines, found a {type(content).__name__}")
    return copy.deepcopy(content)


@functools.lru_cache(maxsize=256)
def _parsed(text):
    """A table of many runs reads the same few files for each of them."""
    return yaml.load(text, Loader=_UniqueKeyLoader)


def _is_huge(content):
    """Whether it is endless, or far too large, once every alias is expanded."""
    pending, seen = [content], 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > MOST_ENTRIES:
            return True
        pending += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
    return False


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is given twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def merge_mapping(cfg: CN, mapping: dict, source: str) -> None:
    """Merge a nested mapping into `cfg` in place.

    Values are converted where nothing is lost: an int where a float is due, `1e-3` (a string to YAML), a list where a tuple is.

    Args:
        source: what the mapping is, for messages (a file name, "command line", ...).

    Raises:
        ConfigError: unknown keys (each with the nearest real one) or values of the wrong type, all in one line.
            Nothing is merged then.
    """
    problems, updates = [], []
    _collect(cfg, mapping, "", problems, updates)
    if problems:
        raise ConfigError(f"{source}: " + "; ".join(problems))
    for node, key, value in updates:
        node[key] = value


def merge_list(cfg: CN, pairs: Sequence, source: str = "command line") -> None:
    """Merge a flat list `[KEY, value, KEY, value, ...]`, the tail of the family's command lines, into `cfg` in place.

    Raises:
        ConfigError: as `merge_mapping`; a key without a value, or a flag among them.
    """
    flags = [str(word) for word in pairs[::2] if str(word).startswith("--")]
    if flags:
        raise ConfigError(f"{source}: '{flags[0]}' is among the KEY VALUE pairs; flags go before the first KEY")
    if len(pairs) % 2:
        raise ConfigError(f"{source}: expected KEY VALUE pairs, but '{pairs[-1]}' has no value")
    mapping = {}
    for dotted, text in zip(pairs[::2], pairs[1::2], strict=True):
        node = mapping
        *parents, leaf = str(dotted).split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{source}: '{dotted}' and one of its parents are both given a value")
        node[leaf] = text
    merge_mapping(cfg, mapping, source)


def to_yaml(cfg: CN) -> str:
    """`cfg` as YAML that `read_yaml` and plain yacs read back."""
    return yaml.safe_dump(_plain(cfg), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _literal(text):
    if len(text) > LONGEST_VALUE:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its escapes
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _collect(node, mapping, prefix, problems, updates):
    for key, value in mapping.items():
        dotted = f"{prefix}{key}"
        if key not in node:
            hint = _nearest_key(node, prefix, str(key))
            # a section of a trainer, or a key that a plug-in's trainer has where ours of the same name has not
            declarable = isinstance(value, dict) if prefix == "TRAINER." else prefix.startswith("TRAINER.") and hint is None
            remedy = "; a --plugin file can declare it in `extend_cfg(cfg)`" if declarable else ""
            problems.append(f"unknown key '{shorten(dotted)}'" + (f" (did you mean '{hint}'?)" if hint else "") + remedy)
        elif isinstance(node[key], CN):
            if isinstance(value, dict):
                _collect(node[key], value, f"{dotted}.", problems, updates)
            else:
                problems.append(f"'{dotted}' is a group of keys, not a value (it holds {', '.join(node[key]) or 'none'})")
        else:
            try:
                updates.append((node, key, _convert(value, node[key])))
            except TypeError:
                expected, got = _type_name(node[key]), shorten(repr(value) if isinstance(value, str) else value)
                problems.append(f"'{dotted}' takes {expected} such as {_example(node[key])}, got {got}")
            except OverflowError:
                problems.append(f"'{dotted}' is {shorten(value)}; no number of a run is beyond 64 bits")


def _nearest_key(node, prefix, key):
    hint = nearest(key, list(node))
    return f"{prefix}{hint}" if hint else None


def _convert(value, default):
    """`value` as the type of `default`, or TypeError; OverflowError for an integer beyond 64 bits."""
    if isinstance(value, str) and not isinstance(default, str):
        value = _literal(value)  # `(224, 224)` and `1e-3` are texts to YAML
    if any(isinstance(entry, int) and not is_finite(entry) for entry in (value if isinstance(value, (list, tuple)) else (value,))):
        raise OverflowError
    if isinstance(default, bool) or isinstance(value, bool):
        if isinstance(default, bool) and isinstance(value, bool):
            return value
        raise TypeError
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(default)(value)
    if isinstance(default, str) and isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, type(default)):
        return value
    raise TypeError


def _type_name(default):
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(default), "a list")


def _example(default):
    return repr(default) if default not in ("", (), []) else {str: "'text'"}.get(type(default), "(a, b)")
