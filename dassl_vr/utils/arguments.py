"""Command lines: what a command was called as, and complaints of one line."""

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import ConfigError
from .registry import nearest

# Set by the shell scripts; taken out of the environment, for the processes that a command starts are called otherwise
_SCRIPT = os.environ.pop("DASSL_VR_CALLED_AS", "")
# Set for a process that works in the place of the command that started it, and so is started again by that one
AGAIN = "DASSL_VR_AGAIN"
_AGAIN = os.environ.pop(AGAIN, "")
SCRIPT_VARIABLES = ("DATA", "OUTPUT", "TAG", "SEEDS", "SHOTS", "METHOD", "PYTHON")  # that the scripts read
CHECKOUT = Path(__file__).resolve().parents[2]


def called_as() -> str:
    """`bash scripts/smm.sh`, `python train.py`, `dassl-vr-train` or `python -m dassl_vr.report`: how this command was called."""
    return " ".join(_called_as())


def command_line() -> str:
    """The command line of this process, quoted for a shell."""
    words = sys.argv[1:]
    if _SCRIPT and words and f"{words[0]}.sh" == os.path.basename(_SCRIPT):
        words = words[1:]  # scripts/smm.sh calls `-m dassl_vr.cli.method smm ...`
    return shlex.join([*_called_as(whole=True), *words])


def same_command() -> str:
    """What starts the command of this process once more, from the same directory: with the variables that it reads, for a shell."""
    if _AGAIN:
        return _AGAIN
    variables = [f"{name}={shlex.quote(os.environ[name])}" for name in SCRIPT_VARIABLES if os.environ.get(name)]
    return " ".join([*variables, command_line()])


def stands_for_another() -> bool:
    """Whether this process works in the place of another command, which `same_command` then is."""
    return bool(_AGAIN)


def program(name: str) -> str:
    """What starts the command `predict`, `train`, ... of this package, quoted for a shell, from where the user stands.

    In a checkout `python predict.py`, with the interpreter's path where `python` is another one; in an installation
    `dassl-vr-predict`.
    """
    file, script = CHECKOUT / f"{name}.py", Path(sys.executable).with_name(f"dassl-vr-{name}")
    if file.is_file() and (CHECKOUT / "setup.py").is_file():
        return f"{interpreter()} {_from_here(file)}"
    return beside_python(script.name) or f"{interpreter()} -m dassl_vr.cli.{name}"


def interpreter() -> str:
    """`python` if that is this interpreter, else its path; quoted for a shell."""
    return beside_python("python") or _from_here(Path(sys.executable))


def beside_python(name: str) -> str:
    """A program of this interpreter's environment, quoted for a shell: its name where that finds it, else its path; "" if it is not
    there."""
    path = Path(sys.executable).with_name(name)
    if not path.is_file() or (name == "python" and not path.samefile(sys.executable)):
        return ""
    if shutil.which(name) == str(path):
        return name
    found = _from_here(path)
    return found if "/" in found else f"./{found}"


def _from_here(path):
    """The shorter of the relative and the absolute path, quoted."""
    return shlex.quote(min(os.path.relpath(path), str(path), key=len))


def _called_as(whole=False):
    if _SCRIPT:
        return ["bash", _SCRIPT if whole else f"scripts/{os.path.basename(_SCRIPT)}"]
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
