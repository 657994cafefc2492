"""Command lines: what a command was called as, and complaints of one line."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence

from .errors import ConfigError
from .registry import nearest

# Set by the shell scripts; taken out of the environment, for the processes that a command starts are called otherwise
_SCRIPT = os.environ.pop("DASSL_VR_CALLED_AS", "")


def called_as() -> str:
    """`bash scripts/smm.sh`, `python train.py`, `dassl-vr-train` or `python -m dassl_vr.report`: how this command was called."""
    return " ".join(_called_as())


def command_line() -> str:
    """The command line of this process, quoted for a shell."""
    return shlex.join([*_called_as(whole=True), *sys.argv[1:]])


def _called_as(whole=False):
    if _SCRIPT:
        return ["bash", _SCRIPT]
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    python = os.path.basename(sys.executable)
    if spec is not None:
        return [python, "-m", spec.name.removesuffix(".__main__")]
    if not sys.argv[0].endswith(".py"):
        return [os.path.basename(sys.argv[0])]
    return [python, sys.argv[0] if whole else os.path.basename(sys.argv[0])]


class OneLineParser(argparse.ArgumentParser):
    """A parser that names the command as it was called, and whose complaints are `ConfigError`s instead of the whole usage.

    `%(prog)s` in its texts is replaced by the command.
    """

    def __init__(self, **options) -> None:
        super().__init__(prog=called_as(), formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> argparse.Namespace:
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
            near = nearest(flag, [name for action in self._actions for name in action.option_strings]) if flag else None
            self.error(f"unknown argument '{flag or unknown[0]}'" + (f"; did you mean {near}?" if near else ""))
        return known

    def error(self, message: str) -> None:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def add_plugin_flag(parser: argparse.ArgumentParser, what: str) -> None:
    """`--plugin PATH`, which may be repeated.

    Args:
        what: it may bring in.
    """
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="PATH", help=f"Python file (or folder) with {what}; may be repeated"
    )


def positive(text: str) -> int:
    """A whole number above 0, as the `type` of an argument."""
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got '{text}'")
    return int(text)
